"""The table of clients with a user's files over it, as a launch reads it: from a compiled file.

Parsing TOML takes longer than a launch, so it happens once for each change of the files.
"""

from scopekeeper import regular_files
from scopekeeper.clients.format import Row, loads
from scopekeeper.clients.table import DIGEST, TABLE
from scopekeeper.clients.variables import FILE
from scopekeeper.policy.cache_format import runtime_path
from scopekeeper.policy.files import find_file


def table(warnings: list[str]) -> tuple[Row, ...]:
    """Return the table for this user; an invalid or foreign file becomes a warning."""
    found = find_file(FILE, "the table of clients")
    warnings += found.ignored
    if not found.signature:
        return TABLE
    signature = f"{DIGEST} {found.signature}"
    path = runtime_path("clients")
    lines = _compiled(path)
    if lines[0] == signature:
        known = loads(lines[1:])
        if known is not None:
            return known
    from scopekeeper.clients.compile import refresh

    made, problem = refresh(found.sources, signature, path)
    if problem:
        warnings.append(f"{problem}; only the built-in table of clients applies")
        return TABLE
    return made


def _compiled(path: str) -> list[str]:
    try:
        content = regular_files.read(path) if path else b""
    except OSError:
        content = b""
    return content.decode("utf-8", "surrogateescape").split("\n")
