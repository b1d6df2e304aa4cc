"""`make pictures`: the pictures of docs/images, of the demo's page and of dashboards over a past day."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tools.browser import Browser
from tools.draw import draw
from tools.past_day import PastDay
from tools.private_server import die_with_parent, free_port

_ROOT = Path(__file__).parent.parent
_IMAGES = _ROOT / "docs" / "images"
_GRAFANA = _ROOT / "prometheus-dev"
# By a picture's name the dashboard, and how many rows of Grafana's grid fit on a screen.
_DASHBOARDS = {
    "overview": (_GRAFANA / "Grafana-Dashboard-template.json", 21),
    "models-and-cost": (_GRAFANA / "grafana" / "dashboards" / "models-and-cost.json", 22),
    "quality": (_GRAFANA / "grafana" / "dashboards" / "quality.json", 26),
}
_WIDTH, _HEIGHT = 1280, 960
_READY_SECONDS = 120
_TRAFFIC_SECONDS = 60
_END_SECONDS = 30


def main() -> int:
    _IMAGES.mkdir(exist_ok=True)
    _page()
    with PastDay() as prometheus:
        for name, (path, rows) in _DASHBOARDS.items():
            draw(json.loads(path.read_text()), prometheus, prometheus.end, _IMAGES / f"{name}.png", rows)
    print(*sorted(path.name for path in _IMAGES.glob("*.png")))
    return 0


def _page() -> None:
    port = free_port()
    environment = os.environ | {"DEMO_PORT": str(port)}
    with subprocess.Popen([sys.executable, "-m", "tools.demo"], env=environment, preexec_fn=die_with_parent) as demo:
        try:
            _wait_until_ready(port)
            time.sleep(_TRAFFIC_SECONDS)
            with Browser() as browser:
                for name, scheme, wanted in (("page", "light", "7d"), ("page-dark", "dark", "30d")):
                    browser.prefer(scheme)
                    browser.resize(_WIDTH, _HEIGHT)
                    browser.get(f"http://127.0.0.1:{port}/?range={wanted}")
                    browser.save_screenshot(str(_IMAGES / f"{name}.png"))
        finally:
            demo.send_signal(signal.SIGINT)
            try:
                demo.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                demo.kill()


def _wait_until_ready(port: int) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError("the demo is not ready")


if __name__ == "__main__":
    sys.exit(main())
