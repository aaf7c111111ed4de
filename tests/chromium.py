"""A real browser, driven by the DevTools protocol over a pipe, for tests of pages."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SECONDS = 60.0  # for any one answer; a loaded machine is slow


class Browser:
    """One headless chromium with one page.

    Attributes:
        events: what the page told since the last `open`, in order.
    """

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
        ends = (*os.pipe(), *os.pipe())
        # Clear of 3 and 4, from which the browser reads commands and to which it writes answers.
        from_us, to_browser, from_browser, to_us = (fcntl.fcntl(e, fcntl.F_DUPFD, 10) for e in ends)
        for end in ends:
            os.close(end)
        command = f'exec "$0" "$@" 3<&{from_us} 4>&{to_us} {from_us}<&- {to_us}>&-'
        self.process = subprocess.Popen(
            [
                "bash", "-c", command, program, "--headless=new", "--remote-debugging-pipe",
                "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                f"--user-data-dir={profile}",
            ],
            pass_fds=(from_us, to_us), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._write, self._read, self._rest = to_browser, from_browser, b""
        self._number, self._session = 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._write)  # the browser ends with its pipe
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._read)

    def call(self, method: str, **parameters) -> dict:
        """Give a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, page: Path, width: int, height: int = 900) -> None:
        """Show a file in a window of that many CSS pixels and wait until it is loaded."""
        self.events = []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.call("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._message())

    def value(self, expression: str):
        """Evaluate JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """Return a PNG of what is in the window."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def tap(self, expression: str) -> None:
        """Tap with a finger on the middle of the element that the expression gives."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        box = self.value(
            f"(() => {{ const e = {expression}; e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect();"
            "return {x: b.x + b.width / 2, y: b.y + b.height / 2}; })()"
        )
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[box])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        time.sleep(0.3)  # a tap becomes a click after it

    def drag(self, expression: str, right: int) -> None:
        """Drag by so many CSS pixels with the mouse, from the middle of the element that is given."""
        box = self.value(
            f"(() => {{ const b = {expression}.getBoundingClientRect();"
            "return {x: b.x + b.width / 2, y: b.y + b.height / 2}; })()"
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)
        button = {"button": "left", "buttons": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", clickCount=1, **box, **button)
        box["x"] += right
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **box, **button)
        self.call(
            "Input.dispatchMouseEvent", type="mouseReleased", clickCount=1, **box, button="left"
        )

    def press(self, key: str) -> None:
        """Press a key, such as ArrowRight."""
        codes = {"ArrowRight": 39, "ArrowLeft": 37}
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=codes[key],
            )  # fmt: skip

    def complaints(self) -> list[dict]:
        """Return what the page threw or logged as an error or a warning."""
        found = []
        for event in self.events:
            method, what = event.get("method"), event.get("params", {})
            logged = method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning")
            said = method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning")
            if method == "Runtime.exceptionThrown" or logged or said:
                found.append(what)
        return found

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def _message(self) -> dict:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._read], [], [], left)[0], "no answer"
            block = os.read(self._read, 2**20)
            assert block, "the browser ended"
            self._rest += block
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)
