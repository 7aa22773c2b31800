"""What gateways in Python say, read as ``run`` reads its options; and what it costs not to."""

import asyncio
import contextlib
import datetime as dt
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import scopekeeper
from scopekeeper.errors import RemainsError, UnavailableError, UsageError
from scopekeeper.launch.failure import translated
from scopekeeper.lifecycle.stop_target import Remaining, Result, Target
from scopekeeper.python_api import (
    aio,
    options,
    popen_arguments,
    popen_interface,
    remains,
)
from scopekeeper.systemd.manager import CallError
from tests.machine import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SCOPEKEEPER_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ttl": dt.timedelta(minutes=1, milliseconds=1)}, "60001000us"),
        ({"ttl": 1.5}, "1500000us"),
        ({"grace": 0}, "0us"),
        ({"grace": "2h"}, "2h"),
        ({"memory_max": 2 << 30}, "2147483648"),
        ({"memory_max": 1e9}, "1000000000"),
        ({"tasks_max": math.inf}, "infinity"),
        ({"member_memory_max": "512M"}, "512M"),
        ({"cpu_weight": 100}, "100"),
        ({"owner": 4211}, "4211"),
        ({"no_bus": True}, "1"),
    ],
)
def test_options_are_those_of_run(given, text):
    assert options.texts("s", None, given) == {"session": "s", next(iter(given)): text}


