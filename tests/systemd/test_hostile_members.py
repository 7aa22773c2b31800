"""Members that do their worst: each is ended, and no other session notices anything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_alive,
    record_of,
    scope_directories,
    text_of,
)

from .canary import Canaries
from .guard import Keeper
from .test_callers import bare
from .test_hostile_cgroups import HELP

pytestmark = pytest.mark.systemd

RISES = """
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
"""
WORST = {
    "forks without end": """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def breed():
    while True:
        with open(own + "/cgroup.procs") as file:  # here nothing else bounds it
            full = len(file.readlines()) > 60
        if full:
            os._exit(0)
        if os.fork():
            time.sleep(0.02)
for _ in range(8):
    if os.fork() == 0:
        breed()
time.sleep(0.5)
""",
    "100,000 descriptors": RISES
    + """
import resource, socket
waiting = socket.socket(socket.AF_UNIX)
waiting.bind("\\0hostile-%d" % os.getpid())
waiting.listen()
each = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 50_000) - 10
ready, tells = os.pipe()
held = 0
while held < 100_000:
    held += each
    if os.fork() == 0:
        try:
            while True:
                os.dup(waiting.fileno())
        except OSError:
            os.write(tells, b"x")
            time.sleep(1000)
    os.read(ready, 1)
""",
    "10,000 cgroups": """
for number in range(100):
    os.mkdir(f"{own}/{number}")
    for inner in range(100):
        os.mkdir(f"{own}/{number}/{inner}")
write("cgroup.procs", b"0", dir_fd=os.open(own + "/99/99", FOLDER))
""",
    "2,000 deep": 'write("cgroup.procs", b"0", dir_fd=nest(["d"] * 2000))',
    "stops itself": """
import signal
child = os.fork()
if child == 0:
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
""",
    "freezes itself": """
print("ready", flush=True)
write(own + "/cgroup.freeze", b"1")
""",
    "freezes its scope": """
print("ready", flush=True)
write(os.path.dirname(own) + "/cgroup.freeze", b"1")
""",
    "300 zombies": """
for _ in range(300):
    if os.fork() == 0:
        os._exit(0)
""",
    "64 KiB of garbage": """
for folder in (own, os.path.dirname(own)):
    os.setxattr(folder, "user.scopekeeper", os.urandom(65_000))
""",
    "64 KiB of lines": """
for folder in (own, os.path.dirname(own)):
    os.setxattr(folder, "user.scopekeeper", b"V=1\\n" + b"SESSION=x\\nA=b\\n" * 4_000)
""",
    "ignores all signals": """
import signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
""",
}
LISTS = (
    ("ls", "--tree"), ("ls", "--members", "--json"), ("ps",), ("ports",), ("metrics",),
    ("reconcile",),
)  # fmt: skip
HAS_NO_RECORD = ("64 KiB of garbage", "64 KiB of lines")


@pytest.fixture
def canaries(keeper: Scopekeeper, session: str) -> Iterator[Canaries]:
    """Have canaries beside the test, which have seen no signal at its end."""
    made = Canaries(keeper, session)
    yield made
    made.check()


def hostile(keeper: Scopekeeper, session: str, code: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a hostile member; return it and the directory of its scope once it did its worst."""
    process = keeper.start(
        "-s", session, "-n", "hostile", "--grace=300ms", "--", sys.executable, "-c",
        f"{HELP}\nprint(os.path.dirname(own), flush=True)\n{code}\nstay()", MOUNT,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    scope = process.stdout.readline().decode().strip()
    assert process.stdout.readline() == b"ready\n"
    return process, scope


@pytest.mark.parametrize("what", WORST)
def test_it_is_listed_and_ended_and_costs_no_other_session_anything(
    guard: Keeper, keeper: Scopekeeper, session: str, canaries: Canaries, what: str
) -> None:
    guard.start()
    before = guard.pid
    process, scope = hostile(keeper, session, WORST[what])
    for words in LISTS:
        done = keeper.call(*words)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr
    canaries.check()
    assert is_alive(process.pid)
    beside = keeper.run("-s", canaries.session, "-n", "beside", "--", "echo", "ran")
    assert (beside.returncode, beside.stdout) == (0, "ran\n"), beside.stderr
    done = keeper.call("stop", "-s", session)
    if what in HAS_NO_RECORD:  # nothing proves any more what it is: the user ends it by the manager
        assert done.returncode == 1
        command = done.stdout.strip().rpartition("end it: ")[2]
        assert command.startswith("systemctl "), done.stdout
        assert is_alive(process.pid)
        subprocess.run(command, shell=True, check=True)
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: not is_alive(process.pid))
    eventually(lambda: not os.path.isdir(scope))
    assert guard.pid == before, "the keeper has failed"


FLOOD = """
import subprocess
for number in range(40):
    run = [sys.argv[2], "run", "-s", f"{sys.argv[3]}:{number % 8}", "--", "sleep", "1000"]
    subprocess.Popen(run, start_new_session=True)
    if number == 20:
        print("ready", flush=True)
"""


