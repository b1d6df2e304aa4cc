"""The page in a real browser: `make test-browser`."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pymongo
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.conftest import Document, Process
from tools.browser import Browser
from tools.mongod import Mongod
from tools.university import University

pytestmark = pytest.mark.browser
WIDE, NARROW = (1280, 900), (360, 800)


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with Mongod() as server:
        with pymongo.MongoClient[Document](server.uri) as client:
            University(client["university"]).fill(6000, 40, datetime.now(UTC) - timedelta(minutes=2))
        yield server


@pytest.fixture(scope="module")
def exporter(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    settings = {"MONGODB_URI": mongod.uri, "MONGODB_DATABASE": "university", "GROUP_METRICS": "true"}
    one = Process(Path(tmp_path_factory.mktemp("page")), **settings).start()
    wait_for(lambda: one.get("/ready")[0] == 200)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.resize(*WIDE)
    chromium.prefer("light")
    chromium.complaints()
    chromium.requested()
    return chromium


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def url(exporter: Process, path: str = "") -> str:
    return f"http://127.0.0.1:{exporter.port}/{path}"


def find(browser: Browser, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def tiles(browser: Browser) -> dict[str, str]:
    return {
        one.find_element(By.TAG_NAME, "dt").text: one.find_element(By.CLASS_NAME, "value").text
        for one in find(browser, ".tiles > div")
    }


def test_it_shows_figures_and_asks_nobody_else(browser: Browser, exporter: Process) -> None:
    for wanted, charts in (("24h", 6), ("7d", 7), ("30d", 7)):
        browser.get(url(exporter, f"?range={wanted}"))
        assert find(browser, ".banner")[0].text == "All is well"
        assert len(tiles(browser)) == 7
        drawn = find(browser, "svg")
        assert len(drawn) == len(find(browser, "section svg")) <= charts
        assert all(one.size["height"] > 100 for one in drawn)
        assert len(find(browser, "rect")) > 20
    assert {one.text for one in find(browser, ".legend li")} >= {"gpt-4o-mini", "web_search", "token_balance"}
    assert any("Physics" in one.text for one in find(browser, "section"))
    assert browser.complaints() == []
    assert browser.requested() == {url(exporter, f"?range={wanted}") for wanted in ("24h", "7d", "30d")}


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_cut_off(browser: Browser, exporter: Process, size: tuple[int, int]) -> None:
    browser.resize(*size)
    browser.get(url(exporter, "?range=30d"))
    assert browser.execute_script("return document.documentElement.scrollWidth") == size[0]
    for one in find(browser, "svg text"):
        box, chart = one.rect, one.find_element(By.XPATH, "./ancestor::*[name()='svg']").rect
        assert box["x"] >= chart["x"] - 1
        assert box["x"] + box["width"] <= chart["x"] + chart["width"] + 1, one.text
    assert browser.complaints() == []


# The contrast of texts with what is behind them, by WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
_CONTRASTS = """
const parse = text => text.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
const behind = node => {
  for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll('body *')]
  .filter(node => [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim()))
  .filter(node => node.getClientRects().length && node.localName !== 'title')
  .map(node => {
    const style = getComputedStyle(node);
    const text = luminance(parse(node.localName === 'text' ? style.fill : style.color));
    const [low, high] = [text, luminance(behind(node))].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), node.textContent.trim().slice(0, 40)];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_can_be_read_in_both_colour_schemes(browser: Browser, exporter: Process, scheme: str) -> None:
    browser.prefer(scheme)
    browser.get(url(exporter, "?range=7d"))
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 19, 24)"}[scheme]
    contrasts = browser.execute_script(_CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)


