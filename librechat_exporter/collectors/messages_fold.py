"""How messages are folded: each once, for all collectors that count what is in them."""

from collections.abc import Iterator, Mapping

from bson import ObjectId

from librechat_exporter.collectors import agents, messages, tools
from librechat_exporter.fold import Fold, Reading, Seen
from librechat_exporter.ledger import SEEN_KEPT
from librechat_exporter.librechat import LibreChat, Messages
from librechat_exporter.metric import Samples
from librechat_exporter.state import Cell


class MessagesFold(Fold):
    collection = "messages"
    version = 2
    metrics = (*messages.COUNTED, *tools.COUNTED, *agents.COUNTED)

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        librechat, now = reading.librechat, reading.now
        groups = librechat.messages(reading.match, (now - SEEN_KEPT, now), first=limit, tools=True)
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
        unknown = {group.model for group in groups if any(_pinned(cells.get(one), group) is None for one in group.ids)}
        labels, names = librechat.model_labels(unknown), librechat.agent_names(unknown)
        found: dict[ObjectId, Cell] = {}
        for group in groups:
            for document, link, tokens, skipped, calls in zip(
                group.ids, group.links, group.tokens, group.skipped, group.tool_calls, strict=True
            ):
                cell = cells.get(document)
                pinned = _pinned(cell, group)
                label, agent = pinned or (reading.guard.admit("model", labels[group.model]), names.get(group.model))
                prompt = None
                if not group.by_user:
                    known = cell.prompt if cell is not None else None
                    prompt = max(prompts.get(link, 0) if link is not None else 0, known or 0)
                samples = Samples(reading.guard)
                messages.add(samples, group, label, 1, tokens, prompt or 0, int(skipped))
                tools.add(samples, label, filter(None, (calls,)))
                agents.add(samples, group, agent, 1)
                found[document] = Cell(samples, (group.model, label), prompt, agent)
        return found, _seen(groups)

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        within = (reading.now - SEEN_KEPT, reading.now)
        groups = reading.librechat.messages(reading.match, within, tools=True)
        names = reading.librechat.agent_names(group.model for group in groups)
        samples = Samples(reading.guard)
        for group, label, prompt in with_prompts(reading.librechat, groups):
            messages.add(samples, group, label, len(group.users), sum(group.tokens), prompt, sum(group.skipped))
            tools.add(samples, label, filter(None, group.tool_calls))
            agents.add(samples, group, names.get(group.model), len(group.users))
        return samples, _seen(groups)


def _pinned(cell: Cell | None, group: Messages) -> tuple[str, str | None] | None:
    """The model's label and the agent's name that a document of this group was first counted under, if it was."""
    if cell is None or cell.model is None or cell.model[0] != group.model:
        return None
    return cell.model[1], cell.agent


def with_prompts(librechat: LibreChat, groups: list[Messages]) -> Iterator[tuple[Messages, str, float]]:
    """Each group with its label `model` and the tokens of the questions that it answers, once for each answer."""
    answered = {link for group in groups if not group.by_user for link in group.links if link is not None}
    prompts = librechat.prompts(groups, answered)
    labels = librechat.model_labels(group.model for group in groups)
    for group in groups:
        links = () if group.by_user else group.links
        yield group, labels[group.model], sum(prompts.get(link, 0) for link in links if link is not None)


def _seen(groups: list[Messages]) -> Seen:
    seen: Seen = {}
    for group in groups:
        for user, created in zip(group.users, group.created, strict=True):
            if user is not None and created > seen.get(user, 0):
                seen[user] = created
    return seen
