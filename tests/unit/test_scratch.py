"""A scratch folder is made for one launch, is nobody else's, and leaves nothing."""

import dataclasses
import itertools
import os
import resource
import signal
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.errors import StateError, UsageError
from scopekeeper.history import recording
from scopekeeper.history.store import HistoryStore
from scopekeeper.kernel.proc import mount_point
from scopekeeper.owned import claim as claims
from scopekeeper.owned import scratch, users
from scopekeeper.owned.claim import ASIDE, Kind
from scopekeeper.owned.release import release_due
from scopekeeper.owned.scratch import ScratchFolder, base, folder_name
from scopekeeper.owned.scratch_sizes import size_of
from scopekeeper.owned.size import measure
from scopekeeper.owned.store import ClaimStore
from tests.machine import eventually
from tests.owned import World, dies_at
from tests.unit.ends import an_end

PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state" / "scopekeeper"))
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", str(shared))
    return World(tmp_path)


def names():
    return os.listdir(base()) if os.path.isdir(base()) else []


def make(**how):
    given = {"session": "agent:main:main", "lane": "cron", "name": "time", "most": 0}
    return ScratchFolder(**(given | how))


@given(*[st.text(min_size=1, max_size=600)] * 3)
def test_its_name_is_bounded_and_plain(session, lane, name):
    made = folder_name(session, lane, name)
    assert len(made) <= 41
    assert set(made) <= PLAIN
    assert made[0] not in ".-"


def test_its_name_shows_whose_it_is():
    made = folder_name("agent:main:main", "main", "time")
    assert made.rpartition("-")[0] == "agent_main_main-main-time"
    made = folder_name("claude:0123456789abcdef", "nested:agent:spark", "chrome-devtools-mcp")
    assert made.rpartition("-")[0] == "claude_012-nested_a-chrome_devto"


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077, 0o277])
def test_it_is_its_users_alone_whatever_the_umask(world, mask):
    before = os.umask(mask)
    try:
        made = make()
    finally:
        os.umask(before)
    for path in (base(), made.path):
        found = os.stat(path)
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, os.geteuid())
    assert os.path.dirname(made.path) == base()
    made.withdraw()
    assert names() == []
    assert world.kept() == []


