"""Two users of one machine who do not trust each other: what one plants, the other is not led by.

Only root can be both. ``test_other_users.py``, ``test_exec.py``, ``test_forged_records.py``,
``test_owned.py`` and ``test_policy_of_others.py`` have the rest of it.
"""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import FOREVER, PROGRAM, Scopekeeper, directory_of, eventually, is_alive

from .canary import Canaries
from .guard import Keeper
from .installed import UNIT
from .manager import Units, uid_of
from .test_exec import begin
from .test_other_users import as_user

pytestmark = pytest.mark.systemd

PLANTED = """
import os
with open("/tmp/planted", "a") as file:
    file.write(f"{os.getuid()} {__name__}\\n")
"""
MODULES = (
    "scopekeeper", "click", "json", "os", "sitecustomize", "usercustomize", "pystemd", "dbus_next",
    "psutil", "pyroute2", "sqlite3", "asyncio", "pyte", "tomllib", "re", "socket", "signal",
)  # fmt: skip


@pytest.fixture
def trap() -> Iterator[Path]:
    """Give a folder of the other user's, with libraries and programs of every name."""
    folder = Path("/tmp/trap")
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(PLANTED)
    (folder / "scopekeeper.py").unlink()
    (folder / "scopekeeper").mkdir()
    (folder / "scopekeeper" / "__init__.py").write_text(PLANTED)
    for each in (folder, *folder.rglob("*")):
        shutil.chown(each, "other", "other")
    yield folder
    shutil.rmtree(folder)
    Path("/tmp/planted").unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["cwd", "PYTHONPATH"])
def test_no_library_is_taken_from_where_another_user_can_write(
    units: Units, keeper: Scopekeeper, session: str, trap: Path, how: str
) -> None:
    units.adopt(UNIT)  # it is started for exec
    variables = {"PYTHONPATH": str(trap), "PYTHONSTARTUP": f"{trap}/os.py", "PYTHONINSPECT": ""}
    there = {"cwd": trap, "env": os.environ | (variables if how == "PYTHONPATH" else {})}
    member = keeper.member("-s", session, "--", *FOREVER, **there)
    for words in (
        ["ls", "--members"], ["ps"], ["ports"], ["metrics"], ["status"], ["doctor"], ["history"],
        ["reconcile"], ["run", "-s", session, "--", "true"], ["why", session], ["policy", "check"],
        ["exec", "-d", "-s", session, "--", *FOREVER], ["report", "-"], ["ls", "--all-users"],
        ["reconcile", "--all-users"], ["wrap", "--dry-run"], ["hook", "session-start"],
        ["stop", "-s", session],
    ):  # fmt: skip
        keeper.call(*words, **there)
    assert not is_alive(member.pid)
    assert not Path("/tmp/planted").exists(), Path("/tmp/planted").read_text()
    # the trap works
    subprocess.run([sys.executable, "-m", "click"], cwd=trap, capture_output=True)
    assert Path("/tmp/planted").exists()


BY_FORCE = """
import os, signal, socket, sys
directory, pid, bus = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def refused(what, *given):
    try:
        what(*given)
    except (PermissionError, FileNotFoundError, OSError) as error:
        assert error.errno in (1, 2, 13, 30), error
        return
    raise SystemExit(f"{what.__name__} {given} was allowed")
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
for folder in (directory, os.path.dirname(directory)):
    refused(os.setxattr, folder, "user.scopekeeper", b"V=1\\nSESSION=mine\\n")
    refused(os.removexattr, folder, "user.scopekeeper")
    refused(os.mkdir, folder + "/m-planted.01234567")
    refused(os.rename, folder, folder + "x")
    refused(write, folder + "/cgroup.procs", str(os.getpid()))
    refused(write, folder + "/cgroup.kill", "1")
    refused(write, folder + "/cgroup.freeze", "1")
refused(os.kill, pid, signal.SIGTERM)
refused(os.mkdir, os.path.dirname(os.path.dirname(directory)) + "/scopekeeper-planted-main.scope")
for path in ("/run/scopekeeper/planted", "/run/scopekeeper/stops/1"):
    refused(write, path, "x")
refused(os.rename, "/run/scopekeeper", "/run/elsewhere")
refused(socket.socket(socket.AF_UNIX).connect, "/run/scopekeeper/keeper")
refused(socket.socket(socket.AF_UNIX).bind, "/run/scopekeeper/other")
refused(os.listdir, f"/proc/{pid}/fd")
print("refused")
"""


