"""How messages are folded: each once, for all collectors that count what is in them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from bson import ObjectId

from librechat_exporter.collectors import agents, answers, messages, tools
from librechat_exporter.fold import Fold, Reading
from librechat_exporter.last_seen import SEEN_KEPT
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Samples
from librechat_exporter.rows import NO_QUESTION, Link, Messages
from librechat_exporter.state import Cell, Seen

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# LibreChat's clock, or ours, may be wrong: that changes nothing about how long somebody waited.
_AHEAD = timedelta(days=1)


SEEN = "messages"


class MessagesFold(Fold):
    name = collection = "messages"
    kinds = (SEEN,)
    version = 3
    metrics = (*messages.COUNTED, *tools.COUNTED, *agents.COUNTED, *answers.COUNTED)

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        librechat, within = reading.librechat, (_EPOCH, reading.now + _AHEAD)
        groups = librechat.messages(reading.match, within, first=limit, tools=True)
        # What an answer was first counted with stays: its question is not looked up again, and an agent that is given
        # another model moves no count.
        fresh = {
            link
            for group in groups
            if not group.by_user
            for document, link in zip(group.ids, group.links, strict=True)
            if link is not None and (document not in cells or cells[document].prompt is None)
        }
        questions = librechat.questions(groups, fresh, within)
        unknown = {group.model for group in groups if any(_pinned(cells.get(one), group) is None for one in group.ids)}
        labels, names = librechat.model_labels(unknown), librechat.agent_names(unknown)
        found: dict[ObjectId, Cell] = {}
        for group in groups:
            for document, link, tokens, skipped, calls, created in zip(
                group.ids, group.links, group.tokens, group.skipped, group.tool_calls, group.created, strict=True
            ):
                cell = cells.get(document)
                pinned = _pinned(cell, group)
                label, agent = pinned or (reading.guard.admit("model", labels[group.model]), names.get(group.model))
                samples = Samples(reading.guard)
                prompt = None
                if not group.by_user:
                    prompt, asked = questions.get(link, NO_QUESTION) if link is not None else NO_QUESTION
                    prompt = max(prompt, (cell.prompt if cell is not None else None) or 0)
                    done = {name for name, _ in cell.samples} if cell is not None else ()
                    answers.add(samples, label, (tokens,), (answers.waited(created, asked),), done)
                messages.add(samples, group, label, 1, tokens, prompt or 0, int(skipped))
                tools.add(samples, label, (calls,))
                agents.add(samples, group, agent, 1)
                found[document] = Cell(samples, (group.model, label), prompt, agent)
        return found, _seen(groups, reading.now)

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        within = (_EPOCH, reading.now + _AHEAD)
        groups = reading.librechat.messages(reading.match, within, tools=True)
        questions = reading.librechat.questions(groups, _answered(groups), within)
        labels = reading.librechat.model_labels(group.model for group in groups)
        names = reading.librechat.agent_names(group.model for group in groups)
        samples = Samples(reading.guard)
        for group in groups:
            label = labels[group.model]
            prompts = 0.0
            if not group.by_user:
                asked = [questions.get(link, NO_QUESTION) if link else NO_QUESTION for link in group.links]
                prompts = sum(tokens for tokens, _ in asked)
                waits = (answers.waited(created, at) for created, (_, at) in zip(group.created, asked, strict=True))
                answers.add(samples, label, group.tokens, waits)
            messages.add(samples, group, label, len(group.users), sum(group.tokens), prompts, sum(group.skipped))
            tools.add(samples, label, group.tool_calls)
            agents.add(samples, group, names.get(group.model), len(group.users))
        return samples, _seen(groups, reading.now)


def _answered(groups: list[Messages]) -> set[Link]:
    """The links of all answers."""
    return {link for group in groups if not group.by_user for link in group.links if link is not None}


def _pinned(cell: Cell | None, group: Messages) -> tuple[str, str | None] | None:
    """The model's label and the agent's name that a document of this group was first counted under, if it was."""
    if cell is None or cell.model is None or cell.model[0] != group.model:
        return None
    return cell.model[1], cell.agent


def with_prompts(librechat: LibreChat, groups: list[Messages]) -> Iterator[tuple[Messages, str, float]]:
    """Each group with its label `model` and the tokens of the questions that it answers, once for each answer."""
    questions = librechat.questions(groups, _answered(groups))
    labels = librechat.model_labels(group.model for group in groups)
    for group in groups:
        links = () if group.by_user else group.links
        prompts = (questions.get(link, NO_QUESTION)[0] for link in links if link is not None)
        yield group, labels[group.model], sum(prompts)


def _seen(groups: list[Messages], now: datetime) -> Seen:
    since, until = (now - SEEN_KEPT).timestamp(), now.timestamp()
    seen: dict[str, float] = {}
    for group in groups:
        for user, created in zip(group.users, group.created, strict=True):
            moment = abs(created)
            if user is not None and since < moment <= until and moment > seen.get(user, 0):
                seen[user] = moment
    return {SEEN: seen}
