"""The step for a user's manager that ends at the last logout: only root can change that."""

import os

from scopekeeper.setup.step import Found, Machine, Need, Outcome
from scopekeeper.systemd import lingering


class Lingering:
    """Finds a user without linger; changes nothing."""

    name = "linger"

    def find(self, machine: Machine) -> list[Found]:
        """Return a finding if all of this user's scopes end at the last logout."""
        uid = os.getuid()
        if machine.manager != "user" or not machine.has_systemd() or lingering.lingers(uid):
            return []
        return [
            Found(
                self.name, "linger", Need.ADVICE, "everything ends at your last logout",
                command=lingering.remedy(uid),
            )
        ]  # fmt: skip

    def do(self, *_: object) -> Outcome:
        """Do nothing: root has to."""
        return Outcome()

    def undo(self, *_: object, **__: object) -> Outcome:
        """Undo nothing: none of it is recorded."""
        return Outcome()
