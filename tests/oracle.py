"""The value that every metric should have, in plain Python, document by document. No pipelines, no shortcuts."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bson import ObjectId

from tests.meanings import (
    EPOCH,
    Document,
    Values,
    amount,
    created_within,
    domain_of,
    failed,
    identifier,
    is_users,
    model,
    prompt,
    reason,
    server_of,
    text,
    tokens,
    tool_calls,
    usable_tokens,
    user,
    whole,
)

FIVE_MINUTES = timedelta(minutes=5)
WINDOWS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
CHAT = ("message", "incomplete", "abort", "subagent", "sequential")


class Oracle:
    """All metrics of the core set, of these documents at this moment. Documents with a foreign `_id` do not count."""

    def __init__(
        self,
        collections: Mapping[str, Iterable[Document]],
        now: datetime,
        timezone: str = "UTC",
        windows: Mapping[str, timedelta] = WINDOWS,
        external: str = "",
    ) -> None:
        self.values: Values = defaultdict(float)
        self.now = now
        stored = list(collections.get("messages", ()))
        self.messages = [message for message in stored if message.get("subagentTask") is None]
        self.subagents = [message for message in stored if message.get("subagentTask") is not None]
        self.answers: dict[str, list[Document]] = defaultdict(list)
        for message in self.counted(self.messages):
            if not is_users(message) and isinstance(message.get("parentMessageId"), str):
                self.answers[message["parentMessageId"]].append(message)
        self.conversations = list(collections.get("conversations", ()))
        self.servers = [name for one in collections.get("mcpservers", ()) if (name := text(one.get("serverName")))]
        self.agents = list(collections.get("agents", ()))
        local = now.astimezone(ZoneInfo(timezone))
        day = datetime(local.year, local.month, local.day, tzinfo=ZoneInfo(timezone))
        self.starts = {"daily": day, "weekly": day - timedelta(days=day.weekday()), "monthly": day.replace(day=1)}
        for name, collection in (
            ("librechat_uploaded_files_total", "files"),
            ("librechat_registered_users_total", "users"),
        ):
            self.values[name, ()] = len(self.counted(collections.get(collection, ())))
        for event in self.counted(collections.get("auditlogs", ())):
            labels = {label: text(event.get(label)) or "unknown" for label in ("category", "outcome")}
            self._add("librechat_audit_events_total", 1, **labels)
        people = [one for one in self.counted(self.conversations) if one.get("subagentThread") is None]
        self.values["librechat_conversations_total", ()] = len(people)
        self._happened()
        self._of_subagents()
        self._tool_rates()
        self._recent()
        self._unique_users()
        self._ratings()
        self._billed(self.counted(collections.get("transactions", ())))
        there = {name: list(documents) for name, documents in collections.items()}
        self._state(there)
        self._things_of_windows(there, windows)
        self._windows(there, windows, external)

    @staticmethod
    def counted(documents: Iterable[Document]) -> list[Document]:
        return [document for document in documents if isinstance(document["_id"], ObjectId)]

    def _add(self, name: str, amount: float, **labels: str | None) -> None:
        """Nothing counts where a label is not known yet."""
        known = {label: value for label, value in labels.items() if value is not None}
        if known == labels:
            self.values[name, tuple(sorted(known.items()))] += amount

    def named(self, message: Document) -> str | None:
        """The model; None as long as an answer that is being written has none."""
        is_written = message.get("unfinished") is True and not is_users(message)
        is_new = message["_id"].generation_time > self.now - timedelta(minutes=55)
        may_come = is_written and is_new and text(message.get("model")) is None
        if may_come and any(one is message for one in self._open()):
            return None
        return model(message, self.agents)

    def _of_subagents(self) -> None:
        for message in self.counted(self.subagents):
            if not is_users(message):
                thread = identifier(message.get("conversationId"))
                agents = [
                    text(one.get("agent_id"))
                    for one in self.conversations
                    if thread is not None and one.get("conversationId") == thread
                ]
                is_new = message["_id"].generation_time > self.now - timedelta(minutes=2)
                is_open = message["_id"].generation_time >= self._open_since()
                if thread is not None and not agents and is_new and is_open:
                    continue  # its conversation may still come
                names = [text(one.get("name")) for one in self.agents if agents and one.get("id") == agents[-1]]
                self._add("librechat_subagent_answers_total", 1, agent=(names or [None])[0] or "unknown")

    def _usage(self, message: Document, model_name: str | None) -> None:
        metadata = message.get("metadata")
        told = metadata.get("usage") if isinstance(metadata, dict) else None
        if isinstance(told, dict):
            types = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheWrite": "cache_write"}
            for field, token_type in types.items():
                tokens = whole(amount(told.get(field)))
                self._add("librechat_usage_tokens_total", tokens, model=model_name, token_type=token_type)
            dollars = amount(told.get("cost")) or 0
            cost = whole(dollars if abs(dollars) <= 1e8 else 0, 10**10) / 1e10
            self._add("librechat_usage_cost_usd_total", cost, model=model_name)

    def _happened(self) -> None:
        for counter in ("messages", "error_messages", "input_tokens", "output_tokens"):
            self._add(f"librechat_{counter}_total", 0)
        for counter in ("messages_with_tools", "tool_calls", "tool_call_errors"):
            self._add(f"librechat_{counter}_total", 0)
        self._add("librechat_exporter_skipped_token_counts_total", 0)
        for message in self.counted(self.messages):
            name = self.named(message)
            self._add("librechat_messages_total", 1)
            if message.get("tokenCount") is not None and not usable_tokens(message):
                self._add("librechat_exporter_skipped_token_counts_total", 1)
            self._tools(message, name)
            self._agent(message)
            if not is_users(message):
                self._answer(message, name)
                self._usage(message, name)
            if failed(message):
                self._add("librechat_error_messages_total", 1)
                self._add("librechat_errors_per_model_total", 1, model=name)
            if is_users(message):
                self._add("librechat_input_tokens_total", tokens(message))
            else:
                self._add("librechat_output_tokens_total", tokens(message))
                self._add("librechat_messages_per_model_total", 1, model=name)
                self._add("librechat_errors_per_model_total", 0, model=name)
                self._add("librechat_input_tokens_per_model_total", prompt(message, self.messages), model=name)
                self._add("librechat_output_tokens_per_model_total", tokens(message), model=name)

    def _open(self) -> list[Document]:
        counted = self.counted(self.messages)
        since = self._open_since()
        return [message for message in counted if message["_id"].generation_time >= since]

    def _open_since(self) -> datetime:
        """Ten minutes before the newest message that is no more than an hour old, and not ahead of the clock."""
        stored = [*self.counted(self.messages), *self.counted(self.subagents)]
        newest = max((message["_id"].generation_time for message in stored), default=self.now)
        end = min(self.now, max(newest, self.now - timedelta(hours=1)))
        return (end - timedelta(minutes=10)).replace(microsecond=0)

    def _recent(self) -> None:
        start = self.now - FIVE_MINUTES
        recent = [message for message in self._open() if created_within(message, start, self.now)]
        users = {user(message) for message in recent} - {None}
        conversations = {identifier(message.get("conversationId")) for message in recent} - {None}
        self._add("librechat_active_users", len(users))
        self._add("librechat_active_conversations", len(conversations))
        tool_users: set[str | None] = set()
        for sum_of in ("messages", "error_messages", "input_tokens", "output_tokens", "tool_calls", "tool_call_errors"):
            self._add(f"librechat_{sum_of}_5m", 0)
        for message in recent:
            name = self.named(message)
            self._add("librechat_messages_5m", 1)
            for tool, broken in tool_calls(message):
                tool_users.add(user(message))
                self._add("librechat_tool_calls_5m", 1)
                self._add("librechat_tool_call_errors_5m", broken)
                self._add("librechat_tool_calls_per_tool_5m", 1, tool_name=tool)
            if failed(message):
                self._add("librechat_error_messages_5m", 1)
                self._add("librechat_errors_per_model_5m", 1, model=name)
            if is_users(message):
                self._add("librechat_input_tokens_5m", tokens(message))
            else:
                self._add("librechat_output_tokens_5m", tokens(message))
                self._add("librechat_messages_per_model_5m", 1, model=name)
                self._add("librechat_errors_per_model_5m", 0, model=name)
                self._add("librechat_model_input_tokens_5m", prompt(message, self.messages), model=name)
                self._add("librechat_model_output_tokens_5m", tokens(message), model=name)

        self._add("librechat_active_tool_users", len(tool_users - {None}))

    def _answer(self, message: Document, model_name: str | None) -> None:
        if tokens(message) > 0:
            lengths = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
            self._observe("librechat_answer_tokens", tokens(message), lengths, model_name)
        waited = self.waited(message)
        if waited is not None:
            waits = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
            self._observe("librechat_answer_seconds", waited, waits, model_name)

    def waited(self, message: Document) -> float | None:
        """Seconds from the question to this answer, if it is the first one."""
        parent = identifier(message.get("parentMessageId"))
        ahead = self.now + timedelta(days=1)
        if parent is None or not self._has_time(message):
            return None
        for other in self.answers[parent]:
            is_answer = user(other) == user(message) and self._has_time(other)
            if is_answer and other["createdAt"] < message["createdAt"]:
                return None  # an answer that was made again
        for question in self.messages:
            if is_users(question) and question.get("messageId") == parent and user(question) == user(message):
                if created_within(question, EPOCH, ahead):
                    waited: float = (message["createdAt"] - question["createdAt"]).total_seconds()
                    return waited if 0 <= waited <= 3600 else None
                return None
        return None

    def _has_time(self, message: Document) -> bool:
        """It is not imported either."""
        if not created_within(message, EPOCH, self.now + timedelta(days=1)):
            return False
        since: timedelta = message["_id"].generation_time - message["createdAt"]
        return since <= timedelta(days=1)

    def _observe(self, name: str, value: float, bounds: tuple[float, ...], model_name: str | None) -> None:
        for bound in (*bounds, math.inf):
            le = "+Inf" if bound == math.inf else str(float(bound))
            self._add(f"{name}_bucket", value <= bound, model=model_name, le=le)
        self._add(f"{name}_count", 1, model=model_name)
        self._add(f"{name}_sum", value, model=model_name)

    def _agent(self, message: Document) -> None:
        name = text(message.get("model"))
        if is_users(message) or name is None or not name.startswith("agent_"):
            return
        if message.get("endpoint") in ("agents", None):
            names = [text(agent.get("name")) for agent in self.agents if agent.get("id") == name]
            self._add("librechat_agent_answers_total", 1, agent=(names or [None])[0] or "unknown")

    def _tools(self, message: Document, model_name: str | None) -> None:
        calls = list(tool_calls(message))
        self._add("librechat_messages_with_tools_total", bool(calls))
        self._add("librechat_tool_calls_total", len(calls))
        self._add("librechat_tool_call_errors_total", sum(broken for _, broken in calls))
        endpoint = text(message.get("endpoint")) or "unknown"
        for tool, broken in calls:
            self._add("librechat_tool_call_errors_per_tool_total", broken, tool_name=tool)
            self._add("librechat_tool_calls_per_tool", 1, tool_name=tool)
            self._add("librechat_tool_calls_per_model", 1, model=model_name, tool_name=tool)
            self._add("librechat_tool_calls_per_endpoint", 1, api_endpoint=endpoint, tool_name=tool)
            server = server_of(tool, self.servers)
            if server:
                self._add("librechat_mcp_tool_calls_per_server", 1, server=server)
                self._add("librechat_mcp_tool_call_errors_per_server", broken, server=server)

    def _tool_rates(self) -> None:
        for (name, labels), calls in list(self.values.items()):
            if name == "librechat_tool_calls_per_tool":
                errors = self.values["librechat_tool_call_errors_per_tool_total", labels]
                self._add("librechat_tool_success_rate_per_tool", 100 * (calls - errors) / calls, **dict(labels))

    def _unique_users(self) -> None:
        for period, start in self.starts.items():
            since = start.astimezone(UTC) - timedelta(milliseconds=1)
            found = {user(m) for m in self.counted(self.messages) if created_within(m, since, self.now)}
            self._add(f"librechat_{period}_unique_users", len(found - {None}))

    def _ratings(self) -> None:
        ups: dict[str, int] = defaultdict(int)
        downs: dict[str, int] = defaultdict(int)
        for name in ("thumbs_up_total", "thumbs_down_total", "rated_messages_total", "thumbs_up_5m", "thumbs_down_5m"):
            self._add(f"librechat_{name}", 0)
        for message in self.messages:
            feedback = message.get("feedback")
            if not isinstance(feedback, dict):
                continue
            rating = feedback.get("rating")
            if rating not in ("thumbsUp", "thumbsDown"):
                continue
            name = model(message, self.agents)
            (ups if rating == "thumbsUp" else downs)[name] += 1
            word = "up" if rating == "thumbsUp" else "down"
            other = "down" if rating == "thumbsUp" else "up"
            self._add(f"librechat_thumbs_{word}_total", 1)
            self._add("librechat_rated_messages_total", 1)
            self._add(f"librechat_thumbs_{word}_per_model", 1, model=name)
            self._add(f"librechat_thumbs_{other}_per_model", 0, model=name)
            if created_within(message, self.now - FIVE_MINUTES, self.now, "updatedAt"):
                self._add(f"librechat_thumbs_{word}_5m", 1)
            tag = feedback.get("tag")
            if tag is not None and tag != "":
                tag = text(tag) or "unknown"
                self._add("librechat_rating_counts_per_tag", 1, tag=tag, rating=rating)
                self._add(f"librechat_model_tag_thumbs_{word}", 1, model=name, tag=tag)
        for name in {*ups, *downs}:
            self._add("librechat_rating_ratio_per_model", 100 * ups[name] / (ups[name] + downs[name]), model=name)
        if ups or downs:
            total_up, total_down = sum(ups.values()), sum(downs.values())
            self._add("librechat_overall_rating_ratio", 100 * total_up / (total_up + total_down))

    def _billed(self, transactions: Iterable[Document]) -> None:
        self._add("librechat_credits_granted_total", 0)
        self._add("librechat_exporter_skipped_transactions_total", 0)
        for transaction in transactions:
            kind = transaction.get("tokenType")
            if not isinstance(kind, str) or kind not in ("prompt", "completion", "credits"):
                continue
            raw, value, fresh, written, read = (
                amount(transaction.get(name))
                for name in ("rawAmount", "tokenValue", "inputTokens", "writeTokens", "readTokens")
            )
            self._add("librechat_exporter_skipped_transactions_total", raw is None or value is None)
            if kind == "credits":
                self._add("librechat_credits_granted_total", whole(max(0, value or 0), 10_000) / 1e4)
                continue
            labels = {name: text(transaction.get(name)) or "unknown" for name in ("model", "context")}
            structured = kind == "prompt" and (fresh, written, read) != (None, None, None)
            token_type = "input" if kind == "prompt" else "output"
            counted = whole(fresh if structured else raw)
            self._add("librechat_llm_tokens_total", counted, token_type=token_type, **labels)
            self._add("librechat_llm_cost_usd_total", whole(value, 10_000) / 1e10, token_type=token_type, **labels)
            if structured:
                for token_type, tokens in (("cache_read", read), ("cache_write", written)):
                    self._add("librechat_llm_tokens_total", whole(tokens), token_type=token_type, **labels)

    def _state(self, there: Mapping[str, list[Document]]) -> None:
        """All that is there now, of the collections that exist."""
        for name, documents in there.items():
            self._add("librechat_stored_documents", len(documents), collection=name)
        for name, collection in (
            ("memory_entries_total", "memoryentries"),
            ("skills_total", "skills"),
            ("chat_projects_total", "chatprojects"),
            ("shared_links_total", "sharedlinks"),
            ("mcp_servers_total", "mcpservers"),
            ("agent_api_keys_total", "agentapikeys"),
        ):
            if collection in there:
                self._add(f"librechat_{name}", len(there[collection]))
        if "conversations" in there:
            temporary = [
                one
                for one in there["conversations"]
                if one.get("isTemporary") is True and one.get("subagentThread") is None
            ]
            self._add("librechat_temporary_conversations", len(temporary))
        if "memoryentries" in there:
            users = {repr(one.get("userId")) for one in there["memoryentries"]}
            self._add("librechat_memory_users", len(users - {"None"}))
        for agent in there.get("agents", ()):
            self._add("librechat_agents_total", 1, category=text(agent.get("category")) or "unknown")
        for job in ("scheduleruns", "agenttriggerdeliveries", "agentqueuedturns", "skillsyncstatuses", "files"):
            for one in there.get(job, ()):
                self._add("librechat_job_states", 1, job=job, state=text(one.get("status")) or "unknown")
        self._people_and_files(there)
        if "balances" in there:
            self._balances(there["balances"])

    def _people_and_files(self, there: Mapping[str, list[Document]]) -> None:
        if "sessions" in there:
            running = [one for one in there["sessions"] if isinstance(one.get("expiration"), datetime)]
            users = {repr(one.get("user")) for one in running if one["expiration"] > self.now}
            self._add("librechat_logged_in_users", len(users - {"None"}))
        for one in there.get("users", ()):
            labels = {name: text(one.get(name)) or "unknown" for name in ("provider", "role")}
            self._add("librechat_users", 1, **labels)
            self._add("librechat_users_by_domain", 1, domain=domain_of(one))
        for file in there.get("files", ()):
            mime = (text(file.get("type")) or "unknown").split("/")[0] or "unknown"
            labels = {name: text(file.get(name)) or "unknown" for name in ("source", "context")} | {"type": mime}
            self._add("librechat_files", 1, **labels)
            self._add("librechat_files_bytes", abs(amount(file.get("bytes")) or 0), **labels)

    def _balances(self, balances: list[Document]) -> None:
        for state in ("exhausted", "low", "ok"):
            self._add("librechat_balance_users", 0, state=state)
        self._add("librechat_balance_credits", 0)
        oldest: dict[str, Document] = {}
        for balance in sorted(balances, key=lambda one: str(one["_id"])):
            oldest.setdefault(repr(balance.get("user")), balance)
        for balance in oldest.values():
            left = amount(balance.get("tokenCredits"))
            if left is None:
                continue
            refill = abs(amount(balance.get("refillAmount")) or 0)
            state = "exhausted" if left <= 0 else "low" if left < refill / 10 else "ok"
            self._add("librechat_balance_users", 1, state=state)
            self._add("librechat_balance_credits", left)

    def _things_of_windows(self, there: Mapping[str, list[Document]], windows: Mapping[str, timedelta]) -> None:
        first = self.starts["monthly"]
        ended = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        self._add("librechat_month_end_timestamp_seconds", ended.timestamp())
        for window, length in windows.items():
            if "agentapikeys" in there:
                used = [one for one in there["agentapikeys"] if self._is_in(one, length, "lastUsedAt")]
                self._add("librechat_window_agent_api_keys_used", len(used), window=window)
            for run in there.get("scheduleruns", ()):
                if self._is_in(run, length):
                    status = text(run.get("status")) or "unknown"
                    self._add("librechat_window_schedule_runs", 1, status=status, window=window)
        self._bans_and_conversations(there)

    def _bans_and_conversations(self, there: Mapping[str, list[Document]]) -> None:
        if "bans" in there or "logs" in there:
            bans = [*there.get("bans", ()), *there.get("logs", ())]
            in_force = [ban for ban in bans if isinstance(ban.get("key"), str) and ban["key"].startswith("BANS:")]
            ended = [one for one in in_force if isinstance(one.get("expiresAt"), datetime)]
            over = [one for one in ended if one["expiresAt"] <= self.now]
            self._add("librechat_bans", len(in_force) - len(over))
        name, bounds = "librechat_conversation_messages", (2, 4, 6, 10, 20, 50, 100, 200, math.inf)
        conversations: dict[str, list[Document]] = defaultdict(list)
        for message in self.messages if "messages" in there else ():
            conversation = identifier(message.get("conversationId"))
            if conversation is not None:
                conversations[conversation].append(message)
        month = self.now - timedelta(days=30)
        lately = [one for one in conversations.values() if any(created_within(m, month, self.now) for m in one)]
        for bound in bounds if "messages" in there else ():
            le = "+Inf" if bound == math.inf else str(float(bound))
            self._add(f"{name}_bucket", sum(len(one) <= bound for one in lately), le=le)
        if "messages" in there:
            self._add(f"{name}_count", len(lately))
            self._add(f"{name}_sum", sum(map(len, lately)))

    def _is_in(self, document: Document, length: timedelta, field: str = "createdAt") -> bool:
        """True if it is of the window, which begins with a whole hour."""
        start = (self.now - length).replace(minute=0, second=0, microsecond=0)
        return created_within(document, start - timedelta(milliseconds=1), self.now, field)

    def _windows(self, there: Mapping[str, list[Document]], windows: Mapping[str, timedelta], external: str) -> None:
        longest = max(timedelta(days=35), *windows.values())
        for window, length in windows.items():

            def recent(name: str, length: timedelta = length) -> list[Document]:
                """Documents that were inserted long before do not count, whatever their createdAt says."""
                oldest = (self.now - longest).replace(minute=0, second=0, microsecond=0)
                return [
                    one
                    for one in self.counted(self.messages if name == "messages" else there.get(name, ()))
                    if self._is_in(one, length) and one["_id"].generation_time >= oldest
                ]

            def class_of(name: str) -> str:
                if not external:
                    return "unclassified"
                return "external" if external.lower() in name.lower() else "local"

            self._add("librechat_window_new_users", len(recent("users")), window=window)
            domains = {str(one["_id"]): domain_of(one) for one in there.get("users", ())}
            active = [message for message in self.counted(self.messages) if self._is_in(message, length)]
            for one in {user(message) for message in active} - {None}:
                domain = domains.get(str(one), "unknown")
                self._add("librechat_active_users_by_domain", 1, domain=domain, window=window)
            for message in recent("messages"):
                name = self.named(message)
                labels = {"model": name, "window": window, "class": name and class_of(name)}
                if failed(message):
                    self._add("librechat_window_rejected_requests", 1, reason=reason(message), window=window)
                elif not is_users(message):
                    ended = message.get("finish_reason")
                    stopped = (
                        message.get("unfinished") is True and ended != "tool_call_limit"
                    ) or ended == "incomplete"
                    self._add("librechat_window_answers_per_model", 1, **labels)
                    self._add("librechat_window_unfinished_answers_per_model", stopped, **labels)
            self._window_of_transactions(recent("transactions"), window, class_of)

    def _add_if(self, name: str, amount: float, **labels: str) -> None:
        if amount:
            self._add(name, amount, **labels)

    def _window_of_transactions(
        self, transactions: list[Document], window: str, class_of: Callable[[str], str]
    ) -> None:
        users: dict[str, set[str]] = {"local": set(), "external": set(), "unclassified": set()}
        for one in transactions:
            if not isinstance(one.get("tokenType"), str) or one["tokenType"] not in ("prompt", "completion"):
                continue
            is_prompt = one["tokenType"] == "prompt"
            context = text(one.get("context")) or "unknown"
            labels = {"model": text(one.get("model")) or "unknown", "window": window}
            labels |= {"class": class_of(labels["model"])}
            kind = "input" if is_prompt else "output"
            parts = [amount(one.get(name)) for name in ("inputTokens", "readTokens", "writeTokens")]
            tokens = whole(amount(one.get("rawAmount")))
            if is_prompt and parts != [None, None, None]:
                tokens = sum(map(whole, parts))
            if context in CHAT:
                self._add_if("librechat_window_tokens_per_model", tokens, type=kind, **labels)
                for name, part in zip(("read", "write"), parts[1:], strict=True):
                    cached = is_prompt and whole(part)
                    self._add_if("librechat_window_cache_tokens_per_model", cached, type=name, **labels)
                users[labels["class"]] |= {str(user(one))} - {"None"}
            else:
                self._add_if(
                    "librechat_window_background_tokens_per_model", tokens, type=kind, context=context, **labels
                )
            charged = whole(amount(one.get("tokenValue")), 10_000) / 1e4
            self._add_if("librechat_window_credits_per_model", charged, type=kind, context=context, **labels)
        self._add("librechat_window_unique_users", len(set().union(*users.values())), window=window)
        if class_of("") != "unclassified":
            name = "librechat_window_users_by_model_class"
            local, external = users["local"], users["external"]
            self._add(name, len(local - external), usage="local_only", window=window)
            self._add(name, len(external - local), usage="external_only", window=window)
            self._add(name, len(local & external), usage="both", window=window)
