"""No room is left in /run, or in a user's XDG_RUNTIME_DIR: what still works, and what says no."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine import cgroup_of, environment_of, eventually, is_alive

from .faults import Faults, note, one_line
from .manager import systemctl
from .test_faults_manager import RUNTIME, Her, her  # noqa: F401  a fixture

pytestmark = [pytest.mark.systemd, pytest.mark.root, pytest.mark.timeout(900)]


class Roots(Her):
    """Root, as a user of the same."""

    def argv(self, *words: str) -> list[str]:
        about = {"PATH": os.environ["PATH"], "HOME": "/root",
                 "SCOPEKEEPER_STATE": f"{self.folder}/state"}  # fmt: skip
        return ["env", "-i", *(f"{name}={value}" for name, value in about.items()), *words]


@contextlib.contextmanager
def full(mount: str, what: str) -> Iterator[Callable[[], None]]:
    """Have no room, or no inodes, in a tmpfs; give what makes room again."""
    filler = Path(mount, "filler")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", mount], check=True)

    seen = os.statvfs(mount)
    before = f"size={seen.f_blocks * seen.f_frsize},nr_inodes={seen.f_files}"
    used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize

    def make_room() -> None:
        remount(before)
        filler.unlink(missing_ok=True)

    try:
        if what == "inodes":
            remount(f"nr_inodes={seen.f_files - seen.f_ffree}")
        else:
            remount(f"size={used + (1 << 20)}")
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 512)
        with pytest.raises(OSError, match="No space left"):
            Path(mount, "more").write_bytes(b"x" * 8192)
        yield make_room
    finally:
        make_room()
        Path(mount, "more").unlink(missing_ok=True)


@pytest.fixture(params=["root", "user"])
def who(request: pytest.FixtureRequest, faults: Faults, tmp_path: Path) -> Iterator[Her]:
    """Provide root, or a user with a manager."""
    assert faults
    if request.param == "user":
        yield request.getfixturevalue("her")
    else:
        (tmp_path / "root").mkdir()
        yield Roots(tmp_path / "root")
        systemctl("stop", "scopekeeper.service")  # it has the state of this test


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_without_room_in_run_launches_say_no_in_one_line_and_nothing_is_lost(
    faults: Faults, who: Her, session: str, what: str
) -> None:
    mount = "/run" if isinstance(who, Roots) else RUNTIME
    owner = subprocess.Popen(["sleep", "infinity"])
    owned = who.folder / "owned"
    owned.mkdir()
    os.chown(owned, who.folder.stat().st_uid, who.folder.stat().st_gid)
    lives = who.member(session, "lives")
    stopped = who.member(f"{session}:stopped", "stopped")
    doomed = who.member(session, "doomed", "--owner", str(owner.pid), "--own", str(owned))
    begun = who.call("exec", "-d", "-s", f"{session}:run", "-n", "run", "--", "cat")
    assert begun.returncode == 0, begun.stderr
    run = begun.stdout.strip()
    once = {"stopped", "doomed"}
    said: list[str] = []
    joined: list[subprocess.Popen[bytes]] = []

    def tried(*words: str, name: str = "", statuses: tuple[int, ...] = (0, 125)) -> None:
        """Call it; what is launched is contained, or refused and has not been."""
        done = who.call(*words)
        one_line(done, statuses)
        said.append(f"{words[0]} {done.returncode} {done.stderr.strip()}")
        if name and done.returncode == 0:
            once.add(name)
            assert f".scope/m-{name}." in done.stdout

    try:
        with full(mount, what) as make_room:
            where = ("--", "cat", "/proc/self/cgroup")
            joined.extend(who.member(session, f"joins{number}") for number in range(12))
            tried("run", "-s", session, "-n", "joined", *where, statuses=(0,))
            for number in range(3):
                tried("run", "-s", f"{session}:{number}", "-n", f"new{number}", *where,
                      name=f"new{number}")  # fmt: skip
            assert f"no room is left in {mount}" in said[-1]
            tried("exec", "-s", f"{session}:exec", "-n", "executed", *where, name="executed")
            tried("stop", "-s", f"{session}:stopped", statuses=(0,))
            assert not is_alive(stopped.pid)
            owner.kill()
            owner.wait()
            tried("reconcile", statuses=(0,))
            eventually(lambda: not is_alive(doomed.pid))
            eventually(lambda: who.call("reconcile") and not owned.exists())
            for words in (("ls", "--json"), ("history", "-s", session), ("why", session)):
                tried(*words, statuses=(0,))
            tried("label", session, "--as", "a label", statuses=(0, 1))
            tried("send", run, "hello", "--enter", statuses=(0,))
            assert who.call("ls", "-s", session, "--json").returncode == 0
            make_room()
        for each in (lives, *joined):
            assert is_alive(each.pid)
            member = environment_of(each.pid)["SCOPEKEEPER_MEMBER"]
            assert cgroup_of(each.pid).endswith(f".scope/{member}")
        eventually(lambda: "hello" in who.call("logs", run).stdout)
        tried("run", "-s", f"{session}:after", "-n", "after", *where, name="after", statuses=(0,))
        tried("exec", "-s", f"{session}:after", "-n", "exec", *where, name="exec", statuses=(0,))
        found = {}

        def is_told() -> bool:
            found.clear()
            for which in ("", ":stopped", ":exec", ":after", ":0", ":1", ":2"):
                found.update(who.ends(f"{session}{which}"))
            return once <= set(found)

        eventually(is_told)
        assert {name: each for name, each in found.items() if len(each) != 1} == {}
        # a line of the ledger that found no room is lost, and the command lived for milliseconds
        assert set(found) - {"joined"} == once, "of what lives there is no end"
        assert (found["stopped"], found["doomed"]) == (["stopped by request"], ["owner gone"])
        one_line(who.call("stop", "-s", session))
        one_line(who.call("stop", "-s", f"{session}:run"))
        assert [each.pid for each in (lives, *joined) if is_alive(each.pid)] == []
        assert faults.canaries.complaints() == []
    finally:
        print("\n".join(said))
        owner.kill()
        for each in (lives, stopped, doomed, *joined):
            each.kill()
            each.wait()
    note(f"no {what} left in {mount}", f"{len(said)} commands", "each done, or refused in one line")
