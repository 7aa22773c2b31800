"""What the keeper is told on a real systemd: scopes, members and owners, as they come and go."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.keeper.events import LeaderEnded, What
from scopekeeper.launch.create_cgroup import notes_folder
from scopekeeper.scope.model import Liveness
from scopekeeper.scope.snapshot import Reader
from tests.machine import (
    FOREVER,
    MOUNT,
    PROGRAM,
    ROOT,
    Scopekeeper,
    directory_of,
    eventually,
    is_populated,
    scope_directory,
)
from tests.watching import Watcher, descriptors, watched_inodes

from .manager import SLICE, Units, show, state, systemctl

pytestmark = pytest.mark.systemd


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    before = descriptors()
    it = Watcher(None)
    yield it
    it.close()
    assert descriptors() == before


def serve(units: Units, session: str, *options: str, member: str = "tool") -> str:
    """Start a service that owns a member of a scope; return the service's name."""
    name = f"gateway-{session.rpartition(':')[2]}.service"
    script = f"{PROGRAM} run -s {session} -n {member} -- sleep infinity & exec sleep infinity"
    units.run(name, *options, command=("sh", "-c", script))
    eventually(lambda: found_scope(session))
    return name


def found_scope(session: str) -> str:
    """Return the session's scope once a process is in a leaf of it."""
    scope = scope_directory(session)
    return scope if scope and any(map(is_populated, leaves_of(scope))) else ""


def leaves_of(scope: str) -> list[str]:
    return [str(each) for each in Path(scope).glob("m-*")]


def followed(watcher: Watcher, session: str) -> str:
    """Wait for a session's scope and follow what is in it."""
    scope = eventually(lambda: found_scope(session))
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    watcher.run(0.1)
    watcher.told.clear()
    return scope


def gone(watcher: Watcher) -> bool:
    """Look again at the owners that were told, as the keeper does: is the proof there?"""
    reader = Reader(MOUNT)
    return any(reader.owner_state(each).liveness is Liveness.GONE for each in watcher.owners())


def test_a_scope_is_told_from_its_making_to_its_end(
    keeper: Scopekeeper, session: str, watcher: Watcher
) -> None:
    assert SLICE in watcher.watch.bases
    first = keeper.member("-s", session, "-n", "one", "--", *FOREVER)
    scope = scope_directory(session)
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    second = keeper.member("-s", session, "-n", "two", "--", *FOREVER)
    leaf = os.path.basename(directory_of(second.pid))
    watcher.until(lambda: watcher.changed(scope, leaf, What.CAME))
    watcher.follow(scope)
    second.kill()
    watcher.until(lambda: watcher.changed(scope, leaf, What.EMPTIED))
    watcher.until(lambda: watcher.ended(scope))
    (ended,) = watcher.ended(scope)
    assert (ended.leaf, ended.exit.signal) == (leaf, signal.SIGKILL)
    assert keeper.call("stop", "-s", session).returncode == 0
    assert first.wait() == -signal.SIGTERM
    watcher.until(lambda: watcher.gone(scope))
    watcher.until(lambda: len(watcher.ended(scope)) == 2)
    assert watcher.watch.scopes == ()


def test_the_slice_may_come_later_and_go(
    keeper: Scopekeeper, session: str, watcher: Watcher
) -> None:
    for number in range(2):
        assert systemctl("stop", "scopekeeper.slice").returncode == 0
        eventually(lambda: not os.path.isdir(SLICE))
        watcher.run(0.05)
        process = keeper.member("-s", f"{session}:{number}", "--", *FOREVER)
        scope = scope_directory(f"{session}:{number}")
        watcher.until(lambda scope=scope: watcher.appeared(scope))
        process.kill()
        process.wait()
        watcher.until(lambda scope=scope: watcher.gone(scope))


