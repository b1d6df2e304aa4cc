"""Debian's Chromium without a window, driven by Selenium."""

import json
import os
import shutil
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_WIDTH, _HEIGHT = 1280, 900


class NoBrowserError(Exception):
    """Chromium or its driver is not installed."""


class Browser(webdriver.Chrome):
    """Raises NoBrowserError."""

    def __init__(self) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise NoBrowserError("There is no chromium or no chromedriver; run: tools/debian-packages.sh browser")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"):
            options.add_argument(argument)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium does not start its sandbox as root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        super().__init__(options, Service(driver))
        self.set_window_size(_WIDTH, _HEIGHT)

    def prefer(self, scheme: str) -> None:
        """As if the user preferred `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int, height: int) -> None:
        """The page's own size: a window cannot be as narrow as a telephone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """All that the page has written to the console since this was asked last."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def requested(self) -> set[str]:
        """The addresses that were asked for since this was asked last, without those that hold their own data."""
        messages: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        urls = {str(one["request"]["url"]) for one in sent}
        return {url for url in urls if not url.startswith("data:")}

    def _log(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.get_log(name)  # type: ignore[no-untyped-call]
        return entries
