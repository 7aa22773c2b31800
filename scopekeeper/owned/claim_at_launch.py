"""``run --own``: hands paths over to the command that this process is about to become.

Three steps, so that a launch that is killed in between is harmless:

1. Before anything is made, a claim is written, durably: its holder is this process, by pid, start
   time and boot. It is held while the process lives, and the command has not run. Killed from here
   on, the paths are due.
2. The process enters its leaf.
3. The claim is bound to that leaf, or to its scope, and the command is executed. A bound claim is
   held for as long as anything lives there, whatever becomes of this process.

A launch that fails before the command runs gives the paths back: nothing is removed.
"""

import contextlib
import dataclasses
import os
import time

from scopekeeper.errors import StateError
from scopekeeper.kernel.proc import mount_point
from scopekeeper.owned import check
from scopekeeper.owned.claim import Claim
from scopekeeper.owned.holders import Here
from scopekeeper.owned.store import ClaimStore


def path_of(argument: str) -> str:
    """Return an argument as a path in the form of claims; raises RefusedError."""
    return check.plain(os.fsencode(argument).decode("utf-8", "surrogateescape"))


class Handover:
    """The claims of one launch."""

    def __init__(self, arguments: list[str], *, whole_scope: bool) -> None:
        """Claim all of the paths, or none; raises RefusedError, StateError, LookupError."""
        paths = dict.fromkeys(path_of(argument) for argument in arguments)
        self._here = Here(mount_point())
        self._claims: list[Claim] = []
        for path in paths:
            check.examine(path)  # before anything of ours is made
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
            except Exception:
                with contextlib.suppress(StateError):
                    self.withdraw()
                raise

    def bind(self) -> None:
        """Bind the claims to where this process is now; raises StateError, OSError."""
        holder = self._here.arrived(self._claims[0].holder)
        with self._store.locked():
            for claim in self._claims:
                self._store.update(dataclasses.replace(claim, holder=holder))

    def withdraw(self) -> None:
        """Give all of the paths back; raises StateError."""
        try:
            for claim in self._claims:
                self._store.remove(claim)
        except StateError as error:
            text = f"nothing was started, but what --own names will be removed: {error.message}"
            raise StateError(text, "take it back with: scopekeeper disown PATH") from None
