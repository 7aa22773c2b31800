"""``run --own``, and containers: claim them for the command that this process is about to execute.

Three steps make a launch safe that is killed in between:

1. Before anything else, write a durable claim whose holder is this process, by pid, start time and
   boot. If the process is killed from here on, the paths are due.
2. Enter the leaf.
3. Bind the claim to the leaf, or to its scope, and execute the command. A bound claim is held as
   long as a process lives there, whatever happens to this one.

A launch that fails before the command runs withdraws its claims: nothing is removed.
"""

import contextlib
import dataclasses
import os
import time

from scopekeeper.errors import StateError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.owned import check
from scopekeeper.owned.claim import NO_FILE, Claim, Container
from scopekeeper.owned.holders import Here
from scopekeeper.owned.store import ClaimStore


def path_of(argument: str) -> str:
    """Return the path in an argument as claims write it; raises RefusedError."""
    return check.plain(os.fsencode(argument).decode("utf-8", "surrogateescape"))


class Handover:
    """The claims of one launch."""

    def __init__(
        self, arguments: list[str], *, whole_scope: bool, container: Container | None = None
    ) -> None:
        """Claim all paths and the container, or none; raises RefusedError, StateError, LookupError.

        A container is always the member's, never the whole scope's.
        """
        paths = dict.fromkeys(path_of(argument) for argument in arguments)
        self.container_id = ""
        """The value of the label that the container has to have."""
        self._here = Here(mount_point())
        self._claims: list[Claim] = []
        for path in paths:
            check.examine(path)  # before we make our own files
        self._store = ClaimStore.make()
        holder = self._here.launch(whole_scope=whole_scope)
        with self._store.locked():
            try:
                for path in paths:
                    claim_id = os.urandom(8).hex()
                    thing = check.examine(path)
                    claim = Claim(claim_id, path, thing, holder, time.time_ns() // 1000)
                    self._claims.append(claim)
                    self._store.write(claim)
                if container is not None:
                    own = self._here.launch(whole_scope=False)
                    self.container_id = os.urandom(8).hex()
                    made = time.time_ns() // 1000
                    claim = Claim(self.container_id, container.program, NO_FILE, own, made)
                    claim = dataclasses.replace(claim, container=container)
                    self._claims.append(claim)
                    self._store.write(claim)
            except Exception:
                with contextlib.suppress(StateError):
                    self.withdraw()
                raise

    def bind(self) -> None:
        """Bind the claims to the leaf or scope of this process; raises StateError, OSError."""
        with self._store.locked():
            for claim in self._claims:
                holder = self._here.arrived(claim.holder)
                self._store.update(dataclasses.replace(claim, holder=holder))

    def withdraw(self) -> None:
        """Withdraw all claims, as many as possible; raises StateError."""
        failed: StateError | None = None
        for claim in self._claims:
            try:
                self._store.remove(claim)
            except StateError as error:
                failed = error
        if failed is not None:
            text = f"nothing was started, but what --own names may be removed: {failed.message}"
            raise StateError(text, "take it back with: scopekeeper disown PATH")
