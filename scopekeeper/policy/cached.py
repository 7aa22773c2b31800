"""The rules of a lane as a launch needs them: read from the cache of the policy.

Parsing TOML takes longer than a launch, so it happens once for each change of the files.
"""

from scopekeeper import regular_files
from scopekeeper.policy.cache_format import compiled_path, is_valid
from scopekeeper.policy.files import find


class CachedRules:
    """Returns the options for a launch; an invalid or foreign policy becomes a warning."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def __call__(self, lane_class: str, server: str = "") -> dict[str, str]:
        """Return the policy's options for launches in a lane, of an MCP server if it is named."""
        found = find()
        self._warnings += found.ignored
        signature, lines = found.signature, _compiled()
        said = (
            _options(lines, lane_class, server) if _paths(lines[0]) == _paths(signature) else None
        )
        if said is not None and lines[0] == signature:
            return said
        from scopekeeper.policy.compile_cache import refresh

        text, problem = refresh(signature)
        if problem:
            self._warnings.append(problem)
            return said or {}  # the last good rules of these files stay in force
        return _options(text.split("\n"), lane_class, server) or {}


def _compiled() -> list[str]:
    path = compiled_path()
    try:
        content = regular_files.read(path) if path else b""
    except OSError:
        content = b""
    return content.decode("utf-8", "surrogateescape").split("\n")


def _options(lines: list[str], lane_class: str, server: str) -> dict[str, str] | None:
    """Return the options of a lane, then those of a server; None if the lines are damaged."""
    of_lane: dict[str, str] = {}
    of_server: dict[str, str] = {}
    for line in lines[1:]:
        name, *entries = line.split("\t")
        if name == lane_class or (name == "" and not of_lane):
            read = of_lane = _pairs(entries)
        elif name == f":{server}":
            read = of_server = _pairs(entries)
        else:
            continue
        if not all(is_valid(key, value) for key, value in read.items()):
            return None
    return of_lane | of_server


def _pairs(entries: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}


def _paths(signature: str) -> list[str]:
    return [part.rsplit(" ", 4)[0] for part in signature.split("; ")]
