"""All that is counted of messages and transactions by the hour: for the windows, and for the page's charts."""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeVar

from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.folds.transactions import CHAT_CONTEXTS, TRANSACTIONS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.fields import CREDIT_PARTS
from librechat_exporter.librechat.transactions import Billed
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import WINDOW, Metric
from librechat_exporter.metrics.samples import Samples

# A change of what is counted of a transaction.
SEQUENTIAL = "0.2.0: `sequential` is a chat context"
UNSTOPPED = "0.2.0: one that ended by its many tool calls is not stopped"
REASONED = "0.2.0: by all reasons of LibreChat, as it writes them"
# Upper bounds of the time that users wait for an answer, in seconds.
WAIT_BOUNDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
FAILED = "failed"
_WORTH_A_COUNTER = 2

_T = TypeVar("_T")

_hourly = partial(Metric, help="", type="gauge", kind="recent", chosen=("type", "reason", "result", "le"))

# No metric shows those whose names begin with `page`.
QUESTIONS = _hourly(name="page_questions", labels=(WINDOW,), toggles=("basic",))
ANSWERS = _hourly(
    name="librechat_window_answers_per_model",
    labels=("model", WINDOW),
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS,),
)
UNFINISHED = _hourly(
    name="librechat_window_unfinished_answers_per_model",
    labels=("model", WINDOW),
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS, UNSTOPPED),
)
REJECTED = _hourly(
    name="librechat_window_rejected_requests",
    labels=("reason", WINDOW),
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS, REASONED),
)
WAITS = _hourly(name="page_answer_seconds", labels=("model", "le", WINDOW), toggles=("answer",))
TOOL_CALLS = _hourly(name="page_tool_calls", labels=("tool_name", "result", WINDOW), toggles=("tool",))
_billed = partial(_hourly, toggles=("cost",))
TOKENS = _billed(name="librechat_window_tokens_per_model", labels=("model", "type", WINDOW), since=(SEQUENTIAL,))
CACHE_TOKENS = _billed(
    name="librechat_window_cache_tokens_per_model", labels=("model", "type", WINDOW), since=(SEQUENTIAL,)
)
BACKGROUND_TOKENS = _billed(
    name="librechat_window_background_tokens_per_model",
    labels=("model", "context", "type", WINDOW),
    since=(SEQUENTIAL,),
)
CREDITS = _billed(
    name="librechat_window_credits_per_model", labels=("model", "context", "type", WINDOW), parts=CREDIT_PARTS
)


def _add_messages(samples: Samples, group: MessageGroup) -> None:
    kind = group.kind
    for hour, count in _counted(group.hours):
        if kind.failed:
            samples.add(REJECTED, count, kind.reason or OTHER, hour)
        elif kind.by_user:
            samples.add(QUESTIONS, count, hour)
        else:
            samples.add(ANSWERS, count, group.model, hour)
            if kind.unfinished:
                samples.add(UNFINISHED, count, group.model, hour)


def _add_waits(samples: Samples, group: MessageGroup) -> None:
    waits = [
        (bisect.bisect_left(WAIT_BOUNDS, seconds), hour)
        for seconds, hour in zip(group.waits, group.hours, strict=False)
        if seconds is not None
    ]
    for (bound, hour), count in _counted(waits):
        samples.add(WAITS, count, group.model, f"{WAIT_BOUNDS[bound]:g}", hour)


def _add_tool_calls(samples: Samples, group: MessageGroup) -> None:
    of_messages = zip(group.calls, group.hours, strict=False)
    calls = [(call, hour) for of_message, hour in of_messages for call in of_message]
    for (call, hour), count in _counted(calls):
        samples.add(TOOL_CALLS, count, call.name, FAILED if call.failed else "ok", hour)


def _counted(things: Sequence[_T]) -> Iterable[tuple[_T, int]]:
    """Each with how often it is there. Of an open message there is mostly one at most, for which a Counter is slow."""
    if len(things) < _WORTH_A_COUNTER:
        return [(thing, 1) for thing in things]
    return Counter(things).items()


def _add_billed(samples: Samples, billed: Billed) -> None:
    if billed.hour is None or not billed.is_spent:
        return
    hour, token_type = str(billed.hour), billed.token_type
    tokens = billed.tokens + sum(billed.cache or ())
    if billed.context in CHAT_CONTEXTS:
        samples.add(TOKENS, tokens, billed.model, token_type, hour)
        for kind, cached in zip(("read", "write"), billed.cache or (), strict=False):
            samples.add(CACHE_TOKENS, cached, billed.model, kind, hour)
    else:
        samples.add(BACKGROUND_TOKENS, tokens, billed.model, billed.context, token_type, hour)
    samples.add(CREDITS, billed.charged, billed.model, billed.context, token_type, hour)


OF_MESSAGES = (
    Counting(MESSAGES, (QUESTIONS, ANSWERS, UNFINISHED, REJECTED), _add_messages),
    Counting(MESSAGES, (WAITS,), _add_waits),
    Counting(MESSAGES, (TOOL_CALLS,), _add_tool_calls),
)
OF_TRANSACTIONS = Counting(TRANSACTIONS, (TOKENS, CACHE_TOKENS, BACKGROUND_TOKENS, CREDITS), _add_billed)
