"""Commands of ``[on_end]`` and ``[on_event]``: what they get, where they run, and their bounds."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PATIENCE,
    PROGRAM,
    ROOT,
    Scopekeeper,
    cgroup_of,
    eventually,
    is_alive,
    text_of,
)

from .guard import UNIT as GUARD
from .guard import Keeper
from .installed import UNIT as INSTALLED
from .installed import Installed
from .manager import systemctl, systemd_run_argv

pytestmark = pytest.mark.systemd

PREFIX = "scopekeeper-event-"


class Written:
    """A program that writes down what it is given, a file for each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "written"
        self.folder.mkdir()
        self.program = folder / "write-down"
        self.program.write_text(
            f"#!{sys.executable} -I\n"
            "import json, os, sys\n"
            "found = {'argv': sys.argv[1:], 'environ': dict(os.environ), 'uid': os.getuid(),\n"
            "         'stdin': sys.stdin.read(), 'cgroup': open('/proc/self/cgroup').read()}\n"
            f"path = f'{self.folder}/{{os.getpid()}}'\n"
            "open(path + '.new', 'w').write(json.dumps(found))\n"
            "os.rename(path + '.new', path + '.json')\n"
        )
        self.program.chmod(0o755)

    def all(self) -> list[dict[str, Any]]:
        """Return what each start was given, the earliest first."""
        files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text()) for path in files]

    def first(self) -> dict[str, Any]:
        """Wait for the first start."""
        return eventually(self.all)[0]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def words(*of: object) -> str:
    """Return a list of words as TOML has it."""
    return json.dumps([str(each) for each in of])


Said = Callable[..., list[str]]


@pytest.fixture
def said() -> Said:
    """Return a function that returns what a keeper has logged about commands in this test."""
    since = f"--since=@{time.time():.6f}"

    def look(unit: str = GUARD) -> list[str]:
        of = [] if ROOT else ["--user"]
        argv = ["journalctl", *of, "-u", unit, since, "--no-pager", "-o", "cat"]
        done = subprocess.run(argv, capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if line.startswith("on_e")]

    return look


def event_units() -> list[str]:
    """Return the loaded units of commands."""
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--full", f"{PREFIX}*")
    return [line.split()[0] for line in listed.stdout.splitlines()]


def crash(keeper: Scopekeeper, session: str, *options: str) -> None:
    """Run a member that exits with status 7."""
    assert keeper.run("-s", session, "-n", "crasher", *options, "--",
                      "sh", "-c", "sleep 0.2; exit 7").returncode == 7  # fmt: skip


def test_a_command_gets_the_end_as_words_variables_and_json(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written, said: Said
) -> None:
    guard.policy(
        '[on_end.note]\nreasons = ["failed"]\n'
        f"command = {words(written.program, '$SCOPEKEEPER_EVENT_MESSAGE', '$HOME %h', 'a b')}\n"
    )
    guard.start()
    assert keeper.run("-s", session, "--", "true").returncode == 0
    crash(keeper, session)
    got = written.first()
    assert got["argv"][1:] == ["$HOME %h", "a b"]
    assert got["argv"][0].startswith("crasher of test:")
    assert got["argv"][0].endswith(" ended: exited: exit status 7")
    variables = {name: value for name, value in got["environ"].items()
                 if name.startswith("SCOPEKEEPER_EVENT")}  # fmt: skip
    assert variables["SCOPEKEEPER_EVENT"] == "MemberEnded"
    assert variables["SCOPEKEEPER_EVENT_SESSION"] == session
    assert variables["SCOPEKEEPER_EVENT_REASON"] == "exited"
    assert variables["SCOPEKEEPER_EVENT_EXIT_STATUS"] == "7"
    assert variables["SCOPEKEEPER_EVENT_RULE"] == "on_end.note"
    assert not {"SCOPEKEEPER_SCOPE", "SCOPEKEEPER_MEMBER"} & got["environ"].keys()
    told = json.loads(got["stdin"])
    (end,) = eventually(lambda: [x for x in guard.history(session) if x["exit_status"] == 7])
    for key in ("session", "lane", "reason", "exit_status", "signal", "unit"):
        assert told[key] == end[key], key
    assert got["uid"] == os.getuid()
    home = got["environ"]["HOME"]
    assert home == os.path.expanduser(f"~{got['environ']['USER']}")
    assert len(written.all()) == 1, "the end of `true` is none that it asks for"
    assert not said()


