"""Models and agents: an agent's messages name the agent, whose document names the model."""

from collections.abc import Iterable

from librechat_exporter.librechat.database import LibreChat, allowed
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import (
    AGENT,
    AGENT_ID_FIELD,
    ANSWER,
    ANSWER_FIELD,
    CONVERSATION_FIELD,
    IS_USERS,
    MAY_BE_AGENTS,
    MODEL,
    NOT_SUBAGENTS,
    THREADS_AGENT,
    UNKNOWN,
    USER,
)
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

# A model's name, an agent's id in a tuple, or None.
Model = str | tuple[str] | None
# An answer by the id of its user and its messageId.
Answer = tuple[str | None, str]
_LOOK_UP_AT_ONCE = 500
_ANSWERS_AT_ONCE = 5000


def model_of(value: str | list[str] | None) -> Model:
    """The server's value of MODEL, cut to the length of a label."""
    if isinstance(value, list):
        return (value[0],) if value[0] is not None else None  # an id that is absurdly long
    return value[:MAX_LABEL_LENGTH] if value is not None else None


def read_agents(librechat: LibreChat, models: Iterable[Model]) -> dict[str, tuple[str, str]]:
    """The model and the name that the document of each agent among these has now, by the agent's id."""
    wanted = sorted({model[0] for model in models if isinstance(model, tuple)})
    found = dict.fromkeys(wanted, (UNKNOWN, UNKNOWN))
    for start in range(0, len(wanted), _LOOK_UP_AT_ONCE):
        match = {AGENT_ID_FIELD: {"$in": wanted[start : start + _LOOK_UP_AT_ONCE]}}
        for row in _read(librechat, "agents", match, AGENT):
            if isinstance(row.get(AGENT_ID_FIELD), str):
                model, name = ((row[field] or UNKNOWN)[:MAX_LABEL_LENGTH] for field in ("model", "name"))
                found[row[AGENT_ID_FIELD]] = model, name
    return found


def read_subagents(librechat: LibreChat, threads: Iterable[str]) -> dict[str, str]:
    """The name of the agent of each of these sub-agents' threads, by the thread's conversationId, of those that are
    stored; of all if conversations may not be read."""
    wanted = sorted(set(threads))
    agents: dict[str, Model] = {}
    for start in range(0, len(wanted), _LOOK_UP_AT_ONCE):
        some = wanted[start : start + _LOOK_UP_AT_ONCE]
        found = _rows(librechat, "conversations", {CONVERSATION_FIELD: {"$in": some}}, THREADS_AGENT)
        agents |= dict.fromkeys(some) if found is None else {}
        for row in found or ():
            if isinstance(row[CONVERSATION_FIELD], str):
                agents[row[CONVERSATION_FIELD]] = (row["agent"],) if row["agent"] is not None else None
    named = read_agents(librechat, agents.values())
    return {thread: named[agent[0]][1] if isinstance(agent, tuple) else UNKNOWN for thread, agent in agents.items()}


def read_answering(librechat: LibreChat, answers: Iterable[Answer]) -> dict[Answer, str | None]:
    """Of those of these answers that are stored and have a model, the name that the agent has now; None if they are no
    agent's."""
    wanted = set(answers)
    ids = {message for _, message in wanted}
    return {answer: name for answer, name in _read_answers(librechat, ids, {}).items() if answer in wanted}


def read_agents_answers(librechat: LibreChat, ids: Iterable[str]) -> dict[Answer, str]:
    """Those of the answers with these messageIds that are agents', by the name that the agent has now."""
    named = _read_answers(librechat, ids, MAY_BE_AGENTS)
    return {answer: name for answer, name in named.items() if name is not None}


def _read_answers(librechat: LibreChat, ids: Iterable[str], match: Document) -> dict[Answer, str | None]:
    wanted = sorted(ids)
    row = {"user": USER, "answer": ANSWER, "model": MODEL, "users": IS_USERS}
    models: dict[Answer, Model] = {}
    for start in range(0, len(wanted), _ANSWERS_AT_ONCE):
        some = {ANSWER_FIELD: {"$in": wanted[start : start + _ANSWERS_AT_ONCE]}}
        for found in _read(librechat, "messages", some | match | NOT_SUBAGENTS, row):
            answer = (str(found["user"]) if found["user"] else None, found["answer"])
            model = model_of(found["model"])
            if model is not None and not found["users"] and not isinstance(models.get(answer), tuple):
                models[answer] = model
    labels = read_labels(librechat, models.values())
    return {answer: labels[model][1] for answer, model in models.items()}


def _read(librechat: LibreChat, collection: str, match: Document, row: Document) -> list[Document]:
    """Documents that may not be read are not there: agents are unknown, and their messages are counted all the same."""
    return _rows(librechat, collection, match, row) or []


def _rows(librechat: LibreChat, collection: str, match: Document, row: Document) -> list[Document] | None:
    """None if they may not be read."""
    return allowed(lambda: librechat.aggregate(collection, match, {"$project": row}))


def read_labels(librechat: LibreChat, models: Iterable[Model]) -> dict[Model, tuple[str, str | None]]:
    """The label `model` of each, which of an agent is the model that its document names now, and an agent's name."""
    distinct = set(models)
    labels: dict[Model, tuple[str, str | None]] = {
        model: (model or UNKNOWN, None) for model in distinct if not isinstance(model, tuple)
    }
    return labels | {(agent,): told for agent, told in read_agents(librechat, distinct).items()}
