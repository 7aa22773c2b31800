"""End the container of a claim, with the program that started it.

The container is found by its label, whose value is the claim's random id: the name, the id in a
file or a pid could be another's. With ``--rm`` it is removed, else only stopped: what it wrote
stays.
"""

import os
import re
import stat
import subprocess

from scopekeeper.owned.claim import Container
from scopekeeper.owned.container import LABEL

_CONTAINER_ID = re.compile("[0-9a-f]{64}")
_LIMIT = 30.0
"""Seconds for one call of the program."""
_ATTEMPTS = 2
"""podman 5 fails once if the container's monitor was killed, and notes that it has ended."""
_GRACE = "5"
"""Seconds between SIGTERM and SIGKILL for a container that is stopped."""


class EndError(Exception):
    """The container cannot be looked for, or lives on."""


def end(claim_id: str, container: Container, *, same_boot: bool) -> str:
    """End the container; return removed, stopped, or gone (there was none); raises EndError."""
    if not same_boot and not os.path.lexists(container.program):
        return "gone"
    _check(container.program)
    found = _living(claim_id, container)
    if not found:
        return "gone"
    problem = ""
    for _ in range(_ATTEMPTS):
        for each in found:
            try:
                _call(container, *_action(container), each)
            except EndError as error:
                problem = str(error)  # another process may just have ended it
        found = _living(claim_id, container)
        if not found:
            return "removed" if container.removes else "stopped"
    raise EndError(problem or f"container {found[0][:12]} lives on")


def _action(container: Container) -> list[str]:
    if not container.removes:
        return ["stop", "--time", _GRACE]
    # its client has had the grace of the member, and passed SIGTERM on; docker kills at once
    at_once = ["--time", "0"] if container.program.endswith("/podman") else []
    return ["rm", "--force", *at_once]


def _living(claim_id: str, container: Container) -> list[str]:
    """Return the ids of the claim's containers, those that ended only if they are to be removed."""
    every = ["--all"] if container.removes else []
    words = ("--no-trunc", "--quiet", "--filter", f"label={LABEL}={claim_id}")
    found = _call(container, "ps", *every, *words).split()
    if not all(map(_CONTAINER_ID.fullmatch, found)):
        raise EndError(f"{container.program} ps printed something else than ids of containers")
    return found


def _call(container: Container, *words: str) -> str:
    """Call the program where the launch did; raises EndError."""
    argv = [container.program, *container.reach, *words]
    what = f"{container.program} {words[0]}"
    try:
        done = subprocess.run(
            argv, env=dict(container.environment), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_LIMIT, cwd="/", check=False, text=True, errors="surrogateescape",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EndError(f"{what} has not answered for {_LIMIT:.0f} s") from None
    except OSError as error:
        raise EndError(f"{what}: {error.strerror}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise EndError(f"{what} exited with {done.returncode}: {lines[-1] if lines else ''}"[:300])
    return done.stdout


def _check(program: str) -> None:
    """Refuse a program that another user could have put there."""
    try:
        found = os.stat(program)
    except OSError as error:
        raise EndError(f"{program}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise EndError(f"{program} is no file")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise EndError(f"{program} belongs to uid {found.st_uid} or can be written by others")
