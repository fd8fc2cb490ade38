"""A headless Chromium for tests, driven over the W3C WebDriver protocol with nothing but urllib.

chromedriver (Debian: chromium-driver) speaks plain HTTP and JSON, so that testing the page adds
no dependency. WebGL runs on SwiftShader, a software rasterizer; no network is reached.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]

SCRIPT_S = 540
"""A checker that looks at every element of a long page takes minutes on a busy machine."""


class BrowserError(RuntimeError):
    """chromedriver answered with an error."""


def missing() -> str:
    """Why there is no browser here, or an empty string."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return (
        f"not on PATH: {', '.join(absent)}; apt-get install chromium chromium-driver"
        if absent
        else ""
    )


class Browser:
    """One browser window; a context manager."""

    def __init__(self, profile: Path, *, flags: tuple[str, ...] = ()) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._log = (profile / "chromedriver.log").open("wb")
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._base = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._session = ""
        try:
            self._wait_for_driver()
            options = {
                "binary": shutil.which("chromium"),
                "args": [*FLAGS, *flags, f"--user-data-dir={profile}", "--window-size=1280,900"],
            }
            capabilities = {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
                "timeouts": {"script": 1000 * SCRIPT_S},
            }
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
            self._session = f"/session/{answer['sessionId']}"
            self.devtools("Page.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._session:
            self._call("DELETE", self._session)
            self._session = ""
        self._driver.terminate()
        self._driver.wait(timeout=20)
        self._log.close()

    def open(self, page: Path) -> None:
        self._call("POST", f"{self._session}/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: object) -> Any:
        """The value that ``script`` (a function body) returns; promises are awaited."""
        return self._call(
            "POST",
            f"{self._session}/execute/sync",
            {"script": script, "args": list(arguments)},
        )

    def wait_for(self, condition: str, seconds: float = 30.0) -> None:
        """Until the JavaScript expression ``condition`` is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > deadline:
                raise BrowserError(f"waited {seconds} s in vain for: {condition}")
            time.sleep(0.05)

    def console(self) -> list[dict[str, Any]]:
        """Console messages since the last call."""
        entries: list[dict[str, Any]] = self._call(
            "POST", f"{self._session}/se/log", {"type": "browser"}
        )
        return entries

    def devtools(self, command: str, **parameters: object) -> Any:
        """One DevTools protocol command, for what WebDriver lacks: screen size, colour scheme."""
        path = f"{self._session}/goog/cdp/execute"
        return self._call("POST", path, {"cmd": command, "params": parameters})

    def set_screen(
        self, width: int, height: int, *, mobile: bool = False, scale: float = 1.0
    ) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def set_colour_scheme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def press(self, *keys: str) -> None:
        """Type keys into what has the focus; names as in DevTools, like ``ArrowLeft``."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.devtools("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, *, whole_page: bool = False) -> bytes:
        """A PNG of the window, or of the page from top to bottom."""
        answer = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole_page)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        answer = self.devtools(
            "Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69
        )
        return base64.b64decode(answer["data"])

    def _wait_for_driver(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if method != "POST" else json.dumps(body).encode()
        request = urllib.request.Request(
            self._base + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=SCRIPT_S + 60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message']}") from None