def test_a_service_that_stops_is_an_owner_that_changed(
    keeper: Scopekeeper, units: Units, session: str, watcher: Watcher
) -> None:
    name = serve(units, session)
    followed(watcher, session)
    assert watcher.owners() == []
    assert systemctl("stop", name).returncode == 0
    watcher.until(lambda: gone(watcher))
    assert {owner.unit for owner in watcher.owners()} == {name}


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_service_that_is_started_again_is_an_owner_that_changed(
    keeper: Scopekeeper, units: Units, session: str, watcher: Watcher, how: str
) -> None:
    name = serve(units, session, "-pRestart=always", "-pRestartSec=50ms")
    followed(watcher, session)
    before = show(name, "InvocationID")
    if how == "restart":
        assert systemctl("restart", name).returncode == 0
    else:
        assert systemctl("kill", "--signal=SIGKILL", name).returncode == 0
    eventually(lambda: state(name) == "active" and show(name, "InvocationID") != before)
    watcher.until(lambda: gone(watcher))
    assert {owner.epoch for owner in watcher.owners()} == {before}


def test_a_service_that_had_stopped_before_it_was_followed(
    keeper: Scopekeeper, units: Units, session: str, watcher: Watcher
) -> None:
    name = f"gateway-{session.rpartition(':')[2]}.service"
    run = f"{PROGRAM} run --lifetime detached -s {session} -- sleep infinity"
    units.run(name, command=("sh", "-c", f"{run} & exec sleep infinity"))
    scope = eventually(lambda: found_scope(session))
    watcher.until(lambda: watcher.appeared(scope))
    found = Reader(MOUNT).scope(scope)
    assert found is not None
    assert systemctl("stop", name).returncode == 0
    eventually(lambda: state(name) in ("inactive", "failed"))
    if is_populated(scope):
        watcher.watch.follow(found)
        watcher.until(lambda: gone(watcher))


def test_owners_are_watched_by_the_links_alone_and_by_the_cgroups_alone(
    keeper: Scopekeeper, units: Units, session: str
) -> None:
    from scopekeeper.keeper.owner_watch import OwnerWatch
    from scopekeeper.keeper.processes import Processes
    from scopekeeper.kernel.inotify import Inotify
    from tests.watching import Looped

    name = serve(units, session)
    scope = Reader(MOUNT).scope(eventually(lambda: found_scope(session)))
    assert scope is not None
    (owner,) = {m.owner_state.owner for m in scope.members if m.owner_state}
    looped = Looped()
    watches = Inotify(lambda: None, lambda _: None)
    looped.loop.add_reader(watches.fileno(), watches.dispatch)
    ends = Processes(looped.loop)
    by_link: list[object] = []
    by_cgroup: list[object] = []
    links = OwnerWatch(watches, ends, "/nowhere", by_link.append)
    cgroups = OwnerWatch(watches, ends, MOUNT, by_cgroup.append, run="/nowhere")
    links.follow(owner)
    cgroups.follow(owner)
    looped.run(0.1)
    by_link.clear()
    assert by_cgroup == [] or not ROOT  # a user's manager leaves its epoch in the link alone
    by_cgroup.clear()
    assert systemctl("stop", name).returncode == 0
    looped.until(lambda: owner in by_link and owner in by_cgroup)
    links.forget(owner)
    cgroups.forget(owner)
    assert len(watches) == 0
    ends.close()
    watches.close()
    looped.loop.close()


def test_a_scope_inside_of_a_service_is_told_by_the_note_of_its_launch(
    keeper: Scopekeeper, units: Units, session: str, watcher: Watcher
) -> None:
    name = f"inside-{session.rpartition(':')[2]}.service"
    units.run(name, "-pDelegate=yes", command=(PROGRAM, "run", "-s", session, "--", *FOREVER))
    scope = eventually(lambda: found_scope(session))
    service = os.path.dirname(scope)
    assert os.path.basename(service) == name
    watcher.until(lambda: watcher.appeared(scope))
    assert service in watcher.watch.bases
    assert service in [os.readlink(n) for n in Path(notes_folder(os.getuid())).iterdir()]
    assert systemctl("stop", name).returncode == 0
    watcher.until(lambda: watcher.gone(scope))
    watcher.until(lambda: service not in watcher.watch.bases)
    assert service not in [os.readlink(n) for n in Path(notes_folder(os.getuid())).iterdir()]


