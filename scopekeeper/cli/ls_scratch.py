"""The scratch folders of members, for lists and for JSON."""

from collections.abc import Collection

from scopekeeper.cli.show import safe, safe_json, warn
from scopekeeper.errors import ScopekeeperError
from scopekeeper.owned.scratch_sizes import Scratch, of_members


def scratch_of_members(wanted: Collection[str] | None = None) -> dict[str, Scratch]:
    """Return this user's scratch folders by the cgroup paths of their members.

    wanted has these paths, None for all. Warns if they cannot be found out.
    """
    try:
        return of_members(wanted)
    except (OSError, ScopekeeperError) as error:
        warn([f"scratch folders are unknown: {safe(str(error))}"])
        return {}


def scratch_fields(scratch: Scratch | None) -> dict[str, object]:
    """Return the JSON keys about the scratch folder of a member; None: it has none."""
    size = scratch.size if scratch is not None else None
    return {
        "scratch_path": None if scratch is None else safe_json(scratch.path),
        "scratch_bytes": None if size is None else size.bytes,
        "scratch_complete": None if size is None else size.complete,
        "scratch_max": None if scratch is None else scratch.max or None,
    }
