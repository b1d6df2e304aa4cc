"""The use of LibreChat's features: memories, skills, projects, shared links, MCP servers, agents, bans."""

from collections.abc import Callable, Mapping
from functools import partial

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import BAN_COLLECTIONS, CATEGORY, IS_TEMPORARY, MEMORY_USER, is_ban
from librechat_exporter.metrics.metric import LabelValues, Metric
from librechat_exporter.settings import Settings

_gauge = partial(Metric, type="gauge", kind="is", toggles=("feature",))

_AGENTS = _gauge(name="librechat_agents_total", help="Agents that are there now, by category", labels=("category",))
_MEMORY_USERS = _gauge(name="librechat_memory_users", help="Users who have memories now")
_BANS = _gauge(name="librechat_bans", help="Users and addresses that are banned now; a banned user's address is too")
# Metrics that count the documents of a collection that match.
_COUNTS: dict[Metric, tuple[str, Document]] = {
    _gauge(name="librechat_memory_entries_total", help="Memories that are stored now"): ("memoryentries", {}),
    _gauge(name="librechat_skills_total", help="Skills that are stored now"): ("skills", {}),
    _gauge(name="librechat_chat_projects_total", help="Chat projects that are stored now"): ("chatprojects", {}),
    _gauge(name="librechat_shared_links_total", help="Shared links that are there now"): ("sharedlinks", {}),
    _gauge(name="librechat_mcp_servers_total", help="MCP servers that users have added and that are there now"): (
        "mcpservers",
        {},
    ),
    _gauge(name="librechat_agent_api_keys_total", help="API keys of agents that are there now"): ("agentapikeys", {}),
    _gauge(name="librechat_temporary_conversations", help="Temporary conversations that are stored now"): (
        "conversations",
        IS_TEMPORARY,
    ),
}


def _of(
    name: str, collection: str, metric: Metric, read: Callable[[LibreChat], Mapping[LabelValues, float]]
) -> Collector:
    """A collector of its own for each: a collection that may not be read takes nothing else away."""
    return RefreshedCollector(name, (metric,), lambda librechat: {metric: read(librechat)}, collection=collection)


def _count(metric: Metric, collection: str, match: Document) -> Collector:
    name = metric.name.removeprefix("librechat_").removesuffix("_total")
    return _of(name, collection, metric, lambda librechat: {(): librechat.count(collection, match)})


def _memory_users(librechat: LibreChat) -> dict[LabelValues, float]:
    return {(): librechat.count_distinct("memoryentries", MEMORY_USER, {})}


def _agents(librechat: LibreChat) -> dict[LabelValues, float]:
    return librechat.count_by("agents", CATEGORY)


def _read_bans(librechat: LibreChat) -> Values:
    if librechat.tenant is not None:  # they are kept for all tenants
        return {}
    kept_in = librechat.collections().intersection(BAN_COLLECTIONS)
    if not kept_in:
        return {}
    return {_BANS: {(): sum(librechat.count(collection, is_ban(librechat.now())) for collection in kept_in)}}


def collectors(_settings: Settings) -> list[Collector]:
    return [
        *(_count(metric, collection, match) for metric, (collection, match) in _COUNTS.items()),
        _of("memory_users", "memoryentries", _MEMORY_USERS, _memory_users),
        _of("agent_categories", "agents", _AGENTS, _agents),
        RefreshedCollector("bans", (_BANS,), _read_bans),
    ]
