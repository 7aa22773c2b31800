"""Find out from cgroupfs and procfs whether the holders of claims are gone.

A holder that cannot be read is not gone.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

from scopekeeper.kernel import cgroupfs, proc
from scopekeeper.owned import users
from scopekeeper.owned.claim import Claim, Holder, Kind
from scopekeeper.owned.plan import HolderState


class Here:
    """This boot, these namespaces, this cgroup2 mount."""

    def __init__(self, mount: str) -> None:
        self.mount = mount
        self.boot_id = proc.boot_id()
        self.namespaces = proc.namespaces()

    def launch(self, *, whole_scope: bool) -> Holder:
        """Return this process as the holder of a launch on its way to its leaf."""
        return Holder(
            Kind.LAUNCH,
            self.boot_id,
            self.namespaces,
            pid=os.getpid(),
            start=proc.start_time("self"),
            whole_scope=whole_scope,
        )

    def arrived(self, holder: Holder) -> Holder:
        """Return the holder that replaces a launch's, now that this process is in its leaf."""
        path = cgroupfs.path_of()
        kind = Kind.MEMBER
        if holder.whole_scope:
            kind, path = Kind.SCOPE, path.rpartition("/")[0]
        return self.living(kind, path)

    def living(self, kind: Kind, path: str) -> Holder:
        """Return the holder for a member's leaf or a scope; raises OSError if that is gone."""
        number = os.stat(self.mount + path).st_ino
        return Holder(kind, self.boot_id, self.namespaces, cgroup=path, cgroup_id=number)

    def nobody(self, holder: Holder) -> Holder:
        """Return the holder of a path that this holder does not use."""
        return dataclasses.replace(holder, kind=Kind.NOBODY, cgroup_id=0)

    def states(self, claims: Sequence[Claim]) -> list[tuple[Claim, HolderState]]:
        """Return each claim with the state of its holder."""
        of_paths = self._states({c.holder for c in claims if c.container is None}, lambda _: True)
        # podman 4 moves itself out of the member. The container's own monitor may live outside too,
        # but ends with the container
        of_clients = self._states({c.holder for c in claims if c.container}, users.is_client)
        found = [(c, (of_clients if c.container else of_paths)[c.holder]) for c in claims]
        ended = [c.path for c, state in found if c.is_scratch and state.gone]
        users_of = users.with_tmpdir(ended)
        return [(c, _held(users_of[c.path]) if c.path in users_of else s) for c, s in found]

    def _states(
        self, holders: set[Holder], counts: Callable[[int], bool]
    ) -> dict[Holder, HolderState]:
        """Return the states of holders; a process that left one counts if counts is true of it."""
        known = {holder: self._state(holder) for holder in holders}
        ended = [
            holder
            for holder, state in known.items()
            if state.gone and holder.kind in (Kind.MEMBER, Kind.SCOPE)
            if holder.boot_id == self.boot_id
        ]
        for holder, pid in users.escaped_from(ended, counts).items():
            evidence = f"process {pid} of it lives outside of it"
            known[holder] = HolderState(gone=False, evidence=evidence, unwatched=True)
        return known

    def _state(self, holder: Holder) -> HolderState:
        if holder.boot_id != self.boot_id:
            return HolderState(gone=True, evidence="the machine has been started again since")
        if holder.kind is Kind.NOBODY:
            return HolderState(gone=True, evidence=f"nothing in {holder.label} used it")
        try:
            if holder.kind is Kind.LAUNCH:
                return self._launch_state(holder)
            return self._cgroup_state(holder)
        except OSError as error:
            return HolderState(gone=False, evidence=f"it cannot be looked at: {error.strerror}")

    def _launch_state(self, holder: Holder) -> HolderState:
        if holder.namespaces != self.namespaces:
            return HolderState(gone=False, evidence="it was launched in another container")
        if not proc.runs(holder.pid, holder.start):
            return HolderState(gone=True, evidence="its launch ended before the command ran")
        evidence = f"its launch goes on (process {holder.pid})"
        return HolderState(gone=False, evidence=evidence, unwatched=True)

    def _cgroup_state(self, holder: Holder) -> HolderState:
        if holder.namespaces.partition("/")[2] != self.namespaces.partition("/")[2]:
            return HolderState(gone=False, evidence="it was launched in another container")
        directory = self.mount + holder.cgroup
        try:
            same = os.stat(directory).st_ino == holder.cgroup_id
        except OSError as error:
            if error.errno not in cgroupfs.GONE:
                raise
            same = False
        if same and cgroupfs.is_populated(directory):
            number = len(cgroupfs.processes(directory))
            processes = f"{number} process{'' if number == 1 else 'es'}"
            return HolderState(gone=False, evidence=f"{processes} in {_what(holder)}")
        return HolderState(gone=True, evidence=f"no process of {_what(holder)} lives")


def _held(pid: int) -> HolderState:
    return HolderState(gone=False, evidence=f"process {pid} has it as TMPDIR", unwatched=True)


def _what(holder: Holder) -> str:
    return "the member" if holder.kind is Kind.MEMBER else "the scope"
