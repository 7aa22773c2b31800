"""What is due is removed once; what fails is kept and tried again; what is held is not touched."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys

import pytest

from scopekeeper.errors import RefusedError, StateError
from scopekeeper.kernel import mounts
from scopekeeper.owned import tree
from scopekeeper.owned.claim import Kind
from scopekeeper.owned.claim_running import give, take_back
from scopekeeper.owned.release import look, release_due
from scopekeeper.owned.store import ClaimStore
from tests.machine import eventually, text_of
from tests.owned import LEAF, SCOPE, World


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state" / "scopekeeper"))
    return World(tmp_path)


def test_it_is_removed_when_the_last_process_is_gone_and_not_before(world):
    path = world.folder()
    world.own(path)
    world.populate(os.getpid())
    assert world.release() == {}
    assert os.path.exists(path + "/inner/mcp.json")
    world.populate()
    assert world.release() == {"turn": "removed"}
    assert os.listdir(world.room) == []
    assert world.kept() == []
    assert world.release() == {}


@pytest.mark.parametrize("kind", [Kind.MEMBER, Kind.SCOPE])
def test_a_cgroup_that_is_removed_or_made_anew_holds_nothing(world, kind):
    path = world.folder()
    claim = world.own(path, kind)
    world.populate(os.getpid())
    assert world.release() == {}
    directory = f"{world.mount}{claim.holder.cgroup}"
    os.rename(directory, f"{world.top}/was")
    os.mkdir(directory)
    with open(f"{directory}/cgroup.events", "w") as file:
        file.write("populated 1\n")
    assert world.release() == {"turn": "removed"}


def test_after_a_reboot_it_is_due_whatever_has_that_cgroup_or_pid_now(world):
    path = world.folder()
    world.populate(os.getpid())
    world.own(path, boot_id="another", pid=os.getpid(), start="1")
    assert world.release() == {"turn": "removed"}


def test_a_device_that_has_another_number_after_a_reboot_is_no_other_device(world):
    path = world.folder()
    claim = world.own(path, boot_id="another")
    thing = dataclasses.replace(claim.thing, device=claim.thing.device + 1)
    world.store.write(dataclasses.replace(claim, thing=thing))
    assert world.release() == {"turn": "removed"}


@pytest.mark.parametrize("kind", [Kind.MEMBER, Kind.LAUNCH])
def test_what_another_container_has_is_not_judged_from_here(world, kind):
    world.own(world.folder(), kind=Kind.MEMBER, namespaces="1/2")
    world.own(world.folder("other"), namespaces="1/2", pid=1, start="no")
    assert world.release() == {}
    states = [verdict.evidence for verdict in look(world.store, world.mount)[0]]
    assert all("another container" in evidence for evidence in states)


def launch(world, pid, start):
    return {"kind": Kind.LAUNCH, "cgroup": "", "cgroup_id": 0, "pid": pid, "start": start}


def own_launch(world, path, pid, start):
    claim = world.own(path)
    holder = dataclasses.replace(claim.holder, **launch(world, pid, start))
    world.store.write(dataclasses.replace(claim, holder=holder))


def test_a_launch_on_its_way_holds_it_and_a_killed_one_does_not(world):
    path = world.folder()
    with subprocess.Popen(["sleep", "100"]) as process:
        with open(f"/proc/{process.pid}/stat") as file:
            start = file.read().rpartition(")")[2].split()[19]
        own_launch(world, path, process.pid, start)
        assert world.release() == {}
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert world.release() == {"turn": "removed"}, "a zombie uses nothing"


def test_a_launch_whose_number_is_anothers_now_is_over(world):
    own_launch(world, world.folder(), os.getpid(), "1")
    assert world.release() == {"turn": "removed"}


def test_of_two_holders_the_last_one_counts(world):
    path = world.folder()
    world.own(path)
    world.own(path, cgroup="/gone.scope/m-x.01234567", cgroup_id=1)
    world.populate(os.getpid())
    assert world.release() == {}
    world.populate()
    report = release_due(world.mount)
    assert sorted(o.what for o in report.done) == ["gone", "removed"]
    assert not os.path.exists(path)
    assert world.kept() == []


@pytest.mark.parametrize("held", ["turn", "turn/inner/mcp.json"])
def test_what_is_above_or_below_a_held_path_waits(world, held):
    path = world.folder()
    due = path if held != "turn" else path + "/inner"
    world.own(due, cgroup="/gone.scope/m-x.01234567", cgroup_id=1)
    world.own(f"{world.room}/{held}")
    world.populate(os.getpid())
    assert world.release() == {}
    assert os.path.exists(due)
    world.populate()
    assert set(world.release().values()) <= {"removed", "gone"}
    assert os.listdir(world.room) == []


def test_what_was_launched_in_it_and_left_it_still_counts(world):
    path = world.folder()
    world.own(path)
    marked = os.environ | {
        "SCOPEKEEPER_SCOPE": SCOPE[1:],
        "SCOPEKEEPER_MEMBER": os.path.basename(LEAF),
    }
    with subprocess.Popen(["sleep", "100"], env=marked) as escaped:
        assert world.release() == {}
        (verdict,) = look(world.store, world.mount)[0]
        assert str(escaped.pid) in verdict.evidence
        assert release_due(world.mount).try_again, "no cgroup tells of its end"
        escaped.kill()
    assert world.release() == {"turn": "removed"}


def test_another_thing_at_the_path_is_left_and_the_claim_is_dropped(world):
    path = world.folder()
    world.own(path)
    os.rename(path, path + ".was")
    os.mkdir(path)
    assert world.release() == {"turn": "changed"}
    assert os.path.isdir(path)
    assert world.kept() == []


def test_what_somebody_else_removed_is_not_looked_for_again(world):
    world.own(world.folder())
    os.rename(world.room / "turn", world.room / "elsewhere")
    assert world.release() == {"turn": "gone"}
    assert world.kept() == []


def test_a_failure_is_kept_and_reported_and_tried_again(world, monkeypatch):
    path = world.folder()
    claim = world.own(path)
    rmdir = os.rmdir

    def fail(*args, **how):
        raise OSError(errno.EIO, "Input/output error", args[0])

    monkeypatch.setattr(tree.os, "rmdir", fail)
    pauses = []
    for attempt in (1, 2, 3):
        report = release_due(world.mount)
        (outcome,) = report.done
        assert (outcome.what, outcome.claim.attempts) == ("failed", attempt)
        assert "Input/output error" in outcome.problem
        assert report.failed
        pauses.append(report.try_again)
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    (verdict,) = look(world.store, world.mount)[0]
    assert verdict.state == "failed"
    assert "Input/output error" in verdict.claim.problem
    assert os.listdir(world.room) == [claim.aside], "nobody comes to use it meanwhile"
    monkeypatch.setattr(tree.os, "rmdir", rmdir)
    assert world.release() == {"turn": "removed"}
    assert os.listdir(world.room) == []


def test_one_failure_keeps_nothing_else(world, monkeypatch):
    world.own(world.folder("one"))
    world.own(world.folder("two"))
    real = tree.finish

    def fail(claim):
        if claim.path.endswith("one"):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(claim)

    monkeypatch.setattr(tree, "finish", fail)
    assert world.release() == {"one": "failed", "two": "removed"}


def test_a_disk_that_is_not_mounted_is_waited_for(world, monkeypatch):
    path = world.folder()
    claim = world.own(path, boot_id="another")
    thing = dataclasses.replace(claim.thing, mount=str(world.room))
    world.store.write(dataclasses.replace(claim, thing=thing))
    os.rename(world.room, str(world.room) + ".disk")
    world.room.mkdir()
    assert world.release() == {"turn": "failed"}
    world.room.rmdir()
    os.rename(str(world.room) + ".disk", world.room)
    points = mounts.points()
    monkeypatch.setattr(mounts, "points", lambda: [*points, str(world.room)])
    assert world.release() == {"turn": "removed"}


def test_what_became_a_mount_point_is_left(world, monkeypatch):
    path = world.folder()
    world.own(path)
    monkeypatch.setattr(mounts, "points", lambda: ["/", path + "/inner"])
    assert world.release() == {"turn": "failed"}
    assert os.path.exists(path + "/inner/mcp.json")


def test_a_damaged_claim_is_reported_and_kept(world):
    file = f"{world.store.folder}/0123456789abcdef.claim"
    with open(file, "w") as damaged:
        damaged.write("V=1\nPATH=/tmp")
    report = release_due(world.mount)
    assert [each.file for each in report.damaged] == [file]
    assert report.failed
    assert os.path.exists(file)


def test_what_a_killed_writer_left_is_taken_away(world):
    left = f"{world.store.folder}/.scopekeeper-0123456789ab.tmp"
    with open(left, "w") as half:
        half.write("V=1\nPA")
    assert world.release() == {}
    assert not os.path.exists(left)


def test_a_store_that_others_could_write_to_is_not_obeyed(world):
    path = world.folder()
    world.own(path)
    os.chmod(world.store.folder, 0o777)
    report = release_due(world.mount)
    assert "can be written by others" in report.problem
    assert os.path.exists(path)


FULL = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from scopekeeper.owned.release import release_due
from scopekeeper.owned.claim_running import give
from scopekeeper.owned.holders import Here
from scopekeeper.owned.claim import Kind
from scopekeeper.owned.store import ClaimStore
from scopekeeper.errors import StateError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
here = Here({mount!r})
try:
    give(ClaimStore.make(), here, [{path!r}], [here.living(Kind.MEMBER, {leaf!r})], keep=True)
except StateError as error:
    print(error)
print([outcome.what for outcome in release_due({mount!r}).done])
"""