def test_a_flood_of_launches_ends_with_the_member_that_makes_it(
    guard: Keeper, keeper: Scopekeeper, session: str, canaries: Canaries
) -> None:
    """It is stopped while it launches; what comes afterwards has lost its owner."""
    guard.start()
    before = guard.pid
    code = f"{HELP}\n{FLOOD}\nstay()"
    process = keeper.start(
        "-s", session, "-n", "flood", "--", sys.executable, "-c", code, MOUNT, PROGRAM,
        f"{session}:flood", stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    beside = keeper.run("-s", canaries.session, "-n", "beside", "--", "echo", "ran")
    assert (beside.returncode, beside.stdout) == (0, "ran\n"), beside.stderr
    done = keeper.call("stop", "-s", session)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not is_alive(process.pid)
    mine = os.path.dirname(directory_of(canaries.member.pid))
    eventually(lambda: [each for each in scope_directories() if each != mine] == [])
    assert guard.pid == before


CALLS = """
import os, subprocess, sys
words = [each.format(pid=os.getpid()) for each in sys.argv[1:]]
print(subprocess.run(words).returncode, flush=True)
"""
AGAINST_OTHERS = {
    "reconcile": ["reconcile"],
    "a stop of all that it owns": ["stop", "--mine"],
    "a stop of what it launched itself": ["stop", "--owner", "{pid}"],
    "an adoption": ["adopt", "-s", "{other}"],
    "an owned path of another": ["own", "-s", "{own}", "--keep-until-end", "{path}"],
}


@pytest.mark.parametrize("what", AGAINST_OTHERS)
def test_a_member_that_calls_it_against_others_ends_nothing_of_theirs(
    keeper: Scopekeeper, session: str, canaries: Canaries, tmp_path: Path, what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    turn = tmp_path / "turn"
    turn.mkdir()
    owner = keeper.popen(list(FOREVER))
    theirs = keeper.member(
        "-s", canaries.session, "-n", "theirs", "--owner", str(owner.pid), "--own", str(turn),
        "--", *FOREVER,
    )  # fmt: skip
    given = [
        each.replace("{other}", canaries.session).replace("{own}", session)
        .replace("{path}", str(turn))
        for each in AGAINST_OTHERS[what]
    ]  # fmt: skip
    done = keeper.run(
        "-s", session, "-n", "hostile", "--", sys.executable, "-c", CALLS, PROGRAM, *given
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.split()[-1] in ("0", "1", "4"), done.stdout + done.stderr
    assert keeper.call("reconcile").returncode == 0
    assert is_alive(theirs.pid)
    assert turn.is_dir(), "its holder lives"
    assert record_of(directory_of(theirs.pid))["OWNER_PID"] == str(owner.pid)
    assert keeper.call("stop", "-s", canaries.session, "-n", "theirs").returncode == 0
    assert keeper.call("reconcile").returncode == 0
    assert not turn.exists()


def test_a_stop_of_another_session_has_who_called_it_in_the_history(
    keeper: Scopekeeper, session: str, canaries: Canaries, guard: Keeper
) -> None:
    """No session of one user is protected from another: but it is known which one did it."""
    theirs = keeper.member("-s", f"{session}:theirs", "--", *FOREVER)
    done = keeper.run(
        "-s", session, "-n", "hostile", "--", PROGRAM, "stop", "-s", f"{session}:theirs"
    )
    assert done.returncode == 0, done.stderr
    assert not is_alive(theirs.pid)
    (end,) = guard.history(f"{session}:theirs")
    assert end["reason"] == "stopped by request"
    assert isinstance(end["stopper"], dict)
    assert end["stopper"]["pid"] == os.getpid()
    canaries.check()


SUID = """
import os, signal, sys, time
os.setresuid(0, 0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root can make a setuid program")
def test_a_setuid_child_that_its_user_may_not_signal_is_ended_all_the_same(
    keeper: Scopekeeper, session: str, canaries: Canaries
) -> None:
    program = Path("/opt/hostile-python")
    shutil.copy(os.path.realpath(sys.executable), program)
    program.chmod(0o4755)
    try:
        launch = ["setpriv", "--reuid=lab", "--regid=lab", "--init-groups", "--"]
        child = keeper.popen(
            [*launch, *keeper.argv("-s", session, "-n", "su", "--", str(program), "-c", SUID)],
            env=bare("lab"), cwd="/", stdout=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert "Uid:\t0\t0\t0\t0" in text_of(f"/proc/{child.pid}/status")
        for words in (["ls", "--members"], ["ps"], ["reconcile"],
                      ["stop", "-s", session, "--grace=300ms"]):  # fmt: skip
            done = subprocess.run([*launch, PROGRAM, *words], env=bare("lab"), cwd="/",
                                  capture_output=True, text=True)  # fmt: skip
            assert done.returncode == 0, (words, done.stdout + done.stderr)
        assert "1 of them killed" in done.stdout, done.stdout
        eventually(lambda: not is_alive(child.pid))
    finally:
        program.unlink()
