"""A day's usage by group and by agent."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from librechat_exporter.historic.tables import DAILY_USAGE_BY_AGENT, DAILY_USAGE_BY_GROUP, Table, money
from librechat_exporter.librechat.fields import USD_PARTS
from librechat_exporter.librechat.members import NOBODY, Members
from librechat_exporter.librechat.messages import Messages
from librechat_exporter.librechat.transactions import Billed

_TOKEN_TYPES = ("input", "output", "cache_read", "cache_write")


@dataclass
class _Usage:
    """Of a group or an agent. charged: in parts, of which a dollar has USD_PARTS."""

    messages: int = 0
    failed: int = 0
    users: set[str] = field(default_factory=set)
    tokens: Counter[str] = field(default_factory=Counter)
    charged: int = 0

    def bill(self, billed: Billed) -> None:
        self.tokens.update(billed.by_token_type())
        self.charged += billed.charged

    @property
    def billed(self) -> tuple[Any, ...]:
        return (*(self.tokens[one] for one in _TOKEN_TYPES), money(self.charged, USD_PARTS))


class Usage:
    def __init__(self, members: Members | None) -> None:
        """members: None if groups are not asked for."""
        self._members = members
        # By names without trailing spaces, which MariaDB does not tell apart.
        self._groups: dict[str, _Usage] = defaultdict(_Usage)
        self._agents: dict[str, _Usage] = defaultdict(_Usage)

    def add(self, messages: Messages, agent: str | None) -> None:
        """Messages of one kind; agent: its name, if they have one."""
        for user, count in Counter(messages.users).items():
            for group in self._groups_of(user):
                group.messages += count
                if user is not None:
                    group.users.add(user)
        if agent is not None and not messages.kind.by_user:
            one = self._agents[agent.rstrip(" ")]
            one.messages += len(messages)
            one.failed += len(messages) if messages.kind.failed else 0
            one.users.update(user for user in messages.users if user is not None)

    def bill(self, billed: Billed) -> None:
        for group in self._groups_of(billed.user):
            group.bill(billed)

    def bill_agent(self, billed: Billed) -> None:
        """Of those of an agent's answers, which bill() has as well."""
        if billed.agent is not None:
            self._agents[billed.agent.rstrip(" ")].bill(billed)

    def _groups_of(self, user: str | None) -> list[_Usage]:
        if self._members is None:
            return []
        names = {group.rstrip(" ") for group in self._members.get(user or "", NOBODY).charged}
        return [self._groups[name] for name in sorted(names)]

    def rows(self) -> dict[Table, list[tuple[Any, ...]]]:
        """By table; nothing of groups if they were not asked for."""
        agents = [(name, one.messages, one.failed, len(one.users), *one.billed) for name, one in self._agents.items()]
        rows: dict[Table, list[tuple[Any, ...]]] = {DAILY_USAGE_BY_AGENT: agents}
        if self._members is not None:
            groups = [(name, one.messages, len(one.users), *one.billed) for name, one in self._groups.items()]
            rows[DAILY_USAGE_BY_GROUP] = groups
        return rows
