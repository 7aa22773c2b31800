"""Helpers of the tests of owned paths: a store, a folder, and an imitation of cgroupfs."""

import dataclasses
import os

from scopekeeper.owned import check
from scopekeeper.owned.claim import Claim, Kind
from scopekeeper.owned.holders import Here
from scopekeeper.owned.release import release_due
from scopekeeper.owned.store import ClaimStore

SCOPE = "/scopekeeper-s-main.scope"
LEAF = SCOPE + "/m-it.0123abcd"


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
