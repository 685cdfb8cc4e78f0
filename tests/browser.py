"""A real browser for tests: Chromium without a window, driven over WebDriver.

https://www.w3.org/TR/webdriver2/ is JSON over HTTP; chromedriver speaks it. Both are Debian
packages (chromium, chromium-driver), which `.ci/run` installs.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.topology import free_port

PATIENCE_SECONDS = 60.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine has a name or is reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, profile: Path, width: int, height: int) -> None:
        self._driver = driver
        options = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        order = {"capabilities": {"alwaysMatch": wanted}}
        self._session = f"/session/{self._call('POST', '/session', order)['sessionId']}"

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    def arrive(self, url: str) -> None:
        """Wait until it is at an address that begins like this: a click does not wait for it."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.url.startswith(url):
            assert time.monotonic() < until, f"it is at {self.url}"
            time.sleep(0.05)

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self._ask("GET", f"/element/{self._find('body')}/text"))

    def press(self, selector: str) -> None:
        """Click on the element that a CSS selector finds."""
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Write into the field that a CSS selector finds, in place of what is in it."""
        self._ask("POST", f"/element/{self._find(selector)}/clear", {})
        # Found anew: a page may replace a field that was cleared.
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any, pause: float = 0.1) -> Any:
        """What a script in the page returns, once that is something; asked for again and again."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < until, f"in vain: {script}"
            time.sleep(pause)
        return found

    def width_of_page(self) -> tuple[int, int]:
        """How wide the page is, and the window that shows it, in CSS pixels."""
        page, window = self.run("return [document.documentElement.scrollWidth, innerWidth]")
        return page, window

    def screenshot(self) -> bytes:
        """What a person sees, as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def resize(self, width: int, height: int) -> None:
        """Make the page this large, also narrower than a window can be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        order = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._ask("POST", "/goog/cdp/execute", order)

    def close(self) -> None:
        self._call("DELETE", self._session)

    def _find(self, selector: str) -> str:
        order = {"using": "css selector", "value": selector}
        return str(self._ask("POST", "/element", order)[ELEMENT])

    def _ask(self, method: str, path: str, order: Any = None) -> Any:
        return self._call(method, self._session + path, order)

    def _call(self, method: str, path: str, order: Any = None) -> Any:
        answer = self._driver.request(method, path, json=order)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextlib.contextmanager
def browsing(profile: Path, *, width: int = 1024, height: int = 768) -> Iterator[Browser]:
    """A browser with a new empty profile. Without Chromium the test is skipped, loudly."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"NO BROWSER: {' and '.join(missing)} not found, so this was NOT seen in one. "
            "Debian: apt-get install chromium chromium-driver"
        )
    port = free_port()
    process = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False
        ) as driver:
            _wait_for(driver, process)
            browser = Browser(driver, profile, width, height)
            try:
                yield browser
            finally:
                browser.close()
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _wait_for(driver: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if driver.get("/status").json()["value"]["ready"]:
                return
        assert process.poll() is None, "chromedriver ended"
        assert time.monotonic() < until, "chromedriver does not answer"
        time.sleep(0.05)
