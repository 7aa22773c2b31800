"""Variables of clients that do not count: why, for people, and one warning for each owner."""

import contextlib
import os

from scopekeeper import regular_files
from scopekeeper.clients import cached
from scopekeeper.clients.table import TABLE
from scopekeeper.clients.variables import has_file
from scopekeeper.policy.cache_format import runtime_path
from scopekeeper.scope.owner import LaunchOwner

_SIZE_MAX = 64 << 10
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT
_WHY = {
    "inherited": "it was inherited from another session",
    "invalid": "its value is no session id",
    "incomplete": "{} is missing, which its client sets beside it",
}


def why(ignored: str) -> str:
    """Return the sentence for a value of IGNORED in a record."""
    variable, _, reason = ignored.partition(" ")
    return f"{variable} is ignored: {_WHY[reason].format(_beside(variable))}"


def _beside(variable: str) -> str:
    """Return the variables that a client sets beside that of its session."""
    rows = cached.table([]) if has_file() else TABLE
    names = [each for row in rows if variable in row[2] for each in row[3]]
    return " or ".join(dict.fromkeys(names)) or "a variable"


def warn(ignored: str, owner: LaunchOwner, warnings: list[str]) -> None:
    """Add a warning unless another launch of the same owner has it.

    A gateway starts many members, several at once, and each would write the line into its output.
    """
    life = owner.fields.get("OWNER_EPOCH") or owner.fields.get("OWNER_START", "")
    key = f"{owner.label} {life} {ignored}".replace("\n", " ")
    try:
        is_first = _is_first(runtime_path("ignored-variables"), os.fsencode(key))
    except OSError:
        is_first = True  # the next launch warns again
    if is_first:
        warnings.append(f"{why(ignored)}; name the session with --session or SCOPEKEEPER_SESSION")


def _is_first(path: str, key: bytes) -> bool:
    """Append a line to a file unless it is there; return whether ours is first. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), 0o755)
    fd = regular_files.open_regular(path, _APPEND)
    with os.fdopen(fd, "r+b", buffering=0) as file:
        if os.fstat(fd).st_size > _SIZE_MAX:
            file.truncate()
        if key in file.read(_SIZE_MAX).split(b"\n"):
            return False
        file.write(b"%b\n" % key)
        ours = file.tell()  # the end of this line, wherever others have appended meanwhile
        file.seek(0)
        return file.read(ours).split(b"\n").count(key) == 1
