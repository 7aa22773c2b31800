"""Find processes that left their scope: shown by ``ls --escaped``, ended by ``reconcile``."""

import os
from dataclasses import dataclass
from typing import Any

import click

from scopekeeper.cli.show import answer, safe, table
from scopekeeper.cli.users import uid_of, user_fields
from scopekeeper.kernel.proc import mount_point
from scopekeeper.lifecycle.escaped import Escaped, end, find, may_be_ended
from scopekeeper.scope.snapshot import Reader


def show(*, as_json: bool, all_users: bool) -> None:
    """Print the escaped processes of this user, or of all users as far as they can be read."""
    uid = uid_of(all_users=all_users)
    found = find(Reader(mount_point()).snapshot(uid=uid), uid)
    if as_json:
        answer({"escaped": [Handled(each, "", "").document for each in found]})
    elif found:
        rows = [
            (each.session, each.lane, str(each.pid), "ended" if each.is_over else "running",
             each.cgroup, each.command) for each in found
        ]  # fmt: skip
        table(("SESSION", "LANE", "PID", "MEMBER", "CGROUP", "COMMAND"), rows, shrink=(0, 4, 5),
              users=[each.uid for each in found] if all_users else None)  # fmt: skip
    else:
        click.echo("No process has left its scope." if all_users else
                   "No process of yours has left its scope.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Handled:
    """An escaped process, the step that the policy demands, and its outcome."""

    escaped: Escaped
    step: str
    outcome: str

    @property
    def row(self) -> tuple[str, ...]:
        """Its row in the table of ``reconcile``."""
        each = self.escaped
        done = self.outcome or self.step
        return each.session, each.lane, "-", str(each.pid), "escaped", done, each.evidence

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object."""
        each = self.escaped
        return {
            **user_fields(each.uid),
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


def handle(reader: Reader, *, stops: bool, dry_run: bool) -> list[Handled]:
    """Find the escaped processes of this user, and end those that the policy lets end."""
    uid = os.getuid()
    snapshot = reader.again().snapshot(uid=uid)
    found = find(snapshot, uid)
    steps = {each.pid: "stop" if stops and may_be_ended(each) else "report" for each in found}
    outcomes: dict[int, str] = {}
    if not dry_run:
        doomed = [each for each in found if steps[each.pid] == "stop"]
        outcomes = {each.pid: "reported" for each in found} | end(doomed, snapshot, uid)
    return [Handled(each, steps[each.pid], outcomes.get(each.pid, "")) for each in found]