def test_it_runs_as_a_service_of_its_own_and_nothing_of_it_stays(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    guard.policy(
        "[on_end.note]\nshell = true\n"
        f"command = '{written.program}; setsid sleep 1000 & echo $! >{left}; sync'\n"
    )
    guard.start()
    crash(keeper, session)
    path = written.first()["cgroup"].strip().rpartition("::")[2]
    unit = path.rpartition("/")[2]
    assert unit.startswith(f"{PREFIX}note-")
    assert unit.endswith(".service")
    assert "scopekeeper.slice" not in path, "its kills would count as those of a scope"
    assert cgroup_of(guard.pid) != path
    pid = int(eventually(lambda: text_of(left)))
    eventually(lambda: not is_alive(pid))
    eventually(lambda: not event_units())
    assert not os.path.exists(MOUNT + path)


class _Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted."""

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[bytes]]]:
    """Listen on the loopback; yield the address, and what was posted."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    server.got = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", server.got  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_it_reaches_the_network_that_the_installed_keeper_may_not(
    installed: Installed,
    keeper: Scopekeeper,
    session: str,
    webhook: tuple[str, list[bytes]],
    said: Said,
) -> None:
    address, got = webhook
    post = (
        "import sys, urllib.request as u; "
        f"u.urlopen(u.Request({address!r}, sys.stdin.buffer.read(), method='POST'))"
    )
    rules = Path(os.environ["SCOPEKEEPER_CONFIG"])
    rules.mkdir()
    command = words(sys.executable, "-I", "-c", post)
    (rules / "config.toml").write_text(f'[on_end.hook]\nreasons = "failed"\ncommand = {command}\n')
    crash(keeper, session)
    systemctl("start", INSTALLED)
    assert eventually(lambda: installed.pid)
    keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    crash(keeper, session)
    (posted,) = [json.loads(each) for each in eventually(lambda: list(got))]
    assert (posted["session"], posted["exit_status"]) == (session, 7)
    assert not said(INSTALLED)


def test_one_that_takes_too_long_is_ended_and_logged_and_not_repeated(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path, said: Said
) -> None:
    pids = tmp_path / "pids"
    guard.policy(
        f'[on_end.hangs]\ntimeout = "500ms"\nshell = true\n'
        f"command = 'echo $$ >>{pids}; echo stuck; exec sleep 1000'\n"
        '[on_end.fails]\ncommand = ["false"]\n[on_end.missing]\ncommand = ["no-such-program"]\n'
    )
    guard.start()
    crash(keeper, session)
    missing = "there is no program no-such-program in PATH; give its whole path"
    lines = eventually(lambda: sorted(said()) if len(said()) > 2 else [])
    assert lines == [
        "on_end.fails: its command failed, and is not repeated: exit status 1",
        "on_end.hangs: its command failed, and is not repeated: it did not end in 0.5s: stuck",
        f"on_end.missing: its command failed, and is not repeated: {missing}",
    ]
    (pid,) = text_of(pids).split()
    assert not is_alive(int(pid))
    crash(keeper, session)
    eventually(lambda: len(text_of(pids).split()) == 2)
    eventually(lambda: not event_units())
    assert len(said()) == 3, "what fails again as before is known"


def test_a_changed_policy_is_followed_and_an_invalid_one_is_not(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written
) -> None:
    def crash_and_wait() -> None:
        """Return once the end is reported: the rules of that moment are for it."""
        count = len(guard.history(session))
        crash(keeper, session)
        eventually(lambda: len(guard.history(session)) > count)

    guard.policy("")
    guard.start()
    crash_and_wait()
    rule = f"[on_end.note]\ncommand = {words(written.program)}\n"
    guard.policy(rule)
    crash_and_wait()
    eventually(lambda: len(written.all()) == 1)
    guard.policy(rule + 'timeout = "for ever"')
    crash_and_wait()
    eventually(lambda: len(written.all()) == 2)
    guard.policy(rule + "enabled = false")
    crash_and_wait()
    guard.policy(rule)
    crash_and_wait()
    eventually(lambda: len(written.all()) == 3)


def test_what_a_command_launches_itself_begins_no_circle(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written
) -> None:
    again = f'{PROGRAM} run -s {session}:again -n again -- sh -c "sleep 0.5; exit 3"'
    guard.policy(f"[on_end.again]\nshell = true\ncommand = '{written.program}; {again}'\n")
    guard.start()
    crash(keeper, session)
    (end,) = guard.ends(f"{session}:again")
    assert end["owner"].startswith(PREFIX)  # type: ignore[attr-defined]
    crash(keeper, session)  # its command comes after one for the end before, if there was any
    found = eventually(lambda: written.all() if len(written.all()) > 1 else [])
    assert {each["environ"]["SCOPEKEEPER_EVENT_MEMBER"] for each in found} == {"crasher"}
    assert len(found) == 2
    eventually(lambda: len(guard.history(f"{session}:again")) == 2)


def test_a_storm_of_ends_starts_a_few_at_once_and_counts_the_rest(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path, said: Said
) -> None:
    log = tmp_path / "log"
    most, members = 105, 150
    guard.policy(
        "[on_end.slow]\nshell = true\nrate = 600\n"
        f"command = 'echo begin >>{log}; sleep 0.3; "
        f"echo end $SCOPEKEEPER_EVENT_DROPPED >>{log}'\n"
    )
    guard.start()
    for number in range(members):
        keeper.member("-s", session, "-n", f"m{number}", "--", *FOREVER)
    assert keeper.call("stop", "-s", session).returncode == 0

    def whole() -> list[str]:
        """Return the lines of all starts, once no more comes."""
        is_quiet = len(said()) == 2 and not event_units()
        return text_of(log).splitlines() if is_quiet else []

    lines = eventually(whole, seconds=4 * PATIENCE, pause=0.5)
    now = highest = 0
    for line in lines:
        now += 1 if line == "begin" else -1
        highest = max(highest, now)
    assert 1 < highest <= 4
    dropped = sum(int(line.split()[1]) for line in lines if line.startswith("end"))
    assert lines.count("begin") + dropped == members
    assert lines.count("begin") <= most
    first, second = said()
    assert first.startswith("on_end.slow: 100 events wait for its command; more are dropped")
    assert second == f"on_end.slow: its command was not started for {dropped} events"


def test_a_member_that_lost_its_owner_is_reported(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written
) -> None:
    guard.policy(
        '[lanes.default]\norphan_grace = "1h"\n'
        f'[on_event.lost]\nevents = ["OrphanFound"]\ncommand = {words(written.program)}\n'
    )
    guard.start()
    with subprocess.Popen(FOREVER) as owner:
        keeper.member("-s", session, "-n", "a", "--owner", str(owner.pid), "--", *FOREVER)
        owner.kill()
    told = json.loads(written.first()["stdin"])
    assert (told["event"], told["member"], told["session"]) == ("OrphanFound", "a", session)
    assert f"process {owner.pid} has ended" in told["evidence"]
    crash(keeper, session)
    guard.ends(session)
    assert len(written.all()) == 1


def test_a_process_that_left_its_scope_is_reported_with_where_it_is(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written, tmp_path: Path
) -> None:
    guard.policy(
        'escaped = "report"\n'
        f'[on_event.left]\nevents = ["ProcessEscaped"]\ncommand = {words(written.program)}\n'
    )
    guard.start()
    away = " ".join(systemd_run_argv("--scope", "--unit=told-escaped", "--", "sleep", "1000"))
    keeper.run("-s", session, "-n", "leaver", "--kind", "exec", "--", "sh", "-c",
               f"{away} >/dev/null 2>&1 & sleep 1")  # fmt: skip
    try:
        told = json.loads(written.first()["stdin"])
    finally:
        systemctl("stop", "told-escaped.scope")
    assert (told["event"], told["member"], told["session"]) == ("ProcessEscaped", "leaver", session)
    assert "told-escaped.scope" in told["evidence"]
    assert told["program"] == "sleep"


@pytest.mark.controllers
def test_memory_near_its_limit_is_reported_once_and_by_nobody_else(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written
) -> None:
    guard.policy(
        '[on_event.near]\nevents = ["MemoryHigh"]\nmemory_share = "50%"\n'
        f"command = {words(written.program)}\n"
    )
    guard.start()
    hold = "x = b'x' * (80 << 20); print(len(x), flush=True); import time; time.sleep(1000)"
    member = keeper.start("-s", session, "-n", "eater", "--member-memory-max", "128M", "--",
                          sys.executable, "-c", hold, stdout=subprocess.PIPE)  # fmt: skip
    assert member.stdout is not None
    assert member.stdout.readline()
    got = written.first()
    told = json.loads(got["stdin"])
    assert (told["event"], told["member"], told["session"]) == ("MemoryHigh", "eater", session)
    assert told["limit_bytes"] == 128 << 20
    assert 64 << 20 <= told["memory_bytes"] <= 128 << 20
    assert "of its limit of 128M" in got["environ"]["SCOPEKEEPER_EVENT_MESSAGE"]
    assert keeper.call("stop", "-s", session).returncode == 0
    guard.ends(session)
    assert len(written.all()) == 1


@pytest.mark.controllers
def test_a_command_cannot_take_the_memory_of_the_machine(
    guard: Keeper, keeper: Scopekeeper, session: str, said: Said
) -> None:
    guard.policy('[on_end.eats]\nmemory_max = "32M"\ncommand = ["tail", "/dev/zero"]\n')
    guard.start()
    crash(keeper, session)
    (line,) = eventually(said)
    assert line == (
        "on_end.eats: its command failed, and is not repeated: it needs more memory than 32M"
    )
    (end,) = guard.ends(session)
    assert end["reason"] == "exited", "it was no kill in the scope"


def test_a_command_can_be_tried_by_hand(
    guard: Keeper, keeper: Scopekeeper, written: Written
) -> None:
    guard.policy(
        f"[on_end.note]\ncommand = {words(written.program, '$SCOPEKEEPER_EVENT_MESSAGE')}\n"
        "[on_end.fails]\nshell = true\ncommand = 'echo why; exit 3'\n"
    )
    dry = keeper.call("policy", "test", "note", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert not written.all()
    done = keeper.call("policy", "test", "on_end.note")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("on_end.note: its command succeeded after ")
    (got,) = written.all()
    assert got["argv"] == ["test: example of agent:main:main ended: exited: this is no real end"]
    assert f"SCOPEKEEPER_EVENT_MESSAGE={got['argv'][0]}\n" in dry.stdout
    assert PREFIX in got["cgroup"]
    assert got["environ"]["SCOPEKEEPER_EVENT_TEST"] == "1"
    failed = keeper.call("policy", "test", "fails")
    assert (failed.returncode, failed.stdout) == (1, "why\n")
    assert failed.stderr == "scopekeeper: on_end.fails: its command failed: exit status 3\n"
    missing = keeper.call("policy", "test", "other")
    assert missing.returncode == 4
    assert len(missing.stderr.splitlines()) == 1


@pytest.mark.root
def test_roots_keeper_runs_no_command_of_a_user(
    guard: Keeper, keeper: Scopekeeper, session: str, written: Written
) -> None:
    guard.policy(f"[on_end.note]\ncommand = {words(written.program)}\n")
    os.chown(guard.rules / "config.toml", 1000, 1000)
    guard.start()
    crash(keeper, session)
    guard.ends(session)
    os.chown(guard.rules / "config.toml", 0, 0)
    (guard.rules / "config.toml").touch()
    crash(keeper, session)
    written.first()
    assert len(written.all()) == 1


def test_the_keeper_stays_until_the_command_has_ended(
    guard: Keeper, keeper: Scopekeeper, session: str, tmp_path: Path, said: Said
) -> None:
    done = tmp_path / "done"
    guard.policy(f"[on_end.slow]\nshell = true\ncommand = 'sleep 2; echo yes >{done}; exit 9'\n")
    stays = keeper.member("-s", f"{session}:stays", "--", *FOREVER)
    guard.start("--linger", "200ms")
    crash(keeper, session)
    stays.kill()
    assert eventually(lambda: text_of(done)) == "yes\n"
    eventually(said)
    assert said() == ["on_end.slow: its command failed, and is not repeated: exit status 9"]
    eventually(lambda: not guard.pid)


def test_a_keeper_that_is_killed_leaves_the_command_to_its_end(
    guard: Keeper, keeper: Scopekeeper, session: str, said: Said, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    slow = f"echo begun >{done}; sleep 2; echo yes >>{done}; exit 9"
    guard.policy(f"[on_end.slow]\nshell = true\ncommand = '{slow}'\n")
    guard.start()
    keeper.member("-s", session, "-n", "stays", "--", *FOREVER)
    crash(keeper, session)
    eventually(lambda: text_of(done))
    killed = guard.pid
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: text_of(done) if "yes" in text_of(done) else "") == "begun\nyes\n"
    assert eventually(lambda: guard.pid) != killed
    assert not said(), "nobody has waited for it"
    os.kill(guard.pid, signal.SIGKILL)  # what it left as failed, the next one has forgotten
    eventually(lambda: not event_units())
