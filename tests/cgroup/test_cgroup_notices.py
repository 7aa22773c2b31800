"""What the kernel tells of cgroups, and what the keeper is told of it: nothing is polled."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.errors import LimitError
from scopekeeper.keeper.events import (
    Blind,
    Overflow,
    ScopeAppeared,
    ScopeChanged,
    ScopeGone,
    What,
)
from scopekeeper.kernel.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_ONLYDIR,
    Inotify,
)
from scopekeeper.launch.create_cgroup import notes_folder
from scopekeeper.scope.names import escape
from tests.machine import (
    ATTRIBUTE,
    FOREVER,
    Scopekeeper,
    directory_of,
    end_cgroup,
    eventually,
    leaves,
    rewrite_record,
    scope_directories,
    scope_directory,
    sleeps,
    state_of,
    text_of,
)
from tests.watching import Watcher, descriptors, watched_inodes

pytestmark = pytest.mark.root


@pytest.fixture
def watcher(folder: str, tmp_path: Path) -> Iterator[Watcher]:
    """Watch the scratch cgroup, as if a launch had left a note of it."""
    (tmp_path / "scratch").symlink_to(folder)
    before = descriptors()
    it = Watcher(tmp_path, folder)
    assert folder in it.watch.bases
    yield it
    it.close()
    assert descriptors() == before


def new_scope(folder: str, name: str) -> str:
    """Make a scope by hand, with a record but without any process."""
    path = f"{folder}/scopekeeper-{name}-main.scope"
    os.mkdir(path)
    os.setxattr(path, ATTRIBUTE, f"V=1\nSESSION={name}\nLANE=main\n".encode())
    return path


def enter(process: subprocess.Popen[bytes], directory: str) -> None:
    Path(directory, "cgroup.procs").write_text(str(process.pid))


def test_the_kernel_tells_what_the_sources_build_on(folder: str) -> None:
    told: list[tuple[str, int, str]] = []
    watches = Inotify(lambda: told.append(("overflow", 0, "")), lambda _: None)

    def add(name: str, mask: int) -> None:
        path = f"{folder}/{name}".rstrip("/")
        assert watches.add(path, mask, lambda e: told.append((name, e.mask & 0xFFF, e.name)))

    def take(*expected: tuple[str, int, str]) -> None:
        """Wait for events, of which those of files come from a work queue, and see no others."""

        def came() -> bool:
            watches.dispatch()
            return len(told) >= len(expected)

        eventually(came)
        assert told == list(expected)
        told.clear()

    everything = IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR
    add("", everything)
    os.mkdir(f"{folder}/one")
    take(("", IN_CREATE, "one"))
    add("one", everything)
    os.setxattr(f"{folder}/one", ATTRIBUTE, b"x")
    take(("", IN_ATTRIB, "one"), ("one", IN_ATTRIB, ""))
    add("one/cgroup.events", IN_MODIFY)
    with subprocess.Popen(["sleep", "1000"]) as process:
        enter(process, f"{folder}/one")
        take(("one/cgroup.events", IN_MODIFY, ""))
        process.kill()
        eventually(lambda: state_of(process.pid) == "Z")
        take(("one/cgroup.events", IN_MODIFY, ""))  # at the zombie, not at the reaping
    time.sleep(0.05)
    take()
    inode = os.stat(f"{folder}/one").st_ino
    os.rmdir(f"{folder}/one")
    # Newer kernels may tell more: then what is done by hand here is done twice, which is harmless.
    eventually(lambda: watches.dispatch() or ("", IN_DELETE, "one") in told)
    assert inode in watched_inodes() or os.uname().release.split(".") > ["6", "18"]
    watches.close()


def test_a_scope_is_followed_from_its_making_to_its_end(
    keeper: Scopekeeper, session: str, folder: str, watcher: Watcher
) -> None:
    process = keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    scope = scope_directory(session, folder)
    one = os.path.basename(directory_of(process.pid))
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    second = keeper.member("-s", session, "-n", "two", "--", "sh", "-c", "read line; exit 7",
                           stdin=subprocess.PIPE)  # fmt: skip
    two = os.path.basename(directory_of(second.pid))
    watcher.until(lambda: watcher.changed(scope, two, What.CAME))
    watcher.follow(scope)
    assert second.stdin
    second.stdin.write(b"\n")
    second.stdin.flush()
    watcher.until(lambda: watcher.changed(scope, two, What.EMPTIED))
    watcher.until(lambda: watcher.ended(scope))
    (ended,) = watcher.ended(scope)
    assert (ended.leaf, ended.exit.status) == (two, 7)
    second.stdin.close()
    rewrite_record(scope, STATE="stopping")
    watcher.until(lambda: watcher.changed(scope, "", What.RECORD))
    rewrite_record(scope, STATE="")
    assert keeper.call("stop", "-s", session).returncode == 0
    watcher.until(lambda: watcher.gone(scope))
    ends = {event.leaf: event.exit for event in watcher.ended(scope)}
    assert ends[one].signal == signal.SIGTERM
    told = watcher.of(scope)
    assert told.index(ScopeAppeared(scope)) == 0
    assert told.count(ScopeGone(scope)) == 1
    assert scope not in watcher.watch.scopes


def test_what_comes_together_is_told_once(folder: str, watcher: Watcher) -> None:
    scope = new_scope(folder, "together")
    watcher.until(lambda: watcher.appeared(scope))
    watcher.told.clear()
    for number in range(20):
        os.mkdir(f"{scope}/m-x.{number:08x}")
        os.setxattr(f"{scope}/m-x.{number:08x}", ATTRIBUTE, b"V=1\n")
    watcher.until(lambda: len(watcher.changes(scope)) >= 40)
    assert len(watcher.of(scope)) == 1
    assert sorted(watcher.changes(scope), key=str) == sorted(
        [(f"m-x.{n:08x}", what) for n in range(20) for what in (What.CAME, What.RECORD)], key=str
    )


def test_a_scope_that_was_replaced_is_another(folder: str, watcher: Watcher) -> None:
    first = new_scope(folder, "again")
    watcher.until(lambda: watcher.appeared(first))
    os.rmdir(first)
    second = new_scope(folder, "again")
    os.mkdir(f"{second}/m-x.00000001")
    watcher.until(lambda: watcher.of(first).count(ScopeAppeared(first)) == 2)
    kinds = [type(event) for event in watcher.of(first) if not isinstance(event, ScopeChanged)]
    assert kinds == [ScopeAppeared, ScopeGone, ScopeAppeared]
    os.setxattr(f"{second}/m-x.00000001", ATTRIBUTE, b"V=1\n")
    watcher.until(lambda: watcher.changed(second, "m-x.00000001", What.RECORD))


def test_an_owner_that_ends_is_told(
    keeper: Scopekeeper, session: str, folder: str, watcher: Watcher
) -> None:
    owner = keeper.popen(["sleep", "1000"])
    keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    scope = scope_directory(session, folder)
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    watcher.run(0.05)
    assert watcher.owners() == []
    owner.kill()
    watcher.until(watcher.owners)
    assert [each.pid for each in watcher.owners()] == [owner.pid]


def test_an_owner_that_had_ended_before_is_told(
    keeper: Scopekeeper, session: str, folder: str, watcher: Watcher
) -> None:
    owner = keeper.popen(["sleep", "1000"])
    keeper.member("-s", session, "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    scope = scope_directory(session, folder)
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    watcher.until(watcher.owners)


def test_scopes_that_were_there_before_are_found(folder: str, tmp_path: Path) -> None:
    scope = new_scope(folder, "early")
    watcher = Watcher(tmp_path, folder)
    watcher.until(lambda: watcher.appeared(scope))
    later = new_scope(folder, "later")  # no note was left: the walk found the folder
    watcher.until(lambda: watcher.appeared(later))
    watcher.close()


def test_a_base_that_goes_takes_its_scopes_and_its_note(folder: str, tmp_path: Path) -> None:
    base = f"{folder}/service"
    watcher = Watcher(tmp_path, folder)
    for _ in range(3):
        os.mkdir(base)
        scope = new_scope(base, "inside")
        (tmp_path / escape(base)).symlink_to(base)
        watcher.until(lambda scope=scope: watcher.appeared(scope))
        os.rmdir(scope)
        os.rmdir(base)
        watcher.until(lambda scope=scope: watcher.gone(scope))
        watcher.until(lambda: base not in watcher.watch.bases)
        assert list(tmp_path.iterdir()) == []
        watcher.told.clear()
    watcher.close()


def test_a_launch_leaves_a_note_for_the_keeper_that_runs(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    base = f"{folder}/base"
    os.mkdir(base)
    watcher = Watcher(None)
    assert base not in watcher.watch.bases
    keeper.options = ("--placement", f"cgroup:{base}")
    keeper.member("-s", session, "--", *FOREVER)
    scope = scope_directory(session, folder)
    watcher.until(lambda: watcher.appeared(scope))
    end_cgroup(scope)
    eventually(lambda: keeper.call("stop", "-s", session).returncode == 0)
    os.rmdir(base)
    watcher.until(lambda: base not in watcher.watch.bases)
    links = [os.readlink(each) for each in Path(notes_folder(os.getuid())).iterdir()]
    assert base not in links
    watcher.close()


def test_where_no_keeper_ever_ran_a_launch_leaves_nothing(
    keeper: Scopekeeper, session: str, folder: str
) -> None:
    notes = Path(notes_folder(os.getuid()))
    there = notes.exists()
    assert keeper.run("-s", session, "--", "true").returncode == 0
    assert notes.exists() == there


def test_scopes_of_others_and_other_folders_are_not_told(folder: str, watcher: Watcher) -> None:
    os.mkdir(f"{folder}/something")
    foreign = f"{folder}/scopekeeper-theirs-main.scope"
    watcher.until(lambda: True)
    os.mkdir(f"{folder}/hidden")
    os.mkdir(f"{folder}/hidden/scopekeeper-theirs-main.scope")
    os.chown(f"{folder}/hidden/scopekeeper-theirs-main.scope", 12345, 12345)
    watcher.watch.rescan()
    ours = new_scope(folder, "ours")
    watcher.until(lambda: watcher.appeared(ours))
    assert not watcher.of(foreign)
    assert not watcher.of(f"{folder}/hidden/scopekeeper-theirs-main.scope")


def test_after_lost_events_all_is_watched_again(folder: str, watcher: Watcher) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        most = int(file.read())
    stays = new_scope(folder, "stays")
    goes = new_scope(folder, "goes")
    watcher.until(lambda: watcher.appeared(goes))
    # while the loop does not run the queue fills up, and what happens then is lost
    for number in range(most):
        os.setxattr(stays, ATTRIBUTE, b"%d" % (number % 2))
        os.setxattr(goes, ATTRIBUTE, b"%d" % (number % 2))
    os.rmdir(goes)
    os.mkdir(f"{stays}/m-x.00000001")
    new = new_scope(folder, "new")
    watcher.until(lambda: Overflow() in watcher.told)
    assert watcher.gone(goes)
    assert watcher.appeared(new)
    assert watcher.changed(stays, "m-x.00000001", What.CAME)
    late = new_scope(folder, "late")
    watcher.until(lambda: watcher.appeared(late))
    os.setxattr(f"{stays}/m-x.00000001", ATTRIBUTE, b"V=1\n")
    watcher.until(lambda: watcher.changed(stays, "m-x.00000001", What.RECORD))


def test_one_that_is_told_and_fails_does_not_take_the_news_from_the_next(
    folder: str, tmp_path: Path
) -> None:
    (tmp_path / "scratch").symlink_to(folder)
    watcher = Watcher(tmp_path, folder)
    watcher.loop.set_exception_handler(lambda *_: None)
    append, told = watcher.told.append, []

    def fail_once(event: object) -> None:
        append(event)
        if not told:
            told.append(event)
            raise ZeroDivisionError

    watcher.watch._queue._report = fail_once
    scopes = [new_scope(folder, name) for name in ("a", "b", "c")]
    watcher.until(lambda: all(map(watcher.appeared, scopes)))
    assert told
    watcher.close()


def test_a_limit_of_the_kernel_is_told_and_the_rest_goes_on(
    folder: str, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Inotify.add

    def full(self: Inotify, path: str, *rest: object) -> object:
        if "blind" in path:
            raise LimitError("no inotify watch is left", "raise it")
        return add(self, path, *rest)

    monkeypatch.setattr(Inotify, "add", full)
    blind, seen = new_scope(folder, "blind"), new_scope(folder, "seen")
    watcher.until(lambda: watcher.appeared(seen))
    assert Blind(blind, f"{blind}: no inotify watch is left; raise it") in watcher.told
    assert watcher.appeared(blind), "it is there, and has to be looked at"


def test_thousands_of_scopes_come_and_go_and_leave_nothing(folder: str, watcher: Watcher) -> None:
    before = descriptors()
    inodes: set[int] = set()
    for round_number in range(40):
        made = []
        for number in range(50):
            scope = new_scope(folder, f"r{round_number}n{number}")
            os.mkdir(f"{scope}/m-x.00000001")
            made.append(scope)
            inodes |= {
                os.stat(path).st_ino
                for path in (scope, f"{scope}/cgroup.events", f"{scope}/m-x.00000001/cgroup.events")
            }
            if number % 2:  # gone before anybody looked
                os.rmdir(f"{scope}/m-x.00000001")
                os.rmdir(scope)
        watcher.until(lambda made=made: all(map(watcher.appeared, made[::2])))
        for scope in made[::2]:
            os.rmdir(f"{scope}/m-x.00000001")
            os.rmdir(scope)
        watcher.until(lambda made=made: all(map(watcher.gone, made[::2])))
        watcher.told.clear()
    watcher.until(lambda: not [s for s in watcher.watch.scopes if s.startswith(folder)])
    assert not inodes & watched_inodes()
    assert descriptors() == before


IDLE = """
import asyncio, sys
from scopekeeper.keeper.watch import Watch
from scopekeeper.keeper.events import ScopeAppeared
from scopekeeper.scope.placement import Caller
from scopekeeper.scope.snapshot import Reader
async def main():
    appeared = []
    caller = Caller()
    caller.mount = sys.argv[2]  # what others do on this machine wakes it rightly
    watch = Watch(asyncio.get_running_loop(), caller,
                  lambda e: appeared.append(e.directory) if isinstance(e, ScopeAppeared) else None,
                  notes=sys.argv[1])
    watch.start()
    await asyncio.sleep(0.2)
    reader = Reader(caller.mount)
    for each in appeared:
        watch.follow(reader.scope(each))
    print(len(appeared), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_nothing_wakes_it_while_nothing_happens(folder: str, tmp_path: Path) -> None:
    for number in range(100):
        scope = new_scope(folder, f"idle{number}")
        for leaf in range(5):
            os.mkdir(f"{scope}/m-x.{leaf:08x}")
    with subprocess.Popen(
        [sys.executable, "-c", IDLE, str(tmp_path), folder], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"100\n"
            eventually(lambda: sleeps(process.pid))
            before = wake_ups(process.pid)
            os.mkdir(f"{scope}/m-x.99999999")
            eventually(lambda: wake_ups(process.pid) > before)
        finally:
            process.kill()


def wake_ups(pid: int) -> int:
    """Count how often a process went to sleep, which it does after each time it was woken."""
    status = text_of(f"/proc/{pid}/status")
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_what_was_told_is_what_is_there(
    folder: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    watcher = Watcher(tmp_path, folder)
    bases = [folder, f"{folder}/scopekeeper", f"{folder}/a", f"{folder}/a/b"]
    for _ in range(400):
        base = chance.choice(bases)
        scope = f"{base}/scopekeeper-s{chance.randrange(3)}-main.scope"
        leaf = f"{scope}/m-x.{chance.randrange(3):08x}"
        action = chance.choice((os.mkdir, os.mkdir, os.rmdir))
        for path in chance.sample((base, scope, leaf), chance.randrange(1, 4)):
            if path != folder:  # the mount stays
                with contextlib.suppress(OSError):
                    action(path)
        if os.path.isdir(scope):  # as the launch does it
            with contextlib.suppress(FileExistsError):
                (tmp_path / escape(base)).symlink_to(base)
        if chance.random() < 0.2:
            watcher.run(0)
    there = {
        scope: {f"{scope}/{leaf}" for leaf in leaves(scope)} for scope in scope_directories(folder)
    }
    watcher.until(lambda: set(watcher.watch.scopes) == there.keys())
    watcher.run(0.02)
    known: set[str] = set()
    for event in watcher.told:
        if isinstance(event, ScopeAppeared):
            assert event.directory not in known
            known.add(event.directory)
        elif isinstance(event, ScopeGone):
            known.remove(event.directory)
        elif isinstance(event, ScopeChanged):
            assert event.directory in known
    assert known == there.keys()
    files = {f"{each}/cgroup.events" for scope in there for each in (scope, *there[scope])}
    assert {os.stat(file).st_ino for file in files} <= watched_inodes()
    expected = len(files) + len(there)
    folders = {os.stat(each).st_ino for each in (*bases, tmp_path) if os.path.isdir(each)}
    assert len(watched_inodes() - folders) == expected
    watcher.close()
