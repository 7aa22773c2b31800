"""What docs/alerts.md has somebody do, done, with a stand-in for notify-send."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, is_as_shown
from tests.docs.how_to import block, here, section
from tests.machine import FOREVER, PROGRAM, Scopekeeper, eventually, text_of

from .guard import Keeper
from .manager import Units, systemctl

pytestmark = pytest.mark.systemd
PAGE = "alerts.md"
OOM = "SCOPEKEEPER_REASON=oom-killed"


@pytest.fixture
def messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in first in PATH that writes each message to a file; return that file."""
    file = tmp_path / "messages"
    program = tmp_path / "bin" / "notify-send"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{file}\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(PROGRAM).parent}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    return file


def with_path(unit: str) -> str:
    """Return a unit whose commands are found where this test's are."""
    state = os.environ.get("SCOPEKEEPER_STATE", "")
    more = f"Environment=PATH={os.environ['PATH']}\nEnvironment=SCOPEKEEPER_STATE={state}\n"
    return unit.replace("[Service]\n", f"[Service]\n{more}")


def test_watch_prints_what_the_page_shows(keeper: Scopekeeper, messages: Path) -> None:
    shown = block(PAGE, "Watch by hand", "")
    keeper.member("-s", "agent:main:main", "-n", "time", "--", *FOREVER)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 200, 0, 0))
    watch = keeper.popen(
        block(PAGE, "Watch by hand", "sh").split(), stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    with open(ours, encoding="utf-8") as screen:
        assert "watching" in watch.stderr.readline()
        lines = [screen.readline() for _ in range(3)]
        assert keeper.call("stop", "-s", "agent:main:main").returncode == 0
        lines += sorted((screen.readline() for _ in range(2)), key=lambda line: "time" not in line)
        watch.send_signal(signal.SIGINT)
        watch.wait(300)
    printed = "".join(lines)
    assert is_as_shown(printed, re.sub(r"\d\d:\d\d:\d\d", "…", shown)), printed
    assert watch.returncode == 0


def test_the_journal_has_every_end_with_its_fields(
    keeper: Scopekeeper, session: str, messages: Path
) -> None:
    session = f"test:{session[-8:]}"
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0
    every, oom = block(PAGE, "Ask the journal", "sh").splitlines()
    line = f"time of {session} ended: stopped by request"
    eventually(lambda: line in subprocess.getoutput(every))
    assert line not in subprocess.getoutput(oom)
    fields = "|".join(blocks(section(PAGE, "Ask the journal"), "sh"))
    assert fields.count("MESSAGE_ID=") == 2
    found = subprocess.getoutput(f"{every} SCOPEKEEPER_SESSION={session} -o verbose")
    names = re.findall(r"`(\w+)`", section(PAGE, "Ask the journal").partition("| field")[2])
    for name in names[: names.index("MESSAGE") + 1]:
        whole = f"SCOPEKEEPER{name}" if name.startswith("_") else name
        assert f"    {whole}=" in found or whole in ("SCOPEKEEPER_RUN", "SCOPEKEEPER_LABEL"), whole


@pytest.fixture
def alert(messages: Path) -> Iterator[str]:
    """Follow "Have a service notify you" with the unit that a test asks for, and undo it."""
    path = Path(here("~/.config/systemd/user/oom-alert.service")).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    yield str(path)
    for line in here(block(PAGE, "Undo it", "sh")).splitlines():
        assert subprocess.run(["sh", "-c", line]).returncode == 0, line
    assert not path.exists()
    systemctl("daemon-reload")


def start(path: str, text: str) -> None:
    Path(path).write_text(with_path(text))
    for line in here(block(PAGE, "Have a service", "sh")).splitlines():
        assert subprocess.run(["sh", "-c", line]).returncode == 0, line


def test_the_service_reports_ends_of_the_reason_that_it_names(
    keeper: Scopekeeper, session: str, messages: Path, alert: str
) -> None:
    session = f"test:{session[-8:]}"
    text = block(PAGE, "Have a service", "ini")
    assert OOM in text
    start(alert, text.replace(OOM, '"SCOPEKEEPER_REASON=stopped by request"'))

    def is_reported() -> str:  # journalctl follows some time after its start
        keeper.member("-s", session, "-n", "time", "--", *FOREVER)
        assert keeper.call("stop", "-s", session).returncode == 0
        return text_of(messages)

    reported = eventually(is_reported, pause=0.5)
    expected = f"scopekeeper: time of {session} ended: stopped by request: asked for by "
    assert reported.startswith(expected)


@pytest.mark.controllers
def test_the_service_reports_what_ran_out_of_memory(
    guard: Keeper, messages: Path, alert: str
) -> None:
    guard.start()
    start(alert, block(PAGE, "Have a service", "ini"))

    def is_reported() -> str:
        subprocess.run(["sh", "-c", block(PAGE, "Check it", "sh")], stdin=subprocess.DEVNULL)
        return text_of(messages)

    reported = eventually(is_reported, seconds=150, pause=1)
    assert reported.startswith("scopekeeper: tail of alert-test ended: oom-killed: ")


def test_a_gateway_that_fails_is_reported_with_what_ended(
    keeper: Scopekeeper, units: Units, session: str, messages: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    drop_in, template = blocks(section(PAGE, "When the gateway itself"), "ini")
    units.write("gateway-failed@.service", with_path(template))
    units.write("my-gateway.service", "[Service]\nExecStart=sh -c 'sleep 1; exit 3'\n")
    units.write("my-gateway.service.d/10-report.conf", drop_in)
    keeper.member("-s", session, "-n", "time", "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert systemctl("start", "my-gateway.service").returncode == 0
    first, *table = eventually(lambda: text_of(messages)).splitlines()
    units.adopt("gateway-failed@my-gateway.service.service")
    assert first == "my-gateway.service failed"
    assert session in eventually(lambda: "\n".join(table) or text_of(messages))
