"""Drives a real Chromium over a pipe, by its DevTools protocol. Needs no port and no driver.

https://chromedevtools.github.io/devtools-protocol/ has the methods and events.
"""

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]
PROGRAM = "chromium"
_ARGUMENTS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # the machine of the lab is the sandbox, and has a small /dev/shm
    *("--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars"),
)
_IN, _OUT = 3, 4
"""The descriptors on which Chromium reads and writes messages."""


class Page:
    """One tab: what it shows, and what goes wrong in it."""

    def __init__(self, browser: "Browser", target: str) -> None:
        self._browser = browser
        answer = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._target, self._session = target, answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> Message:
        """Call a method of the protocol and return its result."""
        return self._browser.call(method, self._session, **given)

    def open(self, file: Path, *, scripts: bool = True) -> None:
        """Show a file, and wait until it has loaded."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._browser.forget()
        answer = self.call("Page.navigate", url=file.as_uri())
        assert "errorText" not in answer, answer
        self._browser.wait_for("Page.loadEventFired", self._session)

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; an exception fails."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Give the window a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        """Set the user's preference: ``light`` or ``dark``."""
        self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}]
        )

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element, scrolled into view."""
        x, y = self.value(
            f"(() => {{ const each = document.querySelector({json.dumps(selector)});"
            " each.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            " const at = each.getBoundingClientRect();"
            " return [at.x + at.width / 2, at.y + at.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Save what is shown as a PNG; whole: from the top to the end of the page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    @property
    def problems(self) -> list[Message]:
        """What was logged as a warning or an error, and exceptions, since it was opened."""
        return [
            each["params"]
            for each in self._browser.events
            if each["method"] == "Runtime.exceptionThrown"
            or (each["method"] == "Log.entryAdded"
                and each["params"]["entry"]["level"] in ("warning", "error"))
            or (each["method"] == "Runtime.consoleAPICalled")
        ]  # fmt: skip

    @property
    def requests(self) -> list[str]:
        """What it fetched since it was opened, the file itself first."""
        return [
            each["params"]["request"]["url"]
            for each in self._browser.events
            if each["method"] == "Network.requestWillBeSent"
        ]


class Browser:
    """A Chromium without a window."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest = b""
        self._number = 0
        self.events: list[Message] = []

    def page(self) -> Page:
        """Open an empty tab."""
        return Page(self, self.call("Target.createTarget", url="about:blank")["targetId"])

    def call(self, method: str, session: str | None = None, **given: Any) -> Message:
        """Call a method and return its result; keep the events that come meanwhile."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": given}
        if session:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._writing, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                result: Message = answer["result"]
                return result
            self.events.append(answer)

    def forget(self) -> None:
        """Forget the events so far."""
        self.events.clear()

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event, unless it has come already."""
        while not any((x["method"], x.get("sessionId")) == (method, session) for x in self.events):
            answer = self._read()
            if "method" in answer:
                self.events.append(answer)

    def _read(self) -> Message:
        while b"\0" not in self._rest:
            piece = os.read(self._reading, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        first, _, self._rest = self._rest.partition(b"\0")
        message: Message = json.loads(first)
        return message


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in a folder; end it afterwards."""
    to_it, ours_out = os.pipe()
    ours_in, from_it = os.pipe()
    # the shell puts the pipes where Chromium looks for them, whatever their numbers are here
    script = f'exec "$@" {_IN}<&{to_it} {_OUT}>&{from_it}'
    with open(folder / "chromium.log", "wb") as log:
        chromium = subprocess.Popen(
            ["bash", "-c", script, "bash", PROGRAM, *_ARGUMENTS, f"--user-data-dir={folder}"],
            pass_fds=(to_it, from_it), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(to_it)
    os.close(from_it)
    browser = Browser(ours_in, ours_out)
    try:
        yield browser
        browser.call("Browser.close")
        chromium.wait(30)
    finally:
        os.close(ours_out)  # it ends by itself at the end of its input
        os.close(ours_in)
        try:
            chromium.wait(10)
        except subprocess.TimeoutExpired:
            chromium.kill()
            chromium.wait()
