"""How much LibreChat's features are used: memories, skills, projects, shared links, MCP servers, agents."""

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.fields import CATEGORY, IS_TEMPORARY, Document
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Metric


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, text, "gauge", "is", labels, ("feature",))


AGENTS = _gauge("librechat_agents_total", "Agents", "category")
MEMORY_USERS = _gauge("librechat_memory_users", "Users with memories")
BANS = _gauge("librechat_bans", "Users and addresses that are banned now; a banned user's address is too")
# Metrics that count the documents of a collection that match.
COUNTS: dict[Metric, tuple[str, Document]] = {
    _gauge("librechat_memory_entries_total", "Memories"): ("memoryentries", {}),
    _gauge("librechat_skills_total", "Skills"): ("skills", {}),
    _gauge("librechat_chat_projects_total", "Chat projects"): ("chatprojects", {}),
    _gauge("librechat_shared_links_total", "Shared links"): ("sharedlinks", {}),
    _gauge("librechat_mcp_servers_total", "MCP servers that users added"): ("mcpservers", {}),
    _gauge("librechat_agent_api_keys_total", "API keys of agents"): ("agentapikeys", {}),
    _gauge("librechat_temporary_conversations", "Temporary conversations"): ("conversations", IS_TEMPORARY),
}


def read(librechat: LibreChat) -> Values:
    there = librechat.collections()
    found: dict[Metric, dict[tuple[str, ...], float]] = {
        metric: {(): librechat.count(collection, match)}
        for metric, (collection, match) in COUNTS.items()
        if collection in there
    }
    if "memoryentries" in there:
        found[MEMORY_USERS] = {(): librechat.users_with_memories()}
    if "agents" in there:
        found[AGENTS] = librechat.count_by("agents", CATEGORY)
    bans = librechat.bans()
    if bans is not None:
        found[BANS] = {(): bans}
    return found


def collector() -> StateCollector:
    return StateCollector("features", (*COUNTS, MEMORY_USERS, AGENTS, BANS), read)
