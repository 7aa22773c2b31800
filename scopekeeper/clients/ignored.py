"""Variables of clients that do not count: why, for people, and one warning for each owner."""

import contextlib
import os

from scopekeeper import regular_files, whole_file
from scopekeeper.clients import cached
from scopekeeper.clients.table import TABLE
from scopekeeper.clients.variables import has_file
from scopekeeper.policy.cache_format import runtime_path
from scopekeeper.scope.owner import LaunchOwner

_SIZE_MAX, _KEPT = 64 << 10, 256
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
    """Add a warning unless an earlier launch of the same owner had it.

    A gateway starts many members, and each would write the line into its output.
    """
    life = owner.fields.get("OWNER_EPOCH") or owner.fields.get("OWNER_START", "")
    key = f"{owner.label} {life} {ignored}".replace("\n", " ")
    path = runtime_path("ignored-variables")
    known = _read(path)
    if key in known:
        return
    warnings.append(f"{why(ignored)}; name the session with --session or SCOPEKEEPER_SESSION")
    if path:
        text = "\n".join([*known, key][-_KEPT:])
        with contextlib.suppress(OSError):  # the next launch warns again
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o755)
            whole_file.replace(path, text.encode("utf-8", "surrogateescape"))


def _read(path: str) -> list[str]:
    try:
        content = regular_files.read(path, _SIZE_MAX) if path else b""
    except OSError:
        content = b""
    return content.decode("utf-8", "surrogateescape").split("\n") if content else []
