"""How ``ls --escaped`` and ``reconcile`` show processes that left their scope."""

import os
from dataclasses import dataclass
from typing import Any

import click

from scopekeeper.cli.show import answer, safe, table
from scopekeeper.cli.users import uid_of, user
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle.escaped import Escaped, end, find, may_be_ended
from scopekeeper.scope.snapshot import Reader


def show(*, as_json: bool, all_users: bool) -> None:
    """Print the escaped processes of this user, or of everybody as far as they can be read."""
    uid = uid_of(all_users=all_users)
    found = find(Reader(mount_point()).snapshot(uid=uid), uid)
    if as_json:
        answer({"escaped": [Treated(each, "", "").document for each in found]})
        return
    rows = [
        (*([user(each.uid)] if all_users else []), each.session, each.lane, str(each.pid),
         "over" if each.is_over else "runs", each.cgroup, each.command) for each in found
    ]  # fmt: skip
    if rows:
        header = ("SESSION", "LANE", "PID", "MEMBER", "IS IN", "COMMAND")
        first = int(all_users)
        table((*(["USER"] if all_users else []), *header), rows,
              shrink=[first, first + 4, first + 5])  # fmt: skip
    else:
        click.echo("No process has left its scope." if all_users else
                   "No process of yours has left its scope.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Treated:
    """One escaped process, what the policy says of it, and what became of it."""

    escaped: Escaped
    step: str
    outcome: str

    @property
    def row(self) -> tuple[str, ...]:
        """Its line in the table of ``reconcile``."""
        each = self.escaped
        done = self.outcome or self.step
        return each.session, each.lane, "-", str(each.pid), "escaped", done, each.evidence

    @property
    def document(self) -> dict[str, Any]:
        """Its place in an answer."""
        each = self.escaped
        return {
            "uid": each.uid,
            "user": user(each.uid),
            "unit": safe(each.scope),
            "cgroup": safe(each.cgroup),
            "member": safe(each.leaf),
            "pid": each.pid,
            "class": "escaped",
            "action": self.step or None,
            "evidence": safe(each.evidence),
            "outcome": self.outcome or None,
            "command": safe(each.command),
        }


def treat(reader: Reader, *, stops: bool, dry_run: bool) -> list[Treated]:
    """Find the escaped processes of this user, and end what the policy lets end."""
    uid = os.getuid()
    snapshot = reader.again().snapshot(uid=uid)
    found = find(snapshot, uid)
    steps = {each.pid: "stop" if stops and may_be_ended(each) else "report" for each in found}
    outcomes: dict[int, str] = {}
    if not dry_run:
        doomed = [each for each in found if steps[each.pid] == "stop"]
        outcomes = {each.pid: "reported" for each in found} | end(doomed, snapshot, uid)
    return [Treated(each, steps[each.pid], outcomes.get(each.pid, "")) for each in found]
