"""``top`` at a real terminal, by tmux and by a terminal of the test's own: seen, typed, resized."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    PROGRAM,
    Scopekeeper,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    scope_directory,
    state_of,
    text_of,
)
from tests.viewer import Viewer

from .installed import Installed
from .manager import Units
from .pane import Pane, panes
from .test_exec import begin

pytestmark = pytest.mark.systemd

Call = Callable[..., Viewer]
SLOW = ("--delay", "1h")
"""Nothing is seen but by the first looks, and by events."""
STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Callable[..., Pane]]:
    with panes(tmp_path) as call:
        yield call


@pytest.fixture
def name() -> str:
    """Name a group of sessions, short enough to be whole in 80 columns."""
    return f"t{uuid.uuid4().hex[:6]}"


def stopped(keeper: Scopekeeper, session: str) -> list[tuple[object, object]]:
    """Return the reasons for which members of a session have ended, and who asked for it."""
    done = keeper.call("history", "-s", session, "--json")
    assert done.returncode == 0, done.stderr
    return [(end["reason"], end["evidence"]) for end in json.loads(done.stdout)["ends"]]


@pytest.mark.parametrize(("cols", "rows"), [(80, 24), (200, 50)])
def test_one_scope_is_found_opened_and_stopped_and_nothing_else(
    keeper: Scopekeeper, pane: Callable[..., Pane], name: str, cols: int, rows: int
) -> None:
    mine = [keeper.member("-s", f"{name}:{each}", "-n", f"tool{each}", "--", *FOREVER)
            for each in "abc"]  # fmt: skip
    top = pane(cols, rows)
    lines = top.shows(rf"{name}:c .*\n")
    assert len(lines) <= rows
    assert max(map(len, lines)) <= cols
    assert "load" in lines[0]
    assert lines[1].startswith("memory")
    for title in ("SESSION", "STATE", "CPU%", "PROCS", "IDLE", "AGE", "OWNER"):
        assert title in lines[3].split()
    top.type("/", *name, ":", "b")
    top.shows(rf"filter {name}:b: 1 scope of 1 session, 1 member, 1 process")
    top.type("Enter", "Enter")
    top.shows(rf"(?s)session +{name}:b.*\n +{mine[1].pid} |toolb +{mine[1].pid} ")
    top.shows("the history has no end of it")
    top.type("q", "s")
    lines = top.shows("stop it\\? y: yes")
    assert f"Stop scopekeeper-{name}:b-main.scope" in lines[0]
    assert any("would end 1 process" in line for line in lines)
    assert any(f"pid {mine[1].pid}" in line for line in lines)
    assert not any(f"pid {mine[0].pid}" in line or f"pid {mine[2].pid}" in line for line in lines)
    top.type("n")
    top.shows("nothing was stopped")
    assert all(is_alive(each.pid) for each in mine)
    top.type("s")
    top.shows("stop it\\? y: yes")
    top.type("y")
    top.shows(f"{name}:b-main.scope: gone after [0-9]+ ms; 1 process terminated")
    assert mine[1].wait(60) == -signal.SIGTERM
    assert not scope_directory(f"{name}:b")
    assert is_alive(mine[0].pid)
    assert is_alive(mine[2].pid)
    ((reason, evidence),) = stopped(keeper, f"{name}:b")
    assert reason == "stopped by request"
    assert "asked for by sh (pid " in str(evidence)
    top.type("Escape")
    top.shows(f"{name}:c ")
    assert not any(f"{name}:b" in line for line in top.lines[:-1])
    top.type("q")
    top.shows("status 0")


def test_a_resize_is_followed_in_both_directions(
    keeper: Scopekeeper, pane: Callable[..., Pane], name: str
) -> None:
    for number in range(30):
        keeper.start("-s", f"{name}:{number:02}", "--", *FOREVER)
    eventually(lambda: len(keeper.scopes()) >= 30)
    top = pane(80, 24, "--sort", "session")
    top.shows(f"{name}:18 ")
    top.resize(200, 50)
    lines = top.shows(f"{name}:29 ")
    assert "q quit" in lines[49], "the last line is the last"
    assert "OWNER" in lines[3]
    top.type("End")
    top.resize(40, 10)
    lines = top.shows(rf"(?s)\A([^\n]*\n){{3}}SESSION[^\n]*\n.*{name}:29[^\n]*\n[^\n]*q quit")
    assert len(lines) == 10
    assert max(map(len, lines)) <= 40
    top.resize(80, 24)
    lines = top.shows(f"(?s){name}:11 .*{name}:29 ")
    assert "q quit" in lines[23]
    top.type("q")
    top.shows("status 0")


@pytest.mark.controllers
def test_memory_has_a_bar_against_its_limit(keeper: Scopekeeper, viewer: Call, name: str) -> None:
    program = "held = bytearray(90 << 20); import time; time.sleep(1e6)"
    words = ("-s", name, "--memory-max=100M", "--", sys.executable, "-c", program)
    process = keeper.member(*words)
    top = viewer("top", "-s", name, cols=120)
    lines = top.until(lambda lines: re.search(r"9\dM \|\|\|\|\|[.|]", "\n".join(lines)))
    assert "LIMIT" in lines[3].split()
    assert "100M" in lines[4]
    current = int(text_of(f"{os.path.dirname(directory_of(process.pid))}/memory.current"))
    assert current > 90 << 20
    top.type("M\r")
    top.shows(" of 100M, ")
    top.type("qq")
    assert top.status() == 0


def test_members_folds_sorts_keys_and_why(
    keeper: Scopekeeper, pane: Callable[..., Pane], name: str
) -> None:
    keeper.member("-s", name, "-n", "alpha", "--", *FOREVER)
    keeper.member("-s", name, "-n", "beta", "--", "sh", "-c", "while :; do :; done")
    keeper.member("-s", name, "-l", "cron", "--", *FOREVER)
    top = pane(120, 30, "-s", name)
    top.shows("2 scopes of 1 session, 3 members, 3 processes")
    top.shows(rf"{name} +main .* +running +\d\d")
    top.type("m")
    top.shows(rf"(?s){name}.* alpha .*{name}.* beta ")
    top.shows(r"beta .* running +\d\d+")
    top.type("N", "C")
    lines = top.shows(r"(?s) beta .* alpha ")
    assert "beta" in lines[4]
    top.type("m", "f")
    top.shows(rf"\+2 {name} ")
    top.type("Enter")
    top.shows(rf"(?s)\n{name} +cron.*\n{name} +main|\n{name} +main.*\n{name} +cron")
    top.type("?")
    top.shows("stop: shows what would end, and asks")
    top.type("q", "w")
    top.shows("is running since")
    top.type("q", "q")
    top.shows("status 0")


def test_what_happens_is_shown_at_once(
    keeper: Scopekeeper, viewer: Call, units: Units, name: str
) -> None:
    """The next look is in an hour: only events can have brought it."""
    top = viewer("top", *SLOW, "-s", name)
    top.shows("no scopes")
    time.sleep(1.0)  # the second look, which the first CPU times need, is over
    one = keeper.member("-s", name, "-n", "one", "--", *FOREVER)
    top.shows("1 scope of 1 session, 1 member, 1 process")
    keeper.member("-s", name, "-n", "two", "--", *FOREVER)
    top.shows("1 scope of 1 session, 2 members, 2 processes")
    one.kill()
    top.shows("1 scope of 1 session, 1 member, 1 process")
    gateway = f"gateway-{name}.service"
    script = (f"{PROGRAM} run -s {name} -l other --lifetime detached -- sleep infinity & "
              "exec sleep infinity")  # fmt: skip
    units.run(gateway, "--property=KillMode=process", command=("sh", "-c", script))
    top.shows(gateway[:8])
    assert subprocess.run(["systemctl", *scope_option(), "stop", gateway]).returncode == 0
    top.shows("kept")
    assert keeper.call("stop", "-s", name).returncode == 0
    top.shows("no scopes")
    top.type("q")
    assert top.status() == 0


def scope_option() -> list[str]:
    return [] if os.geteuid() == 0 else ["--user"]


def test_a_scope_that_was_replaced_while_it_asked_is_left_alone(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    first = keeper.member("-s", name, "-n", "tool", "--", *FOREVER)
    top = viewer("top", *SLOW, "-s", name)
    top.shows(name)
    top.type("s")
    top.shows("stop it?")
    first.kill()
    first.wait()
    eventually(lambda: not scope_directory(name))
    second = keeper.member("-s", name, "-n", "tool", "--", *FOREVER)
    top.type("y")
    top.shows("it has ended")
    assert is_alive(second.pid)
    top.type("q")
    assert top.status() == 0
    assert is_alive(second.pid)


def test_a_scope_that_another_gateway_has_adopted_while_it_asked_is_left_alone(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    gateways = [keeper.popen(["sleep", "infinity"]) for _ in range(2)]
    words = ("-s", name, "--owner", str(gateways[0].pid))
    process = keeper.member(*words, "--", *FOREVER)
    top = viewer("top", *SLOW, "-s", name)
    top.shows(name)
    top.type("s")
    top.shows("stop it?")
    done = keeper.call("adopt", "-s", name, "--owner", str(gateways[1].pid), "--force")
    assert done.returncode == 0, done.stderr
    top.type("y")
    top.shows("left alone: another gateway has a part in it")
    assert is_alive(process.pid)
    top.type("q")
    assert top.status() == 0
    assert is_alive(process.pid)


def test_a_command_of_the_same_gateway_that_joined_while_it_asked_ends_with_the_rest(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    first = keeper.member("-s", name, "-n", "one", "--", *FOREVER)
    other = keeper.member("-s", f"{name}-other", "--", *FOREVER)
    top = viewer("top", *SLOW, "-s", name)
    top.shows(name)
    top.type("s")
    top.shows("stop it?")
    second = keeper.member("-s", name, "-n", "two", "--", *FOREVER)
    top.type("y")
    top.shows("2 processes terminated")
    assert first.wait(60) == second.wait(60) == -signal.SIGTERM
    assert is_alive(other.pid)


def test_one_member_is_stopped_alone(keeper: Scopekeeper, viewer: Call, name: str) -> None:
    one = keeper.member("-s", name, "-n", "one", "--", *FOREVER)
    two = keeper.member("-s", name, "-n", "two", "--", *FOREVER)
    top = viewer("top", "-s", name, "--members", "--where", "member=two")
    top.shows("two")
    top.type("s")
    top.shows(f"pid {two.pid}")
    top.type("y")
    top.shows("gone after")
    assert two.wait(60) == -signal.SIGTERM
    assert is_alive(one.pid)


def test_a_folded_session_is_stopped_as_a_whole(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    mine = [keeper.member("-s", name, "-l", lane, "--", *FOREVER) for lane in ("main", "cron")]
    other = keeper.member("-s", f"{name}-other", "--", *FOREVER)
    top = viewer("top", "--fold", "--where", f"session={name}")
    top.shows(f"+2 {name}")
    top.type("s")
    top.shows(f"Stop session {name}")
    top.type("y")
    for each in mine:
        assert each.wait(60) == -signal.SIGTERM
    assert is_alive(other.pid)


def test_its_own_scope_is_not_stopped(keeper: Scopekeeper, name: str) -> None:
    inside = Viewer([*keeper.argv("-s", name, "-n", "me"), "--", PROGRAM, "top", "-s", name])
    try:
        inside.shows(name)
        inside.type("s")
        inside.shows("top itself runs in it")
        inside.type("y")
        inside.shows("nothing was stopped")
        inside.type("q")
        assert inside.status() == 0
    finally:
        inside.close()


def test_quitting_during_a_stop_waits_for_its_proof(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    process = keeper.start("-s", name, "--grace", "8s", "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    top = viewer("top", "-s", name)
    top.shows(name)
    top.type("s")
    top.shows("with 8s from SIGTERM")
    top.shows("stop it?")
    top.type("y")
    top.shows("stopping")
    assert is_alive(process.pid)
    top.shows(f"{name}")
    top.type("jk?q")  # it is drawn meanwhile, and takes keys
    top.type("q")
    top.expect("waiting until the stop is proved")
    assert top.status() == 0
    assert process.wait(60) == -signal.SIGKILL
    assert not scope_directory(name)


def test_killed_during_a_stop_it_leaves_the_rest_to_reconcile(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    process = keeper.start("-s", name, "--grace", "30s", "--", *STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    top = viewer("top", "-s", name, cols=160)
    top.shows(name)
    top.type("s")
    top.shows("stop it?")
    top.type("y")
    top.until(lambda lines: any(name in line and " stopping " in line for line in lines))
    top.signal("SIGINT")
    assert top.status() == 130
    assert any("a stop was begun" in line for line in top.picture())
    assert is_alive(process.pid)
    process.kill()
    assert keeper.call("reconcile").returncode == 0
    assert not scope_directory(name)


@pytest.mark.parametrize(("how", "status"), [("q", 0), ("SIGINT", 130), ("SIGTERM", 143)])
def test_however_it_ends_the_terminal_is_as_it_was(
    viewer: Call, keeper: Scopekeeper, how: str, status: int
) -> None:
    assert keeper
    top = viewer("top")
    top.shows("q quit")
    assert b"\x1b[?1049h" in top.raw, "it is on a screen of its own"
    if how.startswith("SIG"):
        top.signal(how)
    else:
        top.type(how)
    assert top.status() == status  # it compares the modes and attributes of the terminal
    assert b"\x1b[?1049l" in top.raw
    assert not any("Traceback" in line for line in top.picture())


def test_ctrl_c_ends_it_and_gives_the_terminal_back_to_the_shell(
    keeper: Scopekeeper, tmp_path: Path
) -> None:
    assert keeper
    shell = Viewer(["bash", "--norc", "--noprofile", "-i"], PATH=os.environ["PATH"])
    try:
        shell.until(lambda lines: lines[0] == "$")
        shell.type(f"stty -a >{tmp_path}/before; {PROGRAM} top\n")
        shell.shows("q quit")
        shell.type("\x03")
        shell.until(lambda lines: not any("q quit" in line for line in lines))
        shell.type(f'echo "status $?"; stty -a >{tmp_path}/after\n')
        shell.shows("status 130")
        eventually(lambda: text_of(tmp_path / "after"))
        assert text_of(tmp_path / "after") == text_of(tmp_path / "before")
        assert not any("Traceback" in line for line in shell.picture())
        shell.type("exit\n")
        assert shell.status() == 0
    finally:
        shell.close()


def test_it_ends_with_its_terminal(viewer: Call, keeper: Scopekeeper) -> None:
    assert keeper
    top = viewer("top")
    top.shows("q quit")
    pid = top.command
    top.hang_up()
    eventually(lambda: not is_alive(pid))


def test_it_ends_with_its_terminal_if_hangups_are_ignored(
    keeper: Scopekeeper, tmp_path: Path
) -> None:
    assert keeper
    script = f'trap "" HUP; {PROGRAM} top; echo $? >{tmp_path}/status'
    top = Viewer(["sh", "-c", script])
    try:
        top.shows("q quit")
        top.hang_up()
        assert eventually(lambda: text_of(tmp_path / "status")) == "129\n"
    finally:
        top.close()


def test_stopped_and_continued_by_its_shell_it_is_drawn_again(
    keeper: Scopekeeper, name: str
) -> None:
    keeper.member("-s", name, "--", *FOREVER)
    shell = Viewer(["bash", "--norc", "--noprofile", "-i"])
    try:
        shell.until(lambda lines: lines[0] == "$")
        shell.type(f"{PROGRAM} top -s {name}\n")
        shell.shows("1 scope of 1 session")
        shell.type("\x1a")
        shell.until(lambda lines: any("Stopped" in x for x in lines) and "load" not in lines[0])
        shell.type("fg\n")
        shell.until(lambda lines: "load" in lines[0] and "q quit" in lines[-1])
        shell.type("q")
        shell.until(lambda lines: "load" not in lines[0])
        shell.type("exit\n")
        assert shell.status() == 0
    finally:
        shell.close()


def test_where_no_shell_can_continue_it_ctrl_z_does_not_stop_it(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    keeper.member("-s", name, "--", *FOREVER)
    top = viewer("top", "-s", name)
    top.shows(name)
    top.type("\x1a")
    top.type("?")
    top.shows("stop: shows what would end")
    assert state_of(top.command) != "T"
    top.type("qq")
    assert top.status() == 0


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["</dev/null"], {}, "top needs a terminal"),
        ([">/dev/null"], {}, "top needs a terminal"),
        ([], {"TERM": "no-such-terminal"}, "the terminal type 'no-such-terminal' ($TERM)"),
        ([], {"TERM": "dumb"}, "'dumb' ($TERM) cannot move its cursor"),
        ([], {"TERM": ""}, "the terminal type 'unknown' ($TERM)"),
        (["--delay", "0"], {}, "--delay: '0' is out of range"),
        (["--delay", "soon"], {}, "--delay: 'soon' is not a duration"),
        (["--where", "cpu%>x"], {}, "--where: 'x' is not a number"),
        (["--sort", "size"], {}, "--sort: there is no field 'size'"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    keeper: Scopekeeper, words: list[str], variables: dict[str, str], said: str
) -> None:
    assert keeper
    quoted = " ".join(each if each[0] in "<>" else f"'{each}'" for each in words)
    top = Viewer(["sh", "-c", f"{PROGRAM} top {quoted}"], cols=200, **variables)
    try:
        assert top.status() == 2
        (line,) = filter(None, top.picture())
        assert line.startswith("scopekeeper: ")
        assert said in line
    finally:
        top.close()


def test_a_run_is_attached_to_and_its_output_is_shown(
    installed: Installed, keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    assert installed
    script = "stty -echo; printf '\\033]0;title\\007first\\tline\\n'; exec cat"
    run = begin(keeper, name, "--", "sh", "-c", script)
    top = viewer("top", "-s", name)
    top.shows(name)
    top.type("l")
    top.shows("first   line")
    assert keeper.call("send", run, "typed elsewhere", "--enter").returncode == 0
    top.shows("typed elsewhere")
    top.type("q\r")
    top.shows("the end of its output")
    top.type("q")
    top.shows("q quit")
    assert b"\x1b]0;title" not in top.raw
    top.type("a")
    top.until(lambda lines: lines[0].startswith("first") and not any("q quit" in x for x in lines))
    top.type("typed here\n")
    top.shows("typed here")
    top.type("\x1c")
    top.shows(f"[detached from {run}]")
    top.until(lambda lines: "SESSION" in lines[3])
    top.type("j")
    top.shows("q quit")
    top.type("q")
    assert top.status() == 0
    assert "typed here" in keeper.call("logs", run).stdout


def test_what_has_no_terminal_is_not_attached_to(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    keeper.member("-s", name, "--", *FOREVER)
    top = viewer("top", "-s", name)
    top.shows(name)
    top.type("a")
    top.shows("the keeper holds no terminal of it")
    top.type("l")
    top.shows("its output goes to its client")
    top.type("q")
    assert top.status() == 0


EVIL = "t\x1b]0;evil\x07\x1b[31mred\x1b[2J\u202e\r\n"


def test_what_others_have_named_controls_nothing(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    evil = f"{name}{EVIL}"
    argv = ["sh", "-c", "sleep 1000; :", EVIL]
    keeper.member("-s", evil, "-n", EVIL, "--", *argv)
    top = viewer("top", "--where", f"session~{name}", cols=200, rows=40)
    top.shows(f"{name}t\\x1b]0;evil")
    top.type("m")
    top.shows("MEMBER")
    top.type("\r")
    top.shows("\\x1b[2J")
    top.type("qs")
    top.shows("stop it?")
    top.type("n/evil")
    top.shows("/evil")
    top.type("\x1b")
    top.type("q")
    assert top.status() == 0
    assert b"\x1b]0;" not in top.raw
    assert b"\x1b[2J\xe2\x80\xae" not in top.raw
    assert "\u202e".encode() not in top.raw


def test_in_a_locale_without_utf8_it_is_drawn_in_ascii(
    keeper: Scopekeeper, viewer: Call, name: str
) -> None:
    keeper.member("-s", f"{name}-日本-{'x' * 60}", "--", *FOREVER)
    top = viewer("top", LC_ALL="C")
    top.shows("~")
    top.type("?")
    top.shows("stop: shows what would end")
    top.type("qq")
    assert top.status() == 0
    assert not re.search(rb"[\x80-\xff]", top.raw)


def test_it_holds_no_more_than_its_share(keeper: Scopekeeper, viewer: Call, name: str) -> None:
    """A coarse bound, for a busy machine: the benchmark measures it."""
    for number in range(50):
        keeper.start("-s", f"{name}:{number}", "--", *FOREVER)
    eventually(lambda: len(keeper.scopes()) >= 50)
    top = viewer("top")
    top.shows("50 scopes of 50 sessions")
    pid = top.command
    (resident,) = re.findall(r"VmRSS:\s+(\d+) kB", text_of(f"/proc/{pid}/status"))
    assert int(resident) < 64 << 10
    assert "SCOPEKEEPER_MEMBER" not in environment_of(pid)
    top.type("q")
    assert top.status() == 0