def test_how_a_servers_end_is_known_where_a_gateway_reaps_it(
    keeper: Scopekeeper, units: Units, session: str, watcher: Watcher, tmp_path: Path
) -> None:
    name = f"gateway-{session.rpartition(':')[2]}.service"
    flag = tmp_path / "go"
    member = (
        f"{PROGRAM} run -s {session} -- sh -c 'until [ -e {flag} ]; do sleep 0.1; done; exit 4'"
    )
    units.run(name, command=("sh", "-c", f"{member}; exec sleep infinity"))
    scope = followed(watcher, session)
    flag.touch()
    watcher.until(lambda: watcher.ended(scope))
    (ended,) = watcher.ended(scope)
    assert isinstance(ended, LeaderEnded)
    if {"pidfd", "connector"} & set(watcher.watch.sources):
        assert ended.exit.status == 4
    else:
        assert ended.exit.status in (4, None)


GREEDY = (sys.executable, "-c", "input(); bytearray(200 << 20)")


@pytest.mark.controllers
@pytest.mark.parametrize("limit", ["--memory-max=40M", "--member-memory-max=40M"])
def test_an_oom_kill_is_told_of_the_leaf_or_else_of_the_scope(
    keeper: Scopekeeper, session: str, watcher: Watcher, limit: str
) -> None:
    process = keeper.member(
        "-s", session, "-n", "greedy", limit, "--", *GREEDY, stdin=subprocess.PIPE
    )
    # with nobody left in it systemd removes the scope, and its count with it
    keeper.member("-s", session, "-n", "calm", "--", *FOREVER)
    leaf = os.path.basename(directory_of(process.pid))
    scope = os.path.dirname(directory_of(process.pid))
    watcher.until(lambda: watcher.appeared(scope))
    watcher.follow(scope)
    watcher.run(0.1)
    assert What.OOM_KILL not in [what for _, what in watcher.changes(scope)]
    process.communicate(b"\n")
    assert process.returncode == -signal.SIGKILL
    watcher.until(lambda: What.OOM_KILL in [what for _, what in watcher.changes(scope)])
    where = leaf if "member" in limit else ""
    assert watcher.changed(scope, where, What.OOM_KILL)


@pytest.mark.controllers
@pytest.mark.parametrize("by", ["the kernel", "a signal", "both at once"])
def test_an_oom_kill_of_all_of_a_scope_is_told_also_once_that_is_gone(
    keeper: Scopekeeper, session: str, watcher: Watcher, by: str
) -> None:
    """Its slice has counted it; which of two scopes that go at once it was in, is not known."""

    def greedy(name: str) -> tuple[str, subprocess.Popen[bytes]]:
        words = ("-s", f"{session}:{name}", "-n", "greedy", "--memory-max=40M")
        process = keeper.member(*words, "--", *GREEDY, stdin=subprocess.PIPE)
        scope = os.path.dirname(directory_of(process.pid))
        watcher.until(lambda: watcher.appeared(scope))
        watcher.follow(scope)
        return scope, process

    (scope, process), (other, another) = greedy("a"), greedy("b")
    watcher.run(0.1)
    if by == "the kernel":
        os.write(process.stdin.fileno(), b"\n")
    else:
        process.kill()
    if by == "both at once":
        os.write(another.stdin.fileno(), b"\n")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    # the watch looks only now
    eventually(lambda: not os.path.exists(scope))
    eventually(lambda: by != "both at once" or not os.path.exists(other))
    watcher.until(lambda: watcher.gone(scope))
    told = What.OOM_KILL in [what for _, what in watcher.changes(scope)]
    assert told is (by == "the kernel")
    another.communicate(b"\n" if by != "both at once" else None, timeout=120)
    if by != "both at once":
        eventually(lambda: not os.path.exists(other))
        watcher.until(lambda: watcher.gone(other))
        assert What.OOM_KILL in [what for _, what in watcher.changes(other)]


def test_scopes_that_come_and_go_leave_no_watch(
    keeper: Scopekeeper, session: str, watcher: Watcher
) -> None:
    watcher.run(0.1)
    before = descriptors()
    for number in range(10):
        process = keeper.member("-s", f"{session}:{number}", "--", *FOREVER)
        scope = scope_directory(f"{session}:{number}")
        inodes = {os.stat(p).st_ino for p in (scope, *leaves_of(scope), f"{scope}/cgroup.events")}
        watcher.until(lambda scope=scope: watcher.appeared(scope))
        watcher.follow(scope)
        assert inodes & watched_inodes()
        process.kill()
        process.wait()
        watcher.until(lambda scope=scope: watcher.gone(scope) and watcher.ended(scope))
        assert not inodes & watched_inodes()
    assert descriptors() == before