def test_on_a_full_disk_nothing_is_handed_over_and_what_is_due_is_removed(world):
    due, mine = world.folder("due"), world.folder("mine")
    world.own(due, cgroup="/gone.scope/m-x.01234567", cgroup_id=1)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    program = FULL.format(root=root, mount=world.mount, path=mine, leaf=LEAF)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said, done = ran.stdout.splitlines()
    assert "cannot write to" in said
    assert done == "['removed']"
    assert os.path.exists(mine)
    assert not os.path.exists(due)
    assert world.kept() == []


def test_on_a_read_only_disk_it_is_removed_and_said_that_the_claim_stays(world, monkeypatch):
    path = world.folder()
    world.own(path)
    monkeypatch.setattr(
        ClaimStore,
        "remove",
        lambda *_: (_ for _ in ()).throw(StateError("cannot write: read-only")),
    )
    (outcome,) = release_due(world.mount).done
    assert outcome.what == "failed"
    assert "removed, but its claim stays" in outcome.problem
    assert not os.path.exists(path)
    monkeypatch.undo()


@pytest.fixture
def sleeper():
    """Return a process that uses no folder; a test's own parent may be one it cannot look at."""
    argv = ["sleep", "100"]
    with subprocess.Popen(argv) as process:
        eventually(lambda: text_of(f"/proc/{process.pid}/cmdline").split("\0")[:-1] == argv)
        yield process.pid
        process.kill()