@pytest.mark.parametrize(
    "given",
    [
        {"ttl": -1}, {"ttl": math.inf}, {"ttl": math.nan}, {"ttl": "soon"}, {"memory_max": 1.5},
        {"tasks_max": 0}, {"kind": "other"}, {"lifetime": "long"}, {"lane": ""}, {"session": ""},
        {"if_unavailable": "ignore"}, {"session": "x" * 600}, {"cpu_weight": object()},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_when_the_cohort_is_made(given):
    with pytest.raises(UsageError) as raised:
        scopekeeper.Cohort(**({"session": "s"} | given))
    assert "\n" not in str(raised.value)


def test_nobody_is_started_with_what_a_member_cannot_have():
    cohort = scopekeeper.Cohort("s")
    for name, value in (("preexec_fn", print), ("user", 1), ("group", 1), ("extra_groups", [])):
        with pytest.raises(UsageError, match=name):
            cohort.spawn(["true"], **{name: value})
    with pytest.raises(UsageError, match="name"):
        cohort.spawn(["true"], name="")
    with pytest.raises(TypeError, match="no_such"):
        scopekeeper.Cohort("s", no_such=1)
    with pytest.raises(TypeError, match="no_such"):
        cohort.spawn(["true"], no_such=1)
    with pytest.raises(UsageError, match="bytes"):
        asyncio.run(cohort.spawn_async(["true"], text=True))
    assert cohort.members == ()


def test_an_empty_cohort_is_left_as_it_was_entered():
    with scopekeeper.Cohort("s") as cohort:
        assert cohort.stop() == []

    async def gateway():
        async with scopekeeper.Cohort("s") as cohort:
            return await cohort.stop_async()

    assert asyncio.run(gateway()) == []


@pytest.fixture
def _nowhere():
    """Have no user's manager here, as in most containers."""
    runtime = f"/run/user/{os.getuid()}"
    if any(os.path.exists(f"{runtime}/{name}") for name in ("bus", "systemd/private")):
        pytest.skip("there is a user's manager here")


@pytest.mark.usefixtures("_nowhere")
def test_what_cannot_be_contained_is_not_started_unless_that_was_asked_for(tmp_path, caplog):
    mark = tmp_path / "mark"
    touch = ["sh", "-c", 'echo "$SCOPEKEEPER_SCOPE." >"$0"; cat; exit 4', str(mark)]
    with pytest.raises(UnavailableError, match="manager"):
        scopekeeper.spawn(touch, session="s", placement="user")
    assert not mark.exists()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with scopekeeper.Cohort("s", placement="user", if_unavailable="warn") as cohort:
        process = cohort.spawn(touch, **pipes)
        assert (process.scope, process.member) == ("", "")
        assert process.communicate("x") == ("x", None)
        assert (process.returncode, mark.read_text()) == (4, ".\n")
        stays = cohort.spawn(["sleep", "1000"])
        with pytest.raises(FileNotFoundError):
            cohort.spawn("no-such-program-at-all")
    assert stays.returncode == -15
    assert "uncontained" in caplog.text


TALKER = "import sys; print(sys.stdin.read(), end='!\\r\\n'); sys.stderr.write('é'); sys.exit(3)"
QUESTIONS = [
    {},
    {"text": True},
    {"encoding": "latin-1", "errors": "replace"},
    {"bufsize": 0, "pipesize": 1 << 16},
    {"bufsize": 1, "universal_newlines": True},
    {"stderr": subprocess.STDOUT},
    {"stdout": subprocess.DEVNULL},
    {"stdin": subprocess.DEVNULL, "stderr": None},
]


def talked_to(start, how):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | how
    text = "é\r\n" if how.keys() & {"text", "encoding", "universal_newlines"} else b"bytes" * 50_000
    with start([sys.executable, "-c", TALKER], **pipes) as process:
        kinds = [type(each) for each in (process.stdin, process.stdout, process.stderr)]
        answer = process.communicate(None if process.stdin is None else text, timeout=300)
        assert process.communicate() == answer
    return kinds, answer, process.returncode, process.poll(), process.wait()


@pytest.fixture
def uncontained():
    """Start what Popen would, through a launcher that finds nothing to contain it."""
    cohort = scopekeeper.Cohort("s", placement="user", if_unavailable="warn")
    return cohort.spawn


@pytest.mark.usefixtures("_nowhere")
@pytest.mark.parametrize("how", QUESTIONS, ids=str)
def test_a_member_communicates_as_popen_does(uncontained, how):
    assert talked_to(uncontained, how) == talked_to(subprocess.Popen, how)


@pytest.mark.usefixtures("_nowhere")
def test_a_member_waits_and_times_out_as_popen_does(uncontained):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with uncontained(["sh", "-c", "cat; exec sleep 1000"], **pipes) as one:
        assert one.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            one.communicate(b"a", timeout=0.5)
        with pytest.raises(ValueError, match="input"):
            one.communicate(b"b")
        one.kill()
        assert (one.communicate(), one.returncode) == ((b"a", None), -9)
    waiting = uncontained(["sleep", "1000"])
    with ThreadPoolExecutor(4) as pool:
        statuses = [pool.submit(waiting.wait) for _ in range(4)]
        waiting.terminate()
        assert {status.result() for status in statuses} == {-15}
    waiting.kill()  # nothing is there any more
    early = uncontained(["true"], stdin=subprocess.PIPE)
    assert early.communicate(b"x" * 1_000_000) == (None, None)


@pytest.mark.usefixtures("_nowhere")
def test_a_member_that_nobody_holds_is_reaped(uncontained):
    process = uncontained(["cat"], stdin=subprocess.PIPE)
    pid, stdin = process.pid, process.stdin
    uncontained.__self__._members.clear()
    with pytest.warns(ResourceWarning, match=f"process {pid} is still running"):
        del process
    stdin.close()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        uncontained(["true"]).wait()


def test_popen_has_no_method_that_is_not_our_own():
    own = vars(popen_interface.PopenInterface)
    theirs = {name for name in vars(subprocess.Popen) if not name.startswith("_")}
    assert theirs - own.keys() == {"universal_newlines"}, "it relies on text_mode alone"
    assert {"__init__", "__exit__", "__del__"} <= own.keys()


def test_what_remains_is_named():
    target = Target("/nowhere/scopekeeper-s-main.scope/m-x.12345678", "/nowhere")
    left = (Remaining(7, "D", "nfs_wait", "cat /mnt/x\n/y"),)
    result = Result(target, "remains", remaining=left)
    with pytest.raises(RemainsError) as raised:
        remains.check([result], ["pid 8 lives elsewhere"])
    words = str(raised.value)
    assert "m-x.12345678 in scopekeeper-s-main.scope" in words
    assert "pid 7 (cat /mnt/x\\n/y) in state D" in words
    assert "pid 8 lives elsewhere" in words
    assert raised.value.results == (result,)
    remains.check([Result(target, "killed")])


def test_errors_are_of_the_classes_that_are_written_down():
    told = translated(CallError("org.freedesktop.DBus.Error.AccessDenied", "no"))
    assert (type(told).__name__, told.message) == ("ManagerError", "systemd refused: no")
    assert type(translated(ValueError("--ttl: no"))) is UsageError
    assert type(translated(PermissionError(13, "denied"))) is UnavailableError
    assert type(translated(LookupError("no cgroup2 hierarchy"))) is UnavailableError


def test_a_relative_program_is_looked_for_in_the_folder_of_the_child(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    assert popen_arguments._programs("./tool", None, str(tmp_path)) == [b"./tool"]
    path = f"none:{tmp_path}:/usr/bin"
    assert popen_arguments._programs("tool", {"PATH": path}, None)[0] == os.fsencode(
        tmp_path / "tool"
    )
    with pytest.raises(FileNotFoundError):
        popen_arguments._programs("./tool", None, "/")


def test_importing_the_package_imports_nothing_of_it():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import scopekeeper; print(*sorted(set(sys.modules) - before)); "
        "import scopekeeper.launch; assert 'subprocess' not in sys.modules; "
        "assert scopekeeper.Cohort and 'mcp' not in sys.modules and 'anyio' not in sys.modules; "
        "assert 'click' not in sys.modules and 'pystemd' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "scopekeeper\n", "")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        assert scopekeeper.nothing


class Reluctant(subprocess.Popen):
    """A child that is not gone when it was killed, as one with much memory, but when it may go."""

    scope = member = directory = ""
    in_time = True

    def __init__(self, *arguments, may_go, **named):
        self.may_go = may_go
        super().__init__(*arguments, **named)

    def wait(self, timeout=None):
        if timeout is not None:
            self.in_time = self.may_go.wait(20)
        return super().wait(timeout)


def sleeper(started, pause, may_go):
    """Return a start that takes so long, and the children that it has started."""

    def start(**popen):
        time.sleep(pause)
        started.append(Reluctant(["sleep", "1000"], may_go=may_go, **popen))
        return started[-1]

    return start


@pytest.mark.parametrize("pause", [0.05, 0.3])
def test_a_cancelled_start_is_ended_without_blocking_the_loop(pause):
    started: list[Reluctant] = []
    may_go = threading.Event()

    async def gateway():
        starting = asyncio.ensure_future(aio.spawn(sleeper(started, pause, may_go), {}))
        for _ in range(5):
            await asyncio.sleep(0.01)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            member = await starting
            member.kill()
        await asyncio.to_thread(eventually, lambda: started and is_over(started[0].pid))
        may_go.set()  # only a loop that is not blocked gets here

    asyncio.run(gateway())
    assert started[0].in_time


def test_a_start_that_outlives_its_loop_is_ended():
    started: list[Reluctant] = []
    may_go = threading.Event()
    may_go.set()

    async def gateway():
        task = asyncio.ensure_future(aio.spawn(sleeper(started, 0.3, may_go), {}))
        await asyncio.sleep(0.05)
        assert not task.done()  # the loop ends with it

    asyncio.run(gateway())
    eventually(lambda: started and is_over(started[0].pid))


def is_over(pid):
    """Tell whether a process is gone, or a zombie, as the kernel has it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
