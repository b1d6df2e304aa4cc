"""The page at `/`: its numbers are those of the documents, it loads and runs nothing, and tells how the exporter is."""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from librechat_exporter.collector import Outcome
from librechat_exporter.ledger.source import Source
from librechat_exporter.page.charts import Chart, largest, tell
from librechat_exporter.page.figures import quantile
from librechat_exporter.page.health import BAD, DOUBTFUL, GOOD, banner
from librechat_exporter.page.page import HEADERS, Page
from librechat_exporter.scrape import LastScrape
from tests.conftest import Document, Exporter, MakeExporter, MakeProcess
from tests.test_web import BROWSER

NOW = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)
ANN, BOB = (str(ObjectId(bytes([0x69] * 11 + [number]))) for number in range(2))


class _Reader(HTMLParser):
    """A page as it is read: its tiles, and its tables by the headings above them. Links and all that it would load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tiles: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.links: list[str] = []
        self.elements: set[str] = set()
        self.banner = ""
        self._stack: list[tuple[str, dict[str, str | None]]] = []
        self._heading = self._title = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.add(tag)
        self.links += [str(attributes[name]) for name in ("href", "src") if name in attributes]
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        if tag not in ("meta", "link", "line", "rect"):
            self._stack.append((tag, attributes))
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._stack and self._stack.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._stack[-1] if self._stack else ("", {})
        if any("banner" in (of.get("class") or "") for _, of in self._stack):
            self.banner += data
        if tag == "h2":
            self._heading = data
        elif tag == "dt":
            self._title = data
        elif tag == "dd" and attributes.get("class") == "value":
            self.tiles[self._title] = data
        elif tag in ("td", "th"):
            self.tables[self._heading][-1][-1] += data


def page_of(one: Exporter, status: Any = None) -> Page:
    """status: instead of the daemon's."""
    daemon = one.daemon
    return Page(status or daemon, daemon.ledger.totals, daemon.settings, daemon.ledger.save)


def read(one: Exporter, wanted: str = "24h", now: datetime = NOW) -> _Reader:
    one.daemon._ahead = now - datetime.now(UTC)
    return _Reader(page_of(one).render(wanted))


def document(moment: datetime, number: int, **fields: Any) -> Document:
    identifier = int(moment.timestamp()).to_bytes(4) + number.to_bytes(8)
    return {"_id": ObjectId(identifier), "createdAt": moment, "updatedAt": moment} | fields


def chat(moment: datetime, number: int, user: str, model: str = "gpt-4o", **answer: Any) -> list[Document]:
    """A question, and an answer three seconds later."""
    asked = document(moment, number, user=user, messageId=f"q{number}", isCreatedByUser=True)
    told: Document = {"user": user, "messageId": f"a{number}", "parentMessageId": f"q{number}", "model": model}
    return [asked, document(moment + timedelta(seconds=3), number + 500, isCreatedByUser=False, **told | answer)]


def charge(moment: datetime, number: int, **fields: Any) -> Document:
    told = {"user": ObjectId(ANN), "model": "gpt-4o", "tokenType": "prompt", "context": "message"}
    return document(moment, number, **told | {"rawAmount": -1500, "tokenValue": -2_500_000.0} | fields)


def fill(database: Database[Document]) -> None:
    call = {"type": "tool_call", "tool_call": {"name": "search", "output": "Error: tool call failed: no"}}
    yesterday, long_ago = NOW - timedelta(days=1), NOW - timedelta(days=6)
    database["messages"].insert_many(
        [
            *chat(NOW - timedelta(hours=2), 1, ANN),
            *chat(NOW - timedelta(hours=1), 2, BOB, model="<b>&'\"</b>", content=[call, call]),
            *chat(NOW - timedelta(minutes=30), 3, ANN, error=True, text='{"type": "token_balance"}'),
            *chat(yesterday.replace(hour=23), 4, ANN),
            *chat(long_ago, 5, BOB),
        ]
    )
    database["transactions"].insert_many(
        [charge(NOW - timedelta(hours=2), 1), charge(yesterday, 2), charge(NOW - timedelta(days=4), 3)]
    )