def test_the_kernel_refuses_another_user_all_of_it(
    keeper: Scopekeeper, guard: Keeper, session: str
) -> None:
    guard.start()
    canaries = Canaries(keeper, session)
    run = begin(keeper, session, "--", "cat")
    member = keeper.member("-s", session, "--", *FOREVER)
    words = [directory_of(member.pid), str(member.pid), ""]
    done = subprocess.run(
        as_user("other", sys.executable, "-c", BY_FORCE, *words),
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    state = {"SCOPEKEEPER_STATE": os.environ["SCOPEKEEPER_STATE"], "HOME": "/", "PATH": os.defpath}
    for call in (["attach", run], ["send", run, "x"], ["wait", run], ["logs", run],
                 ["stop", run], ["stop", "-s", session], ["label", "-s", session, "mine"],
                 ["adopt", "-s", session, "--force"], ["own", "-s", session, "/tmp"]):  # fmt: skip
        done = subprocess.run(
            as_user("other", PROGRAM, *call), capture_output=True, text=True, cwd="/", env=state,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, (call, done.stderr)
        if call[0] != "stop":
            assert done.returncode, call
    assert is_alive(member.pid)
    assert keeper.call("send", run, "still there", "--enter").returncode == 0
    eventually(lambda: "still there" in keeper.call("logs", run).stdout)
    canaries.check()


LISTENS = """
import os, socket, sys
trap = socket.socket(socket.AF_UNIX)
trap.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
trap.listen()
print("ready", flush=True)
while True:
    if trap.accept()[0].recv(100):
        print("was asked", flush=True)
"""
ASKS = """
from scopekeeper.errors import ScopekeeperError
from scopekeeper.exec.client import Connection
try:
    print(Connection().ask(do="list"))
except ScopekeeperError as error:
    print("refused:", error.message)
"""


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("folder", "belongs to"),
        ("link", "is a symbolic link"),
        ("listener", "which is not its place"),
    ],
)
def test_a_keeper_of_another_user_is_asked_nothing(
    keeper: Scopekeeper, what: str, why: str
) -> None:
    """A user without a runtime directory has her keeper's socket in her state folder."""
    room, theirs = Path("/tmp/room"), Path("/tmp/theirs")
    for folder, mode in ((room, 0o1777), (theirs, 0o777)):
        folder.mkdir()
        folder.chmod(mode)
    shutil.chown(theirs, "lab", "lab")
    place = room / f"scopekeeper-{uid_of('other')}"
    try:
        if what == "link":
            place.symlink_to(theirs)
            os.chown(place, uid_of("lab"), -1, follow_symlinks=False)
        else:
            subprocess.run(as_user("lab", "mkdir", "-m", "777", str(place)), check=True)
        trap = keeper.popen(
            as_user("lab", sys.executable, "-c", LISTENS, f"{place}/keeper"),
            stdout=subprocess.PIPE,
        )
        assert trap.stdout is not None
        assert trap.stdout.readline() == b"ready\n"
        if what == "listener":  # all else is right
            shutil.chown(place, "other", "other")
            place.chmod(0o711)
        done = subprocess.run(
            as_user("other", sys.executable, "-c", ASKS), capture_output=True, text=True, cwd="/",
            env={"SCOPEKEEPER_STATE": str(room), "PATH": os.defpath, "HOME": "/"},
        )  # fmt: skip
        assert done.stdout.startswith("refused: "), done.stdout + done.stderr
        assert why in done.stdout
        assert not select.select([trap.stdout], [], [], 0)[0], "it was asked"
    finally:
        shutil.rmtree(room)
        shutil.rmtree(theirs)