def test_the_folder_of_a_turn_that_nobody_uses_is_due_at_once(world, sleeper):
    path = world.folder()
    world.populate(sleeper)
    member = world.here.living(Kind.MEMBER, LEAF)
    (given,) = give(world.store, world.here, [path], [member], keep=False)
    assert given.use == ""
    assert world.release() == {"turn": "removed"}


@pytest.mark.parametrize("use", ["argument", "environment", "cwd", "open", "below", "relative"])
def test_what_a_process_uses_is_kept_while_it_lives(world, use):
    path = world.folder()
    argv, how = ["sleep", "100"], {}
    if use == "argument":
        argv = ["sh", "-c", "sleep 100; :", f"--config={path}"]
    elif use == "below":
        argv = ["sh", "-c", "sleep 100; :", f"{path}/inner/mcp.json"]
    elif use == "relative":
        argv, how = ["sh", "-c", "sleep 100; :", "turn/inner"], {"cwd": world.room}
    elif use == "environment":
        how = {"env": os.environ | {"CONFIG": path}}
    elif use == "cwd":
        how = {"cwd": path}
    else:
        how = {"stdin": open(path + "/inner/mcp.json")}  # noqa: SIM115
    with subprocess.Popen(argv, **how, start_new_session=True) as process:
        # in the middle of its exec a process has no arguments and no environment
        eventually(lambda: text_of(f"/proc/{process.pid}/cmdline").split("\0")[:-1] == argv)
        world.populate(process.pid)
        member = world.here.living(Kind.MEMBER, LEAF)
        (given,) = give(world.store, world.here, [path], [member], keep=False)
        assert str(process.pid) in given.use
        assert world.release() == {}
        os.killpg(process.pid, signal.SIGKILL)
    world.populate()
    assert world.release() == {"turn": "removed"}


def test_what_nobody_uses_is_kept_where_that_is_asked_for(world, sleeper):
    path = world.folder()
    world.populate(sleeper)
    member = world.here.living(Kind.MEMBER, LEAF)
    give(world.store, world.here, [path], [member], keep=True)
    assert world.release() == {}
    assert os.path.exists(path)


def test_all_paths_are_handed_over_or_none(world):
    path = world.folder()
    member = world.here.living(Kind.MEMBER, LEAF)
    with pytest.raises(RefusedError):
        give(world.store, world.here, [path, "/tmp/no-such-thing"], [member], keep=True)
    assert world.kept() == []


def test_what_is_taken_back_stays(world):
    path = world.folder()
    world.own(path)
    assert take_back(world.store, path) == 1
    assert take_back(world.store, path) == 0
    assert world.release() == {}
    assert os.path.exists(path)


def test_a_removal_that_has_begun_cannot_be_taken_back(world):
    path = world.folder()
    claim = world.own(path)
    assert tree.set_aside(claim, same_boot=True) == "aside"
    with pytest.raises(RefusedError, match="has begun"):
        take_back(world.store, path)
    assert world.kept() == [path]


def test_without_claims_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "none" / "scopekeeper"))
    assert not release_due(str(tmp_path)).failed
    assert not (tmp_path / "none").exists()
