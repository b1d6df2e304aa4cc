"""Messages, failures and tokens, over all time and per model."""

from collections.abc import Mapping
from datetime import datetime

from bson import ObjectId

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.ledger import SEEN_KEPT, Fold, Seen
from librechat_exporter.librechat import (
    FAILED,
    IS_USERS,
    LINK,
    MODEL,
    TOKENS,
    TOKENS_UNUSABLE,
    USER,
    Document,
    LibreChat,
    is_between,
    when,
)
from librechat_exporter.metric import LabelGuard, Metric, Samples
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
    "librechat_output_tokens_per_model_total", "Tokens of answers", "counter", "happened", ("model",), ("model", "token")
)
SKIPPED_TOKEN_COUNTS = Metric(
    "librechat_exporter_skipped_token_counts_total",
    "Messages whose tokenCount is not a number from 0 to 2147483647 and was taken as 0",
    "counter",
    "self",
    groups=("token",),
)

# What a message counts as. Documents that agree in the first three are counted together.
FACTS = {"users": IS_USERS, "failed": FAILED, "model": MODEL}
AMOUNTS = {"tokens": TOKENS, "skipped": TOKENS_UNUSABLE}


def facts(librechat: LibreChat, match: Document) -> list[Document]:
    """Rows with each combination of FACTS among the matching messages, their count, and the sums of AMOUNTS."""
    sums = {name: {"$sum": amount} for name, amount in AMOUNTS.items()}
    rows = librechat.aggregate("messages", match, {"$group": {"_id": FACTS, "count": {"$sum": 1}} | sums})
    return [row.pop("_id") | row for row in rows]


def prompt_tokens_by_model(librechat: LibreChat, match: Document) -> dict[str | None, float]:
    """By MODEL, the tokens of the questions that the matching answers answer, each once per answer.

    A question is nearly always among the matching messages too, and found by grouping both under their link, which
    costs the server a third of a $lookup; the others are looked up.
    """
    rows = librechat.aggregate(
        "messages",
        match,
        {
            "$group": {
                "_id": LINK,
                "tokens": {"$max": when(IS_USERS, TOKENS, None)},
                "answers": {"$push": when(IS_USERS, False, MODEL)},
            }
        },
        {"$match": {"_id.1": {"$ne": None}}},
        {"$unwind": "$answers"},
        {"$match": {"answers": {"$ne": False}}},
        {
            "$group": {
                "_id": {"model": "$answers", "unmatched": when({"$eq": ["$tokens", None]}, "$_id", None)},
                "count": {"$sum": 1},
                "tokens": {"$sum": "$tokens"},
            }
        },
    )
    by_model: dict[str | None, float] = {}
    unmatched = []
    for row in rows:
        model, link = row["_id"]["model"], row["_id"]["unmatched"]
        by_model[model] = by_model.get(model, 0) + row["tokens"]
        if link is not None:
            unmatched.append((model, (link[0], link[1]), row["count"]))
    found = librechat.prompt_tokens({link for _, link, _ in unmatched})
    for model, link, count in unmatched:
        by_model[model] += count * found.get(link, 0)
    return by_model


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
        self, librechat: LibreChat, match: Document, now: datetime, guard: LabelGuard, cells: Mapping[ObjectId, Cell]
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        rows = librechat.aggregate(
            "messages",
            match,
            {
                "$project": FACTS
                | AMOUNTS
                | {"link": LINK, "seen": when(is_between("$createdAt", now - SEEN_KEPT, now), "$createdAt", None), "user": USER}
            },
        )
        known = {row["_id"]: cells.get(row["_id"], Cell()) for row in rows}
        prompts = self._prompts(librechat, rows, known)
        # The first label that a document gets stays: an agent that is given another model moves no count.
        labels = librechat.model_labels(
            row["model"] for row in rows if (model := known[row["_id"]].model) is None or model[0] != row["model"]
        )
        found: dict[ObjectId, Cell] = {}
        seen: Seen = {}
        for row in rows:
            cell = known[row["_id"]]
            pinned = cell.model is not None and cell.model[0] == row["model"]
            label = cell.model[1] if cell.model is not None and pinned else labels[row["model"]]
            samples = Samples(guard)
            _add(samples, row, 1, label)
            prompt = None
            if not row["users"]:
                prompt = max(prompts.get(tuple(row["link"]), 0), cell.prompt or 0)
                samples.add(INPUT_TOKENS_PER_MODEL, prompt, label)
            found[row["_id"]] = Cell(samples, (row["model"], label), prompt)
            if row["seen"] is not None and row["user"] is not None:
                seen[row["user"]] = max(seen.get(row["user"], 0), row["seen"].timestamp())
        return found, seen

    @staticmethod
    def _prompts(
        librechat: LibreChat, rows: list[Document], known: Mapping[ObjectId, Cell]
    ) -> dict[tuple[str | None, ...], float]:
        """Tokens by link: of the open users' messages, and of older ones where an answer is folded for the first time."""
        prompts: dict[tuple[str | None, ...], float] = {}
        wanted = set()
        for row in rows:
            link = (row["link"][0], row["link"][1])
            if link[1] is None:
                continue
            if row["users"]:
                prompts[link] = max(prompts.get(link, 0), row["tokens"])
            elif known[row["_id"]].prompt is None:
                wanted.add(link)
        return prompts | librechat.prompt_tokens(wanted - prompts.keys())

    def fold_history(
        self, librechat: LibreChat, match: Document, now: datetime, guard: LabelGuard
    ) -> tuple[Samples, Seen]:
        samples = Samples(guard)
        rows = facts(librechat, match)
        prompts = prompt_tokens_by_model(librechat, match)
        labels = librechat.model_labels([*prompts, *(row["model"] for row in rows)])
        for row in rows:
            _add(samples, row, row["count"], labels[row["model"]])
        for model, tokens in prompts.items():
            samples.add(INPUT_TOKENS_PER_MODEL, tokens, labels[model])
        recent = {"$and": [match, {"createdAt": {"$gt": now - SEEN_KEPT, "$lte": now}}]}
        users = librechat.aggregate("messages", recent, {"$group": {"_id": USER, "seen": {"$max": "$createdAt"}}})
        return samples, {row["_id"]: row["seen"].timestamp() for row in users if row["_id"] is not None}


def _add(samples: Samples, row: Document, count: int, model: str) -> None:
    """Counts `count` messages that share their facts; the row's amounts are their sums."""
    failed = count if row["failed"] else 0
    samples.add(MESSAGES, count)
    samples.add(ERRORS, failed)
    samples.add(SKIPPED_TOKEN_COUNTS, row["skipped"])
    if row["users"]:
        samples.add(INPUT_TOKENS, row["tokens"])
        if failed:
            samples.add(ERRORS_PER_MODEL, failed, model)
    else:
        samples.add(OUTPUT_TOKENS, row["tokens"])
        samples.add(MESSAGES_PER_MODEL, count, model)
        samples.add(ERRORS_PER_MODEL, failed, model)
        samples.add(INPUT_TOKENS_PER_MODEL, 0, model)
        samples.add(OUTPUT_TOKENS_PER_MODEL, row["tokens"], model)


MESSAGES_FOLD = MessagesFold()


def collector() -> LedgerCollector:
    return LedgerCollector("messages", MESSAGES_FOLD)