def test_it_tells_what_is_in_the_documents(database: Database[Document], exporter: MakeExporter) -> None:
    fill(database)
    page = read(exporter(NOW).folded())
    assert page.banner.strip() == "All is well"
    assert page.tiles == {
        "Users today": "2",
        "Messages today": "6",
        "Failed today": "1",
        "Waiting time today": "3.0 s",
        "Tokens today": "1,500",
        "Cost today": "$2.50",
        "Cost this month": "$5.00",
    }
    answers = page.tables["Answers by model"]
    assert answers[0] == ["Time", "gpt-4o", "<b>&'\"</b>"]
    assert [row for row in answers[1:] if row[1:] != ["0 answers", "0 answers"]] == [
        ["23:00", "1 answers", "0 answers"],
        ["13:00", "1 answers", "0 answers"],
        ["14:00", "0 answers", "1 answers"],
    ]
    assert [row[0] for row in answers[1:]] == [f"{hour % 24:02}:00" for hour in range(16, 40)]
    assert ["14:00", "1 failures"] in page.tables["Failures by reason"]
    assert ["14:00", "2 calls"] in page.tables["Tool calls"]
    assert page.tables["Tools"] == [["Tool", "Calls", "Failed", "Share"], ["search", "2", "2", "100%"]]
    assert ["gpt-4o", "2", "0", "3.0 s", "3.9 s", "1,500", "$2.50"] in page.tables["Models"]


def test_days_are_those_of_the_time_zone(database: Database[Document], exporter: MakeExporter) -> None:
    """At eleven in the evening in London it is tomorrow in Berlin."""
    fill(database)
    for timezone, today, yesterday in (("UTC", "2", "1"), ("Europe/Berlin", "2", "0")):
        one = exporter(NOW, metrics_timezone=timezone).folded()
        page = read(one, "7d")
        one.close()
        active = dict(page.tables["Active users by day"][1:])
        assert active == {
            "26 Feb": "1 users",
            **dict.fromkeys(("27 Feb", "28 Feb", "1 Mar", "2 Mar"), "0 users"),
            "3 Mar": f"{yesterday} users",
            "4 Mar": f"{today} users",
        }
        answers = {row[0]: row[1] for row in page.tables["Answers by model"][1:]}
        assert answers["3 Mar"] == f"{yesterday} answers"


