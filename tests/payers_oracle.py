"""The value of every metric of who uses it and who pays, document by document, besides those of the oracle."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from tests.meanings import (
    EPOCH,
    Document,
    amount,
    created_within,
    domain_of,
    failed,
    identifier,
    is_users,
    text,
    user,
    whole,
)
from tests.oracle import WINDOWS, Oracle

# Of a token of a model on a day, in parts of 1e-12 dollars: input, output, read from the cache, written to it.
Price = Callable[[str, datetime | None], tuple[int, int, int, int] | None]


class Belonging:
    """Who belongs to which group, and which answer to which agent."""

    def __init__(self, collections: Mapping[str, Iterable[Document]]) -> None:
        self.users = {str(one["_id"]): one for one in collections.get("users", ())}
        self.groups = list(collections.get("groups", ()))
        self.agents = list(collections.get("agents", ()))
        self.answers: dict[str, list[Document]] = defaultdict(list)
        for message in collections.get("messages", ()):
            if message.get("subagentTask") is None and not is_users(message) and identifier(message.get("messageId")):
                self.answers[message["messageId"]].append(message)

    def payers(self, one: str | None, kind: str) -> list[str]:
        known = self.users.get(one or "", {})
        if kind == "user":
            return [one or "unknown"]
        if kind == "domain":
            return [domain_of(known)]
        ids = [str(known["_id"]) if known else None, text(known.get("idOnTheSource"))]
        names = {
            text(group.get("name")) or "unknown"
            for group in self.groups
            for member in (group["memberIds"] if isinstance(group.get("memberIds"), list) else ())
            if isinstance(member, str) and member and member in ids
        }
        return sorted(names) or ["none"]

    def agents_name(self, message: Document) -> str | None:
        name = text(message.get("model"))
        if name is None or not name.startswith("agent_") or message.get("endpoint") not in ("agents", None):
            return None
        return next((text(one.get("name")) or "unknown" for one in self.agents if one.get("id") == name), "unknown")

    def answering(self, transaction: Document) -> str | None:
        """The agent whose answer it is billed for."""
        answer = identifier(transaction.get("messageId"))
        agents = [
            self.agents_name(message)
            for message in self.answers.get(answer or "", ())
            if user(message) == user(transaction)
        ]
        return next((one for one in agents if one is not None), None)


class PayersOracle(Oracle):
    def __init__(
        self,
        collections: Mapping[str, Iterable[Document]],
        now: datetime,
        timezone: str = "UTC",
        windows: Mapping[str, timedelta] = WINDOWS,
        external: str = "",
        *,
        kinds: Iterable[str] = ("group", "domain", "user"),
        price: Price | None = None,
    ) -> None:
        """kinds: those that are on."""
        super().__init__(collections, now, timezone, windows, external)
        there = {name: list(documents) for name, documents in collections.items()}
        self.belonging = Belonging(there)
        self.kinds = tuple(kinds)
        self.windows = windows
        for message in self.counted(self.messages):
            self._charge("messages", message, 1)
            self._of_agent(message)
        transactions = self.counted(there.get("transactions", ()))
        billed = [one for one in transactions if one.get("tokenType") in ("prompt", "completion")]
        for transaction in billed:
            self._billed_to(transaction)
            if price is not None:
                self._listed(transaction, price)
        self._active()
        self._rated()

    def _charge(self, what: str, document: Document, count: float, **labels: str) -> None:
        for kind in self.kinds:
            for payer in self.belonging.payers(user(document), kind):
                self._add(f"librechat_{kind}_{what}_total", count, **{kind: payer}, **labels)

    def _of_agent(self, message: Document) -> None:
        agent = self.belonging.agents_name(message)
        if not is_users(message):
            self._add("librechat_agent_failed_answers_total", failed(message), agent=agent)

    @staticmethod
    def _tokens(transaction: Document) -> dict[str, int]:
        is_prompt = transaction["tokenType"] == "prompt"
        raw, fresh, read, written = (
            amount(transaction.get(name)) for name in ("rawAmount", "inputTokens", "readTokens", "writeTokens")
        )
        if is_prompt and (fresh, read, written) != (None, None, None):
            return {"input": whole(fresh), "cache_read": whole(read), "cache_write": whole(written)}
        return {"input" if is_prompt else "output": whole(raw)}

    def _billed_to(self, transaction: Document) -> None:
        cost = whole(amount(transaction.get("tokenValue")), 10_000) / 1e10
        agent = self.belonging.answering(transaction)
        self._charge("cost_usd", transaction, cost)
        self._add("librechat_agent_cost_usd_total", cost, agent=agent)
        for token_type, count in self._tokens(transaction).items():
            self._charge("tokens", transaction, count, token_type=token_type)
            self._add("librechat_agent_tokens_total", count, agent=agent, token_type=token_type)

    def _listed(self, transaction: Document, price: Price) -> None:
        model = text(transaction.get("model")) or "unknown"
        tokens = self._tokens(transaction)
        is_dated = created_within(transaction, EPOCH, datetime(2200, 1, 1, tzinfo=EPOCH.tzinfo))
        prices = price(model, transaction["createdAt"] if is_dated else None)
        if prices is None:
            self._add("librechat_exporter_unpriced_tokens_total", sum(tokens.values()), model=model)
            return
        cost = sum(
            tokens.get(kind, 0) * each
            for kind, each in zip(("input", "output", "cache_read", "cache_write"), prices, strict=True)
        )
        labels = {"model": model, "context": text(transaction.get("context")) or "unknown"}
        token_type = "output" if transaction["tokenType"] == "completion" else "input"
        self._add("librechat_llm_list_cost_usd_total", cost / 1e12, token_type=token_type, **labels)

    def _active(self) -> None:
        longest = max(timedelta(days=35), *self.windows.values())
        ever = {user(one) for one in self.counted(self.messages) if self._is_in(one, longest)} - {None}
        created = {
            one: document["createdAt"]
            for one, document in self.belonging.users.items()
            if created_within(document, EPOCH, datetime(2200, 1, 1, tzinfo=EPOCH.tzinfo))
        }
        for window, length in self.windows.items():
            messages = [one for one in self.counted(self.messages) if self._is_in(one, length)]
            active = {user(one) for one in messages} - {None}
            if "group" in self.kinds:
                for one in active:
                    for group in self.belonging.payers(one, "group"):
                        self._add("librechat_group_active_users", 1, group=group, window=window)
            users: dict[str, set[str | None]] = defaultdict(set)
            for message in messages:
                agent = self.belonging.agents_name(message)
                if agent is not None and not is_users(message) and user(message) is not None:
                    users[agent].add(user(message))
            for agent, some in users.items():
                self._add("librechat_agent_users", len(some), agent=agent, window=window)
            start = (self.now - length).replace(minute=0, second=0, microsecond=0)
            before = [one for one, moment in created.items() if moment < start]
            new = [one for one, moment in created.items() if start <= moment <= self.now]
            if before:
                retained = len(active.intersection(before)) / len(before)
                self._add("librechat_user_retention_ratio", retained, window=window)
            if new:
                self._add("librechat_new_user_activation_ratio", len(ever.intersection(new)) / len(new), window=window)

    def _rated(self) -> None:
        for message in self.messages:
            feedback = message.get("feedback")
            rating = feedback.get("rating") if isinstance(feedback, dict) else None
            if rating in ("thumbsUp", "thumbsDown") and isinstance(rating, str):
                agent = self.belonging.agents_name(message)
                self._add("librechat_agent_thumbs_up", rating == "thumbsUp", agent=agent)
                self._add("librechat_agent_thumbs_down", rating == "thumbsDown", agent=agent)