def test_a_keyboard_and_a_screen_reader(browser: Browser, exporter: Process) -> None:
    """Ranges and tables are reached by tabs; a chart has its title as its name, and a table behind it."""
    browser.get(url(exporter))
    body = find(browser, "body")[0]
    body.send_keys(Keys.TAB, Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.text == "7 days"
    assert focused.value_of_css_property("outline-style") == "solid"
    focused.send_keys(Keys.ENTER)
    wait_for(lambda: browser.current_url.endswith("?range=7d"))
    assert find(browser, "nav a[aria-current]")[0].text == "7 days"
    assert find(browser, "html")[0].get_attribute("lang") == "en"
    assert find(browser, ".banner")[0].aria_role == "status"
    for section in find(browser, "section"):
        for chart in section.find_elements(By.TAG_NAME, "svg"):
            assert chart.aria_role == "image"
            assert chart.accessible_name == section.find_element(By.TAG_NAME, "h2").text
            summary = section.find_element(By.TAG_NAME, "summary")
            summary.send_keys(Keys.ENTER)
            assert section.find_element(By.TAG_NAME, "table").is_displayed()
            assert len(section.find_elements(By.CSS_SELECTOR, "tbody tr")) >= 7
    levels = [int(one.tag_name[1]) for one in find(browser, "h1, h2")]
    assert levels == [1, *[2] * (len(levels) - 1)]


def test_mongodb_dies_and_comes_back(browser: Browser, exporter: Process, mongod: Mongod) -> None:
    """The banner is asked now, while the figures stay; the page itself comes anew each minute."""
    browser.get(url(exporter))
    before = tiles(browser)
    assert find(browser, 'meta[http-equiv="refresh"][content="60"]')
    mongod.kill()
    browser.refresh()
    banner = find(browser, ".banner")[0]
    assert banner.get_attribute("class") == "banner bad"
    assert "MongoDB does not answer" in banner.text
    assert browser.title.startswith("LibreChat's messages cannot be counted")
    assert tiles(browser) == before
    mongod.start()

    def is_well() -> bool:
        browser.refresh()
        return find(browser, ".banner")[0].get_attribute("class") == "banner good"

    wait_for(is_well)
    assert browser.complaints() == []


class _Proxy(BaseHTTPRequestHandler):
    """Serves the exporter below /monitoring/ and nothing else."""

    target = ""

    def do_GET(self) -> None:
        path = self.path.removeprefix("/monitoring/")
        if path == self.path:
            self.send_error(404)
            return
        request = urllib.request.Request(self.target + path, headers={"Accept": self.headers["Accept"]})
        with urllib.request.urlopen(request, timeout=10) as response:
            self.send_response(response.status)
            for name in ("Content-Type", "Content-Security-Policy"):
                if response.headers[name]:
                    self.send_header(name, response.headers[name])
            self.end_headers()
            self.wfile.write(response.read())

    def log_message(self, *_arguments: object) -> None:
        pass


def test_behind_a_path_prefix(browser: Browser, exporter: Process) -> None:
    handler = type("Proxy", (_Proxy,), {"target": url(exporter)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{proxy.server_port}/monitoring/"
            browser.get(base)
            browser.find_element(By.LINK_TEXT, "30 days").click()
            wait_for(lambda: browser.current_url == f"{base}?range=30d")
            assert browser.requested() == {base, f"{base}?range=30d"}
            browser.find_element(By.LINK_TEXT, "Metrics").click()
            wait_for(lambda: browser.current_url == f"{base}metrics")
            assert "librechat_messages_total" in browser.page_source
        finally:
            proxy.shutdown()
            thread.join()


def test_while_history_is_counted(browser: Browser, tmp_path: Path, mongod: Mongod) -> None:
    """A new state: there may be a bar for each collection, and soon there is none."""
    one = Process(tmp_path, MONGODB_URI=mongod.uri, MONGODB_DATABASE="university").start()
    try:
        seen = set()

        def is_well() -> bool:
            browser.get(url(one))
            seen.add(find(browser, ".banner")[0].get_attribute("class"))
            return "banner good" in seen

        wait_for(is_well)
        assert seen <= {"banner good", "banner doubtful"}
        assert not find(browser, "progress")
    finally:
        one.stop()
    assert browser.complaints() == []
