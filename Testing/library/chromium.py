"""A headless Chromium that opens a page from disk, driven over the DevTools protocol; no network is let through."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell", "chrome")
_START_S = 30
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--no-zygote",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
    "--window-size=1200,1400",
)


def found() -> str | None:
    """The browser that SPIKEREG_CHROMIUM names, or the first on PATH; None where there is none."""
    return os.environ.get("SPIKEREG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page in a browser of its own.

    Attributes:
        requests: addresses of everything the page asked for.
        errors: what it wrote to the console as an error, and what it did not catch.
    """

    def __init__(self, program: str, folder: Path, *arguments: str) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._count = 0
        self._loop = asyncio.new_event_loop()
        command = [program, *_ARGUMENTS, *arguments, f"--user-data-dir={folder}", "about:blank"]
        with open(folder / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._socket = self._wait(self._connect(folder))
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def open(self, path: Path) -> None:
        self.ask("Page.navigate", url=path.absolute().as_uri())

    def value(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        reply = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def until(self, script: str, seconds: float = 90.0) -> Any:
        """The first value of the expression that is true in JavaScript's sense."""
        end = time.monotonic() + seconds
        while not (value := self.value(script)):
            assert time.monotonic() < end, f"{script}: not within {seconds:g} s; {self.errors}"
            self._wait(asyncio.sleep(0.1))
        return value

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        return self._wait(self._ask(self._count, method, parameters))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._loop.close()

    def _wait(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    async def _connect(self, folder: Path) -> Any:
        from tornado.websocket import websocket_connect

        end, port_file = time.monotonic() + _START_S, folder / "DevToolsActivePort"
        while not (port_file.is_file() and port_file.read_text().strip()):
            log = (folder / "chromium.log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None and time.monotonic() < end, f"Chromium did not start: {log}"
            await asyncio.sleep(0.1)
        port = int(port_file.read_text().split()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_START_S) as answer:
            target = next(entry for entry in json.load(answer) if entry["type"] == "page")
        return await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 28)

    async def _ask(self, number: int, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while number not in self._answers:
            message = await asyncio.wait_for(self._socket.read_message(), 120)
            assert message is not None, "Chromium has ended"
            self._take(json.loads(message))
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        what = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif message["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(what["exceptionDetails"]))
        elif (message["method"] == "Runtime.consoleAPICalled" and what["type"] == "error") or (
            message["method"] == "Log.entryAdded" and what["entry"]["level"] == "error"
        ):
            self.errors.append(json.dumps(what))
