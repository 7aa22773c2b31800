"""What a stop leaves: members that its targets launched, and that were started to outlive them."""

import os
from collections.abc import Sequence

from scopekeeper.cli.show import safe, safe_json
from scopekeeper.cli.stop_report import launched_document
from scopekeeper.cli.users import user_fields
from scopekeeper.scope.launched import Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 5
"""Members that are named."""


def still_run(found: Sequence[Launched], *, dry_run: bool = False) -> list[str]:
    """Return a line for each of these, or for the first ones and a count."""
    verb = "would still run" if dry_run else "still runs"
    lines = [
        _went_on(each) if each.goes_on else f"{verb}: {named(each)}; end it: {command_to_end(each)}"
        for each in found[:_MOST]
    ]
    rest = found[_MOST:]
    if rest:
        lists = " and ".join(dict.fromkeys(f"scopekeeper ls {x.launcher.arguments}" for x in rest))
        lines.append(f"{verb}: {len(rest)} more; {lists} lists all")
    return [safe(line) for line in lines]


def named(each: Launched) -> str:
    """Return a member's name for people, with its lifetime."""
    return f"{each.words[:-1]}; lifetime {each.member.lifetime})"


def command_to_end(each: Launched) -> str:
    """Return the command that ends it alone."""
    import shlex

    option = "" if each.scope.uid == os.getuid() else " --all-users"
    return f"scopekeeper stop{option} {shlex.quote(each.member.leaf)}"


def outliving_document(found: Sequence[Launched]) -> "list[dict[str, Any]]":
    """Return the JSON objects of all of them."""
    return [
        {
            "unit": each.scope.unit,
            **user_fields(each.scope.uid),
            "session": safe_json(each.scope.session),
            "lane": safe_json(each.scope.lane),
            "run": safe_json(each.scope.run) or None,
            "member": safe_json(each.member.name),
            "member_id": each.member.member_id,
            "lifetime": each.member.lifetime,
            "pids": list(each.member.pids),
            "launched_by": launched_document(each),
        }
        for each in found
    ]


def _went_on(each: Launched) -> str:
    """Return the sentence on a member that is named, and whose process goes on as this one."""
    return (
        f"{each.launcher.words} went on as {each.words}, which was started to outlive it; end it: "
        f"{command_to_end(each)}"
    )
