"""What docs/alerts.md has somebody do, done, with stand-ins for notify-send, mail and curl."""

import fcntl
import http.server
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, is_as_shown
from tests.docs.how_to import block, here, section
from tests.machine import FOREVER, PROGRAM, ROOT, Scopekeeper, eventually, text_of

from .guard import Keeper
from .installed import UNIT as KEEPER
from .installed import Installed
from .manager import Units, systemctl

pytestmark = pytest.mark.systemd
PAGE = "alerts.md"


_CURL = """
import sys, urllib.request
address = sys.argv[-1]
if not address.startswith("http://127.0.0.1"):
    sys.exit("there is no network here")
how = {"Content-Type": "application/json"}
asked = urllib.request.Request(address, sys.stdin.buffer.read(), how, method="POST")
urllib.request.urlopen(asked).read()
"""
"""Posts its standard input, as the curl of the page does; ``tests/docs`` runs the real one."""


@pytest.fixture
def messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put stand-ins first in PATH that write each message to a file; return that file."""
    file = tmp_path / "messages"
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "notify-send": f'#!/bin/sh\nprintf "%s\\n" "$@" >>{file}\n',
        "mail": f'#!/bin/sh\n{{ printf "%s\\n" "$@"; cat; }} >>{file}\n',
        "curl": f"#!{sys.executable} -I{_CURL}",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}:{Path(PROGRAM).parent}:/usr/bin:/bin"
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
def alerts(guard: Keeper, messages: Path) -> Iterator[Callable[[str], None]]:
    """Provide a function that writes the file of the page, beside a keeper; then undo it."""
    file = "~/.config/scopekeeper/config.d/alerts.toml"
    assert f"`{file}`" in section(PAGE, "On the desktop")
    folder = Path(os.environ["SCOPEKEEPER_CONFIG"])
    path = folder / "config.d" / "alerts.toml"
    path.parent.mkdir()
    guard.start()
    yield path.write_text  # type: ignore[misc]
    line = block(PAGE, "Undo it", "sh").replace(os.path.dirname(os.path.dirname(file)), str(folder))
    assert subprocess.run(["sh", "-c", line]).returncode == 0, line
    assert not path.exists()


def crash(keeper: Scopekeeper, session: str) -> None:
    keeper.run("-s", session, "-n", "time", "--", "sh", "-c", "sleep 0.2; exit 7")


def test_the_desktop_shows_what_crashed_and_what_is_tried(
    keeper: Scopekeeper, session: str, messages: Path, alerts: Callable[[str], None]
) -> None:
    alerts(block(PAGE, "On the desktop", "toml"))
    tried = block(PAGE, "On the desktop", "sh")
    assert subprocess.run(["sh", "-c", tried]).returncode == 0
    dashes, title, text = text_of(messages).splitlines()
    assert (dashes, title) == ("--", "scopekeeper")
    assert text.startswith("test: example of agent:main:main ended: ")
    dry = subprocess.run(
        ["sh", "-c", f"{tried.strip()} --dry-run"], capture_output=True, text=True, check=True
    )
    assert f"SCOPEKEEPER_EVENT_MESSAGE={text}" in dry.stdout
    session = f"test:{session[-8:]}"
    crash(keeper, session)
    expected = f"time of {session} ended: exited: exit status 7"
    eventually(lambda: expected in text_of(messages))


def test_a_mail_has_the_sentence_and_the_json(
    keeper: Scopekeeper, messages: Path, alerts: Callable[[str], None]
) -> None:
    alerts(block(PAGE, "By mail", "toml"))
    assert keeper.call("policy", "test", "mail").returncode == 0
    option, subject, to, body = text_of(messages).splitlines()
    assert (option, to) == ("-s", "root")
    assert "ended: oom-killed" in subject
    assert json.loads(body)["message"] == subject


class _Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.got.append(self.rfile.read(length))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_webhook_gets_the_json_and_a_chat_a_form_of_its_own(
    keeper: Scopekeeper, session: str, messages: Path, alerts: Callable[[str], None]
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    got: list[bytes] = []
    server.got = got  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hook, chat = blocks(section(PAGE, "By a webhook"), "toml")
    address = f"http://127.0.0.1:{server.server_address[1]}/hook"
    alerts((hook + chat).replace("https://example.org/hook", address))
    try:
        crash(keeper, session)
        posted = json.loads(eventually(lambda: got)[0])
        assert (posted["session"], posted["exit_status"]) == (session, 7)
        done = keeper.call("policy", "test", "chat")
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(json.loads(got[1])) == ["text"]
        assert json.loads(got[1])["text"].startswith("test: example of agent:main:main ended: oom")
    finally:
        server.shutdown()
        server.server_close()


def test_what_loses_its_owner_is_reported_before_it_ends(
    keeper: Scopekeeper, session: str, messages: Path, alerts: Callable[[str], None]
) -> None:
    alerts(block(PAGE, "Before it is too late", "toml"))
    with subprocess.Popen(FOREVER) as owner:
        keeper.member("-s", session, "-n", "a", "--owner", str(owner.pid), "--", *FOREVER)
        owner.kill()
    eventually(lambda: "lost its owner: process " in text_of(messages))
    assert keeper.call("policy", "test", "nearly-full").returncode == 0
    assert "uses 3.2G of memory, 80 % of its limit of 4.0G" in text_of(messages)


def test_the_page_says_where_to_look_if_no_message_comes(
    installed: Installed, keeper: Scopekeeper, session: str, messages: Path
) -> None:
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir()
    text = block(PAGE, "By mail", "toml").replace('"mail"', '"no-mail"')
    (rules / "config.toml").write_text(text.replace("oom-killed", "failed"))
    checked = keeper.call("policy", "check")
    assert checked.returncode == 0
    assert "there is no program no-mail in PATH" in checked.stderr
    keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    assert systemctl("start", KEEPER).returncode == 0
    line = here(blocks(section(PAGE, "Check it"), "sh")[1]).strip()
    line = line.replace("--user ", "" if ROOT else "--user ")
    crash(keeper, session)
    eventually(lambda: "there is no program no-mail" in subprocess.getoutput(line))


@pytest.mark.controllers
def test_what_ran_out_of_memory_is_reported(
    guard: Keeper, messages: Path, alerts: Callable[[str], None]
) -> None:
    alerts(block(PAGE, "On the desktop", "toml"))
    line = blocks(section(PAGE, "Check it"), "sh")[0]

    def is_reported() -> str:
        subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL)
        return text_of(messages)

    reported = eventually(is_reported, seconds=150, pause=1)
    assert "\ntail of alert-test ended: oom-killed: " in reported


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
