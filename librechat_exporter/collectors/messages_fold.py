"""How messages are folded: each once, for all collectors that count what is in them."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from librechat_exporter.collectors import agents, answers, messages, recent, tools, windows
from librechat_exporter.fields import UNKNOWN, Document
from librechat_exporter.ledger.cell import Cell, Pins
from librechat_exporter.ledger.fold import Fold, Found, Kind, Reading
from librechat_exporter.ledger.last_seen import SEEN_KEPT
from librechat_exporter.ledger.recent import Moment
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat import MESSAGE_ROW
from librechat_exporter.metric import Samples
from librechat_exporter.rows import NO_QUESTION, Link, Message, MessageKind, Model, Question

# LibreChat's clock, or ours, may be wrong: that changes nothing about how long somebody waited.
_AHEAD = timedelta(days=1)

SEEN = windows.SEEN


class MessagesFold(Fold):
    name = collection = "messages"
    row = MESSAGE_ROW
    metrics = (
        *messages.COUNTED,
        *tools.COUNTED,
        *agents.COUNTED,
        *answers.COUNTED,
        *windows.OF_MESSAGES,
    )
    mirrored = recent.MIRRORED

    def __init__(self, seen_kept: timedelta = SEEN_KEPT) -> None:
        """seen_kept: for how long a user counts as seen."""
        self._seen_kept = seen_kept
        self.kinds = (Kind(SEEN, str(seen_kept)),)

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        found = [Message(row, latest) for row in rows]
        for one in found:
            if one.kind.by_user and one.link is not None:
                known = reading.questions.get(one.link, NO_QUESTION)
                reading.questions.put(one.link, max((one.tokens, one.created), known, key=lambda asked: asked[0]))
        # What an answer was first counted with stays: its question is not looked up again, and an agent that is given
        # another model moves no count.
        fresh = {
            one.link
            for one, cell in zip(found, cells, strict=True)
            if not one.kind.by_user and one.link is not None and _misses_question(cell)
        }
        missing = fresh - reading.questions.keys()
        questions = {link: reading.questions[link] for link in fresh & reading.questions.keys()}
        questions |= {k: q for k, q in reading.librechat.questions(missing).items() if k in missing} if missing else {}
        named = _named(
            reading,
            (
                one.kind.model
                for one, cell in zip(found, cells, strict=True)
                if not _is_pinned(cell, one.kind) or _misses_agent(cell, one.kind)
            ),
        )
        counted = [self._found(reading, one, cell, named, questions) for one, cell in zip(found, cells, strict=True)]
        users = ((one.user, abs(one.created)) for one in found if one.user is not None)
        return counted, self._seen(reading, users)

    @staticmethod
    def _found(
        reading: Reading,
        one: Message,
        cell: Cell | None,
        named: dict[Model, tuple[str, str | None]],
        questions: dict[Link, Question],
    ) -> Found:
        kind, samples = one.kind, reading.samples()
        if cell is not None and cell.pins is not None and _is_pinned(cell, kind):
            label, agent = cell.pins.label, cell.pins.agent or named.get(kind.model, ("", None))[1]
        else:
            label, agent = named[kind.model]
            if kind.failed or not kind.by_user:  # else no metric has it
                label = reading.guard.admit("model", label)
        prompt, is_asked = None, True
        if not kind.by_user:
            before = _prompt(cell)
            asked = questions.get(one.link, NO_QUESTION) if one.link is not None else NO_QUESTION
            is_asked = one.link is None or before is not None or one.link in questions
            if is_asked:
                prompt = asked[0] if before is None else before
            done = cell.names() if cell is not None else ()
            answers.add(samples, label, (one.tokens,), (answers.waited(one.created, asked[1]),), done)
        messages.add(samples, kind, label, 1, one.tokens, prompt or 0, int(one.skipped))
        tools.add(samples, label, (one.calls,))
        agents.add(samples, kind, agent, 1)
        hour = reading.hour(abs(one.created))
        if hour is not None:
            windows.add_messages(samples, kind, label, hour, 1)
        moment = Moment(abs(one.created), one.user, one.conversation, bool(one.calls))
        is_final = is_asked and abs(one.created) <= reading.now.timestamp()
        return Found(samples, Pins(kind.model, label, prompt, agent), is_final, one.unsettled, moment)

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        groups = reading.librechat.messages(match, tools=True, created=True, latest=latest)
        questions = reading.librechat.questions_of(groups)
        named = _named(reading, (group.kind.model for group in groups))
        samples = reading.samples()
        for group in groups:
            label, agent = named[group.kind.model]
            prompts = 0.0
            if not group.kind.by_user:
                asked = [questions.get(link, NO_QUESTION) if link else NO_QUESTION for link in group.links]
                prompts = sum(tokens for tokens, _ in asked)
                waits = (answers.waited(created, at) for created, (_, at) in zip(group.created, asked, strict=True))
                answers.add(samples, label, group.tokens, waits)
            count = len(group.users)
            messages.add(samples, group.kind, label, count, sum(group.tokens), prompts, group.skipped)
            tools.add(samples, label, group.tool_calls)
            agents.add(samples, group.kind, agent, count)
            for hour, number in windows.hours(reading, group.created).items():
                windows.add_messages(samples, group.kind, label, hour, number)
        users = (
            (user, abs(created))
            for group in groups
            for user, created in zip(group.users, group.created, strict=True)
            if user is not None
        )
        return samples, self._seen(reading, users)

    def _seen(self, reading: Reading, users: Iterable[tuple[str, float]]) -> Seen:
        """When each user was last seen."""
        since, until = (reading.now - self._seen_kept).timestamp(), reading.now.timestamp()
        seen: dict[str, float] = {}
        if reading.wants(SEEN):
            for user, moment in users:
                if since < moment <= until and moment > seen.get(user, 0):
                    seen[user] = moment
        return {SEEN: seen}


def _named(reading: Reading, models: Iterable[Model]) -> dict[Model, tuple[str, str | None]]:
    """The label of each model, and the name of an agent among them."""
    distinct = set(models)
    named: dict[Model, tuple[str, str | None]] = {
        model: (model or UNKNOWN, None) for model in distinct if not isinstance(model, tuple)
    }
    of_agents = reading.librechat.agents(model[0] for model in distinct if isinstance(model, tuple))
    return named | {(agent,): told for agent, told in of_agents.items()}


def _prompt(cell: Cell | None) -> float | None:
    return cell.pins.prompt if cell is not None and cell.pins is not None else None


def _misses_question(cell: Cell | None) -> bool:
    """An answer's question is to be looked up: it stays what it was, but a metric may be new."""
    return cell is None or _prompt(cell) is None or answers.SECONDS.name not in cell.names()


def _misses_agent(cell: Cell | None, kind: MessageKind) -> bool:
    """The message was counted when agents' names were not."""
    is_agents = isinstance(kind.model, tuple)
    return is_agents and cell is not None and cell.pins is not None and cell.pins.agent is None


def _is_pinned(cell: Cell | None, kind: MessageKind) -> bool:
    """The message was counted before, and as one of the same model."""
    return cell is not None and cell.pins is not None and cell.pins.model == kind.model