def test_it_is_on_the_users_disk_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("SCOPEKEEPER_SCRATCH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.geteuid() == 0:
        assert base() == "/var/cache/scopekeeper/tmp"
    else:
        assert base() == f"{tmp_path}/scopekeeper/tmp"


def refused(words):
    with pytest.raises(StateError) as caught:
        make()
    assert words in caught.value.message
    assert "\n" not in str(caught.value)
    assert "SCOPEKEEPER_SCRATCH=FOLDER names another place" in caught.value.hint


def test_what_another_has_put_there_is_not_used(world, tmp_path):
    os.symlink(world.room, base())
    refused("Not a directory")
    os.unlink(base())
    with open(base(), "w"):
        refused("Not a directory")
    os.unlink(base())
    os.mkdir(base())
    os.chmod(base(), 0o777)
    refused("can be written by others")
    os.chmod(base(), 0o700)
    if os.geteuid() == 0:
        os.chown(base(), 12345, 12345)
        refused("belongs to uid 12345")
        os.chown(base(), 0, 0)
    os.chmod(tmp_path / "shared", 0o777)
    refused("others can exchange what is in")
    os.chmod(tmp_path / "shared", 0o1777)
    make()
    assert len(os.listdir(base())) == 1
    assert os.listdir(world.room) == []


def test_a_place_that_is_missing_or_not_whole_is_one_line(world, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", "/nonexistent/place")
    refused("No such file or directory")
    monkeypatch.setenv("SCOPEKEEPER_SCRATCH", "place")
    with pytest.raises(UsageError, match="give the whole path"):
        make()


def test_a_claim_that_cannot_be_written_leaves_no_folder(world):
    make().withdraw()  # the folders are there
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as on a full disk
    try:
        with pytest.raises(StateError, match="cannot write to"):
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, was)
    assert names() == []
    assert world.kept() == []


def test_a_launch_that_is_killed_at_any_step_leaves_nothing(world):
    for step in itertools.count():
        died = dies_at(step, make)
        report = release_due(mount_point())
        assert not report.failed, report
        assert names() == []
        assert world.kept() == []
        if not died:
            break
    assert step > 5


def test_only_empty_folders_without_a_claim_are_swept(world):
    made = make()
    for name in ("empty", "full", f"{ASIDE}x"):
        os.mkdir(f"{base()}/{name}")
    os.mkdir(f"{base()}/full/inner")
    os.symlink(f"{base()}/empty", f"{base()}/link")
    assert release_due(mount_point()).done == ()
    left = sorted(names())
    assert left == sorted(["full", "link", f"{ASIDE}x", os.path.basename(made.path)])


def test_a_claim_says_that_it_is_one(world):
    make(most=5)
    make()
    plain = world.own(world.folder())
    found = {claim.claim_id: claim.scratch_max for claim in ClaimStore.make().read()[0]}
    assert sorted(map(str, found.values())) == ["0", "5", "None"]
    assert found[plain.claim_id] is None
    text = claims.dumps(plain) + b"SCRATCH_MAX=-1\n"
    with pytest.raises(ValueError, match="SCRATCH_MAX is '-1'"):
        claims.loads(plain.claim_id, text)


# its size


def measured(path, most=1000):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return measure(fd, most)
    finally:
        os.close(fd)


def test_no_link_is_followed_and_a_file_counts_once(tmp_path):
    big, top = tmp_path / "big", tmp_path / "top"
    big.mkdir()
    (big / "file").write_bytes(b"x" * (1 << 20))
    (top / "inner" / "more").mkdir(parents=True)
    (top / "out").symlink_to(big)
    (top / "round").symlink_to(top)
    empty = measured(top).bytes
    assert empty < 1 << 17
    (top / "inner" / "file").write_bytes(b"x" * 100_000)
    os.link(top / "inner" / "file", top / "inner" / "more" / "again")
    found = measured(top)
    said = subprocess.run(["du", "-sk", top], capture_output=True, text=True, check=True).stdout
    own = os.stat(top).st_blocks * 512
    assert found.bytes == int(said.split()[0]) * 1024 - own
    assert (found.complete, found.entries) == (True, 6)
    assert found.bytes - empty >= 100_000


def test_a_sparse_file_is_what_it_takes(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert measured(tmp_path).bytes < 1 << 20


def test_it_is_bounded_in_number_and_depth(tmp_path):
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"x" * 5000)
    some = measured(tmp_path, 10)
    assert (some.complete, some.entries) == (False, 11)
    assert 0 < some.bytes < measured(tmp_path).bytes
    assert some.shown.startswith("≥")
    assert measured(tmp_path, 20).complete
    before = len(os.listdir("/proc/self/fd"))
    at = tmp_path
    for _ in range(200):
        at = at / "d"
        at.mkdir()
    assert not measured(tmp_path).complete
    assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(200):
        at.rmdir()
        at = at.parent


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "closed").mkdir(0o000)
    assert not measured(tmp_path).complete
    (tmp_path / "closed").rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_mounted_in_it_does_not_count(tmp_path):
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir()
    (outside / "file").write_bytes(b"x" * (1 << 20))
    (top / "mount").mkdir(parents=True)
    program = (
        "import os, sys; from scopekeeper.owned.size import measure; "
        "found = measure(os.open(sys.argv[1], os.O_RDONLY), 99); print(found.bytes, found.complete)"
    )
    # a bind mount has the same device
    line = f"mount --bind {outside} {top}/mount && exec python3 -c '{program}' {top}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", line], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    size, complete = done.stdout.split()
    assert (int(size) < 1 << 17, complete) == (True, "False")


