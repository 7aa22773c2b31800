"""Helpers of the tests of owned paths: a store, a folder, and an imitation of cgroupfs."""

import dataclasses
import itertools
import os
import signal
import sys

from scopekeeper.owned import check
from scopekeeper.owned.claim import Claim, Kind
from scopekeeper.owned.holders import Here
from scopekeeper.owned.release import release_due
from scopekeeper.owned.store import ClaimStore

SCOPE = "/scopekeeper-s-main.scope"
LEAF = SCOPE + "/m-it.0123abcd"
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")


class World:
    """A state folder, a folder of paths to own, and an imitation of cgroupfs."""

    def __init__(self, top):
        self.top = top
        self.mount = str(top / "cgroup")
        self.room = top / "room"
        self.room.mkdir()
        self.populate()
        self.store = ClaimStore.make()
        self.here = Here(self.mount)
        self.claims = 0

    def populate(self, *pids):
        """Put these processes into the member."""
        for path in (SCOPE, LEAF):
            folder = self.top / f"cgroup{path}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.events").write_text(f"populated {int(bool(pids))}\nfrozen 0\n")
            (folder / "cgroup.procs").write_text("")
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def folder(self, name="turn"):
        path = self.room / name
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "mcp.json").write_text("{}")
        (path / "link").symlink_to(self.top)
        return str(path)

    def own(self, path, kind=Kind.MEMBER, **changes):
        """Write a claim of a path."""
        self.claims += 1
        holder = self.here.living(kind, LEAF if kind is Kind.MEMBER else SCOPE)
        holder = dataclasses.replace(holder, **changes)
        claim = Claim(f"{self.claims:016x}", path, check.examine(path), holder, self.claims)
        self.store.write(claim)
        return claim

    def release(self):
        """Release what is due; return what became of each path."""
        report = release_due(self.mount)
        assert not report.problem
        return {os.path.basename(o.claim.path): o.what for o in report.done}

    def kept(self):
        return [claim.path for claim in self.store.read()[0]]


def dies_at(step, work):
    """Do some work in a child that is killed before its change of that number; did it die?"""
    child = os.fork()
    if child == 0:
        seen = itertools.count()

        def reached():
            if next(seen) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event, arguments):
            written = event == "open" and arguments[2] & (os.O_CREAT | os.O_WRONLY)
            if event in _CHANGES or written:
                reached()

        def counted(call):
            def wrapped(*arguments):
                reached()
                return call(*arguments)

            return wrapped

        os.write, os.fsync = counted(os.write), counted(os.fsync)
        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
