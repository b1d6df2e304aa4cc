"""Messages, failures and tokens, over all time and per model."""

from collections.abc import Iterator, Mapping

from bson import ObjectId

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.fold import Fold, Reading, Seen
from librechat_exporter.ledger import SEEN_KEPT
from librechat_exporter.librechat import LibreChat, Messages
from librechat_exporter.metric import Metric, Samples
from librechat_exporter.state import Cell

MESSAGES = Metric(
    "librechat_messages_total", "Messages sent, by users and by models", "counter", "happened", groups=("basic",)
)
ERRORS = Metric("librechat_error_messages_total", "Messages that failed", "counter", "happened", groups=("basic",))
INPUT_TOKENS = Metric(
    "librechat_input_tokens_total", "Tokens of users' messages", "counter", "happened", groups=("token",)
)
OUTPUT_TOKENS = Metric("librechat_output_tokens_total", "Tokens of answers", "counter", "happened", groups=("token",))
MESSAGES_PER_MODEL = Metric(
    "librechat_messages_per_model_total", "Answers", "counter", "happened", ("model",), ("model",)
)
ERRORS_PER_MODEL = Metric(
    "librechat_errors_per_model_total", "Messages that failed", "counter", "happened", ("model",), ("model",)
)
INPUT_TOKENS_PER_MODEL = Metric(
    "librechat_input_tokens_per_model_total",
    "Tokens of the users' messages that were answered, once for each answer",
    "counter",
    "happened",
    ("model",),
    ("model", "token"),
)
OUTPUT_TOKENS_PER_MODEL = Metric(
    "librechat_output_tokens_per_model_total",
    "Tokens of answers",
    "counter",
    "happened",
    ("model",),
    ("model", "token"),
)
SKIPPED_TOKEN_COUNTS = Metric(
    "librechat_exporter_skipped_token_counts_total",
    "Messages whose tokenCount is not a number from 0 to 2147483647 and was taken as 0",
    "counter",
    "self",
    groups=("token",),
)


class MessagesFold(Fold):
    collection = "messages"
    version = 1
    metrics = (
        MESSAGES,
        ERRORS,
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        MESSAGES_PER_MODEL,
        ERRORS_PER_MODEL,
        INPUT_TOKENS_PER_MODEL,
        OUTPUT_TOKENS_PER_MODEL,
        SKIPPED_TOKEN_COUNTS,
    )

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        librechat, now = reading.librechat, reading.now
        groups = librechat.messages(reading.match, (now - SEEN_KEPT, now), first=limit)
        # What an answer was first counted with stays: its question is not looked up again, and an agent that is given
        # another model moves no count.
        fresh = {
            link
            for group in groups
            if not group.by_user
            for document, link in zip(group.ids, group.links, strict=True)
            if link is not None and (document not in cells or cells[document].prompt is None)
        }
        prompts = librechat.prompts(groups, fresh)
        labels = librechat.model_labels(
            group.model for group in groups if any(_pinned(cells.get(one), group) is None for one in group.ids)
        )
        found: dict[ObjectId, Cell] = {}
        for group in groups:
            for document, link, tokens, skipped in zip(
                group.ids, group.links, group.tokens, group.skipped, strict=True
            ):
                cell = cells.get(document)
                label = _pinned(cell, group) or reading.guard.admit("model", labels[group.model])
                prompt = None
                if not group.by_user:
                    known = cell.prompt if cell is not None else None
                    prompt = max(prompts.get(link, 0) if link is not None else 0, known or 0)
                samples = Samples(reading.guard)
                _add(samples, group, label, 1, tokens, prompt or 0, int(skipped))
                found[document] = Cell(samples, (group.model, label), prompt)
        return found, _seen(groups)

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        groups = reading.librechat.messages(reading.match, (reading.now - SEEN_KEPT, reading.now))
        samples = Samples(reading.guard)
        for group, label, prompt in with_prompts(reading.librechat, groups):
            _add(samples, group, label, len(group.users), sum(group.tokens), prompt, sum(group.skipped))
        return samples, _seen(groups)


def _pinned(cell: Cell | None, group: Messages) -> str | None:
    """The label that a document of this group was first counted under, if it was."""
    return cell.model[1] if cell is not None and cell.model is not None and cell.model[0] == group.model else None


def with_prompts(librechat: LibreChat, groups: list[Messages]) -> Iterator[tuple[Messages, str, float]]:
    """Each group with its label `model` and the tokens of the questions that it answers, once for each answer."""
    answered = {link for group in groups if not group.by_user for link in group.links if link is not None}
    prompts = librechat.prompts(groups, answered)
    labels = librechat.model_labels(group.model for group in groups)
    for group in groups:
        links = () if group.by_user else group.links
        yield group, labels[group.model], sum(prompts.get(link, 0) for link in links if link is not None)


def _add(samples: Samples, group: Messages, model: str, count: int, tokens: float, prompt: float, skipped: int) -> None:
    """Counts so many messages of a group: the sums of their own tokens, of their questions', and of unusable counts."""
    failed = count if group.failed else 0
    samples.add(MESSAGES, count)
    samples.add(ERRORS, failed)
    samples.add(SKIPPED_TOKEN_COUNTS, skipped)
    if group.by_user:
        samples.add(INPUT_TOKENS, tokens)
        if failed:
            samples.add(ERRORS_PER_MODEL, failed, model)
    else:
        samples.add(OUTPUT_TOKENS, tokens)
        samples.add(MESSAGES_PER_MODEL, count, model)
        samples.add(ERRORS_PER_MODEL, failed, model)
        samples.add(INPUT_TOKENS_PER_MODEL, prompt, model)
        samples.add(OUTPUT_TOKENS_PER_MODEL, tokens, model)


def _seen(groups: list[Messages]) -> Seen:
    seen: Seen = {}
    for group in groups:
        for user, created in zip(group.users, group.created, strict=True):
            if user is not None and created > seen.get(user, 0):
                seen[user] = created
    return seen


MESSAGES_FOLD = MessagesFold()


def collector() -> LedgerCollector:
    return LedgerCollector("messages", MESSAGES_FOLD)
