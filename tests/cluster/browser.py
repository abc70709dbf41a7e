"""A headless Chromium, steered through its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tornado.websocket import websocket_connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1400,950",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page of a Chromium with an empty profile."""

    def __init__(self, profile: Path) -> None:
        self.process = subprocess.Popen(
            [find_chromium() or "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        port_file = profile / "DevToolsActivePort"
        self._until(lambda: port_file.exists() and "\n" in port_file.read_text())
        port = port_file.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(p for p in json.load(answer) if p["type"] == "page")
        self.loop = asyncio.new_event_loop()
        self.socket = self._run(
            lambda: websocket_connect(page["webSocketDebuggerUrl"], max_message_size=2**26)
        )
        self.errors: list[str] = []
        self._number = 0
        self.command("Runtime.enable")
        self.command("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.command("Browser.close")
        self.process.wait(20)

        async def close() -> None:
            # Outside of the loop, tornado would make another one, which nobody closes.
            self.socket.close()

        self._run(close)
        self.loop.close()

    def _run(self, call: Callable[[], Any]) -> Any:
        async def wait() -> Any:
            return await asyncio.wait_for(call(), 30)

        return self.loop.run_until_complete(wait())

    @staticmethod
    def _until(condition: Any, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.1)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return the answer; collect what the page reports as errors."""
        self._number += 1
        number = self._number
        request = json.dumps({"id": number, "method": method, "params": parameters})
        self._run(lambda: self.socket.write_message(request))
        while True:
            text = self._run(self.socket.read_message)
            if text is None:
                return {}
            message = json.loads(text)
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        return self.command("Runtime.evaluate", expression=expression, returnByValue=True)[
            "result"
        ].get("value")

    def wait_for(self, expression: str, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression is true."""
        self._until(lambda: self.evaluate(expression) is True, seconds)

    def screenshot(self, path: Path) -> None:
        data = self.command("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
