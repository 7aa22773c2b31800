"""A launch of docker or podman: claims its container, so that it ends with the member.

Both programs are clients: the container is a child of a daemon or of a monitor elsewhere, and
survives the client.
"""

import posix

from scopekeeper.errors import StateError
from scopekeeper.launch.path_options import hand_over
from scopekeeper.launch.program import say
from scopekeeper.owned import container as calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scopekeeper.owned.claim_at_launch import Handover


def hand_over_container(
    options: dict[str, str], command: list[str], program: bytes, environment: dict[bytes, bytes]
) -> "tuple[Handover | None, list[str]]":
    """Claim the container of a command, and the paths of ``--own``.

    Return the claims and the command with the container's label; None and the same command if it
    runs no container or none can be claimed, with a warning. Raises UsageError, RefusedError,
    StateError.
    """
    try:
        call = calls.read(command)
    except ValueError as error:
        say(f"warning: the container does not end with the member: {error}")
        return None, command
    if call is None:
        return None, command
    from scopekeeper.owned.claim import Container

    where = program.decode("utf-8", "surrogateescape")
    if not where.startswith("/"):
        where = f"{posix.getcwd()}/{where}"
    where = "/" + "/".join(part for part in where.split("/") if part not in ("", "."))
    if ".." in where.split("/"):
        say("warning: the container does not end with the member: '..' is in the program's path")
        return None, command
    known = tuple(
        (name, environment[name.encode()].decode("utf-8", "surrogateescape"))
        for name in calls.VARIABLES
        if name.encode() in environment
    )
    container = Container(where, tuple(call.reach), known, call.removes)
    try:
        handover = hand_over(options, container)
    except StateError as error:
        if "own" in options:
            raise
        say(f"warning: the container does not end with the member: {error}")
        return None, command
    return handover, call.labelled(command, handover.container_id)