@pytest.mark.parametrize("timezone", ["Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "Europe/Berlin"])
@pytest.mark.parametrize("month", [3, 10])
def test_each_hour_is_in_one_bin(
    database: Database[Document], exporter: MakeExporter, timezone: str, month: int
) -> None:
    """Also where the clocks change."""
    now = datetime(2026, month, 31, 20, 6, tzinfo=UTC)
    database["messages"].insert_many(
        one for hour in range(24 * 29) for one in chat(now - timedelta(hours=hour, minutes=1), hour, ANN)[1:]
    )
    one = exporter(now, metrics_timezone=timezone).folded()
    one.daemon._ahead = now - datetime.now(UTC)
    page = _Reader(page_of(one).render("30d"))
    amounts = [int(row[1].split()[0]) for row in page.tables["Answers by model"][1:]]
    assert len(amounts) == 30
    assert sum(amounts) == 24 * 29
    assert set(amounts[2:-1]) <= {23, 24, 25}


def test_hours_are_labelled_as_the_time_zone_has_them(database: Database[Document], exporter: MakeExporter) -> None:
    """Those of a zone half an hour off begin at half past."""
    fill(database)
    page = read(exporter(NOW, metrics_timezone="Asia/Kolkata").folded())
    answers = {row[0]: row[1:] for row in page.tables["Answers by model"][1:]}
    assert list(answers)[-1] == "20:30"
    assert answers["18:30"] == ["1 answers", "0 answers"]  # at 13:06 UTC


def test_it_loads_and_runs_nothing(database: Database[Document], exporter: MakeExporter) -> None:
    fill(database)
    one = exporter(NOW).folded()
    text = page_of(one).render("7d").decode()
    page = _Reader(text.encode())
    assert set(page.links) == {"data:,", "?range=24h", "?range=7d", "?range=30d", "metrics", "ready"}
    assert page.elements.isdisjoint({"script", "iframe", "img", "object", "embed", "form", "base"})
    [style] = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in dict(HEADERS)["Content-Security-Policy"]
    assert "default-src 'none'" in dict(HEADERS)["Content-Security-Policy"]
    assert "@import" not in style
    assert "url(" not in style
    assert ANN not in text


def test_what_is_switched_off_is_not_shown(database: Database[Document], exporter: MakeExporter) -> None:
    fill(database)
    off = ("basic", "user", "tool", "answer", "cost", "agent")
    one = exporter(NOW, **{f"enable_{name}_metrics": False for name in off})
    one.scrape()
    assert not read(one).tiles
    assert not read(one).tables.keys() - {"The exporter"}
    one.close()
    one = exporter(NOW, enable_model_metrics=False).folded()
    page = read(one)
    assert "Failures by reason" in page.tables
    assert not page.tables.keys() & {"Answers by model", "Models"}
    one.close()
    one = exporter(NOW, enable_page=False).folded()
    page = read(one)
    assert page.banner.strip() == "All is well"
    assert not page.tiles
    assert not page.tables


def test_what_is_not_counted_yet_is_no_zero(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    one = exporter(NOW).folded()
    monkeypatch.setattr(Source, "is_folded", lambda _source, name: not re.search("credits|answer_seconds|active", name))
    page = read(one)
    assert {title for title, value in page.tiles.items() if value == "…"} == {
        *("Users today", "Cost today", "Cost this month", "Waiting time today")
    }
    assert page.tables["Models"][1] == ["gpt-4o", "2", "0", "…", "…", "1,500", "…"]
    text = page_of(one).render("24h").decode()
    assert text.count("It is still being counted.") == 2
    assert "Nothing in these" not in text


def test_where_nothing_is_billed_there_is_no_cost(database: Database[Document], exporter: MakeExporter) -> None:
    """LibreChat may keep no transactions: that is no 0."""
    fill(database)
    database["transactions"].delete_many({})
    page = read(exporter(NOW).folded())
    tiles = page.tiles
    assert tiles["Messages today"] == "6"
    assert page.tables["Models"][1][-2:] == ["–", "–"]  # noqa: RUF001
    assert {title: value for title, value in tiles.items() if "Cost" in title or "Tokens" in title} == {
        "Tokens today": "–",  # noqa: RUF001
        "Cost this month": "–",  # noqa: RUF001
    }


def test_tokens_are_those_of_chats_and_of_the_background(database: Database[Document], exporter: MakeExporter) -> None:
    """So tiles, charts and tables agree."""
    fill(database)
    database["transactions"].insert_one(charge(NOW - timedelta(hours=1), 9, context="title", rawAmount=-500))
    page = read(exporter(NOW).folded())
    assert page.tiles["Tokens today"] == "2,000"
    assert sum(int(row[1].split()[0].replace(",", "")) for row in page.tables["Tokens"][1:]) == 2000
    assert page.tables["Models"][1][5] == "2,000"


def test_columns_that_are_switched_off_are_not_there(database: Database[Document], exporter: MakeExporter) -> None:
    fill(database)
    page = read(exporter(NOW, enable_cost_metrics=False, enable_answer_metrics=False).folded())
    assert page.tables["Models"][0] == ["Model", "Answers", "Stopped"]
    assert not {title for title in page.tiles if "ost" in title or "Tokens" in title or "Wait" in title}


def test_groups_and_agents(database: Database[Document], exporter: MakeExporter) -> None:
    fill(database)
    database["users"].insert_one(document(NOW - timedelta(days=2), 1) | {"_id": ObjectId(ANN)})
    database["groups"].insert_one({"name": "Physics", "source": "local", "memberIds": [ANN]})
    database["agents"].insert_one({"id": "agent_1", "name": "Guide", "model": "gpt-4o"})
    database["messages"].insert_many(chat(NOW - timedelta(days=40), 9, ANN, model="agent_1", endpoint="agents"))
    page = read(exporter(NOW, group_metrics=True).folded(), "nonsense")
    assert ["Guide", "1", "$0"] in page.tables["Agents, of all time"]
    assert ["Physics", "8", "$7.50"] in page.tables["Groups, of all time"]


def test_served(process: MakeProcess, database: Database[Document]) -> None:
    """Behind a path prefix all links stay below it; a query that makes no sense is none."""
    database["messages"].insert_one({"messageId": "m1", "user": "u1", "isCreatedByUser": True})
    one = process(METRICS_SECRET="a" * 20).start()
    token = {"Authorization": f"Bearer {'a' * 20}"}
    assert one.get("/", {"Accept": BROWSER})[0] == 401
    assert one.get("/metrics", token)[0] == 200
    assert one.get("/", {"Accept": BROWSER} | token)[1]["Cache-Control"] == "no-store"
    for query in ("", "?range=7d", "?range=", "?range=%ff&&=&range", f"?{'range=7d&' * 500}"):
        status, headers, body = one.get(f"/{query}", {"Accept": BROWSER} | token)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8"), query
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert b"All is well" in body
    one.stop()


class _Status:
    """A daemon's answers."""

    def __init__(self, fault: str | None = None, pending: Mapping[str, float] | None = None) -> None:
        self._fault, self._pending = fault, pending or {}
        self.last: LastScrape | None = None
        self.persistent = True

    def fault(self) -> str | None:
        return self._fault

    def now(self) -> datetime:
        return NOW

    def pending(self) -> Mapping[str, float]:
        return self._pending

    def history(self) -> Mapping[str, float]:
        return self._pending

    def last_scrape(self) -> LastScrape | None:
        return self.last

    def is_persistent(self) -> bool:
        return self.persistent


def test_the_banner() -> None:
    assert banner(_Status()).level == GOOD
    down = banner(_Status("MongoDB does not answer: timed out", {"messages": 0.5}))
    assert (down.level, list(down.reasons)) == (BAD, ["MongoDB does not answer: timed out"])
    counting = banner(_Status(pending={"messages": 0.431}))
    assert (counting.level, list(counting.reasons)) == (DOUBTFUL, ["messages: 43% of its history is counted"])
    doubtful = _Status()
    doubtful.persistent = False
    doubtful.last = LastScrape(0, 1.0, {"tools": Outcome((), 1.0, TimeoutError())}, {"tools": "it was late"})
    told = banner(doubtful)
    assert told.level == DOUBTFUL
    assert [reason.split(":")[0] for reason in told.reasons] == [
        "Collector tools failed at the last scrape",
        "The state file cannot be written",
    ]


def test_history_is_one_bar_while_it_is_counted(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW).folded()
    counting = _Status(pending={"messages": 0.5, "users": 1.0})
    text = page_of(one, counting).render("24h").decode()
    assert "75% of what was there before is counted" in text
    assert text.count("<progress") == 1
    assert "It has not been scraped yet" in text
    whole = page_of(one, _Status()).render("24h").decode()
    assert "<progress" not in whole


@given(st.lists(st.lists(st.floats(0, 1e12), min_size=3, max_size=3), max_size=12), st.sampled_from(["$", "answers"]))
def test_bars_are_as_high_as_their_amounts(amounts: list[list[float]], unit: str) -> None:
    series = largest({f"model {number}": of for number, of in enumerate(amounts)})
    chart = Chart("Answers", unit, ["a", "b", "c"], series)
    assert len(series) <= 7
    assert chart.most >= max(chart.totals) * (1 - 1e-9)
    assert 1 <= len(chart.lines()) <= 7
    scale = (chart.lines()[0].place - chart.lines()[-1].place) / chart.most
    for place, total in enumerate(chart.totals):
        bars = [bar for bar in chart.bars() if bar.told.startswith("abc"[place])]
        assert sum(bar.height for bar in bars) == pytest.approx(total * scale, abs=1e-6)
        assert all(chart.left < bar.x and bar.x + bar.width < chart.right for bar in bars)


@pytest.mark.parametrize(
    ("amount", "unit", "told"),
    [
        *((0, "", "0"), (7, "answers", "7 answers"), (9999, "", "9,999"), (12_345, "tokens", "12.3k tokens")),
        *(
            (999_700, "", "1M"),
            (999_400, "", "999k"),
            (999_700e6, "", "1T"),
            (9999.5, "", "10,000"),
            (3.4e6, "", "3.4M"),
            (1e12, "", "1T"),
            (1234e12, "", "1,234T"),
            (0.25, "", "0.25"),
        ),
        *((0, "$", "$0"), (1.5, "$", "$1.50"), (0.0012, "$", "$0.0012"), (12_345.6, "$", "$12,346")),
        *((2e6, "$", "$2M"), (-3.5, "$", "$-3.50")),
    ],
)
def test_numbers_for_people(amount: float, unit: str, told: str) -> None:
    assert tell(amount, unit) == told


def test_quantiles_are_those_of_prometheus() -> None:
    bounds = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
    half, quarter = dict.fromkeys(bounds, 0.0) | {2.0: 10.0}, dict.fromkeys(bounds, 0.0) | {8.0: 30.0}
    assert quantile([half], 0.5) == 1.5
    assert quantile([half, quarter], 0.25) == 2.0
    assert quantile([half, quarter], 0.5) == pytest.approx(4 + 4 * 10 / 30)
    assert quantile([], 0.5) is None
    assert quantile([dict.fromkeys(bounds, 0.0)], 0.5) is None