def test_another_folder_in_its_place_has_no_size(world):
    made = make()
    (claim,) = ClaimStore.make().read()[0]
    assert size_of(claim, 10).bytes == 0
    os.rmdir(made.path)
    assert size_of(claim, 10) is None
    os.mkdir(f"{base()}/other")
    os.symlink(f"{base()}/other", made.path)
    assert size_of(claim, 10) is None
    os.unlink(made.path)
    os.mkdir(made.path)
    thing = dataclasses.replace(claim.thing, inode=claim.thing.inode + 1)
    assert size_of(dataclasses.replace(claim, thing=thing), 10) is None


# its end


def own(world, made):
    """Bind a folder to the member of the imitated cgroupfs."""
    (claim,) = [c for c in world.store.read()[0] if c.path == made.path]
    holder = world.here.living(Kind.MEMBER, "/scopekeeper-s-main.scope/m-it.0123abcd")
    world.store.write(dataclasses.replace(claim, holder=holder))


END = {"unit": "scopekeeper-s-main.scope", "session": "s"}


@pytest.mark.parametrize("is_first", [True, False])
def test_the_history_has_its_size_whoever_writes_first(world, tmp_path, is_first):
    store = HistoryStore(tmp_path / "state" / "scopekeeper")
    made = make()
    own(world, made)
    with open(f"{made.path}/file", "wb") as file:
        file.write(b"x" * 10_000)
    end, other = an_end("0123abcd", **END), an_end("0123abce", **END)
    if is_first:
        assert recording.keep([end, other]) == ([end, other], "")
    world.populate()
    assert world.release() == {os.path.basename(made.path): "removed"}
    if not is_first:
        assert recording.keep([end, other]) == ([end, other], "")
    sizes = {each.member_id: each.scratch_bytes for each in store.read()}
    assert sizes == {"0123abcd": 12288, "0123abce": None}
    recording.keep([dataclasses.replace(end, exit_status=3)])
    (known,) = (each for each in store.read() if each.member_id == "0123abcd")
    assert (known.exit_status, known.scratch_bytes) == (3, 12288)


def test_a_process_that_has_it_as_tmpdir_keeps_it(world):
    made = make()
    own(world, made)
    world.populate()
    environment = {**os.environ, "TMPDIR": made.path}
    with subprocess.Popen(["sleep", "100"], env=environment) as process:
        eventually(lambda: "sleep" in os.readlink(f"/proc/{process.pid}/exe")
                   or "coreutils" in os.readlink(f"/proc/{process.pid}/exe"))  # fmt: skip
        assert world.release() == {}
        assert os.path.isdir(made.path)
        process.kill()
    assert list(world.release().values()) == ["removed"]


def test_a_process_in_the_middle_of_execve_is_looked_at_again(world, monkeypatch):
    made = make()
    environment, read = users.proc.environment, users.proc.read
    looks = iter((b"", b""))  # what the kernel shows before the new program has its stack
    with subprocess.Popen(["sleep", "100"], env={**os.environ, "TMPDIR": made.path}) as process:
        eventually(lambda: environment(process.pid))
        monkeypatch.setattr(users.proc, "environment", lambda pid: (
            next(looks, environment(pid)) if pid == process.pid else environment(pid)
        ))  # fmt: skip
        monkeypatch.setattr(users.proc, "read", lambda path: (
            "" if path == f"/proc/{process.pid}/cmdline" else read(path)
        ))  # fmt: skip
        assert users.with_tmpdir([made.path]) == {made.path: process.pid}
        process.kill()


def test_a_folder_beside_it_is_not_it(world):
    made = make()
    own(world, made)
    world.populate()
    with subprocess.Popen(["sleep", "100"], env={**os.environ, "TMPDIR": made.path + "x"}) as other:
        assert list(world.release().values()) == ["removed"]
        other.kill()


def test_sweeping_an_absent_place_does_nothing(world):
    scratch.sweep([])
    assert not os.path.exists(base())
