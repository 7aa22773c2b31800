"""The rules of a lane as a launch needs them: read from the cache of the policy.

Parsing TOML takes longer than a launch, so it happens once for each change of the files.
"""

from scopekeeper import regular_files
from scopekeeper.policy.cache_format import compiled_path, is_valid
from scopekeeper.policy.files import find


class CachedRules:
    """Returns the options for a lane class; an invalid or foreign policy becomes a warning."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def __call__(self, lane_class: str) -> dict[str, str]:
        """Return the policy's options for launches in a lane."""
        found = find()
        self._warnings += found.ignored
        signature, lines = found.signature, _compiled()
        said = _options(lines, lane_class) if _paths(lines[0]) == _paths(signature) else None
        if said is not None and lines[0] == signature:
            return said
        from scopekeeper.policy.compile_cache import refresh

        text, problem = refresh(signature)
        if problem:
            self._warnings.append(problem)
            return said or {}  # the last good rules of these files stay in force
        return _options(text.split("\n"), lane_class) or {}


def _compiled() -> list[str]:
    path = compiled_path()
    try:
        content = regular_files.read(path) if path else b""
    except OSError:
        content = b""
    return content.decode("utf-8", "surrogateescape").split("\n")


def _options(lines: list[str], lane_class: str) -> dict[str, str] | None:
    """Return the options of a lane; None if the lines are damaged."""
    said: dict[str, str] = {}
    for line in lines[1:]:
        name, *entries = line.split("\t")
        if name == lane_class or (name == "" and not said):
            pairs = [entry.partition("=") for entry in entries]
            if not all(is_valid(key, value) for key, _, value in pairs):
                return None
            said = {key: value for key, _, value in pairs}
    return said


def _paths(signature: str) -> list[str]:
    return [part.rsplit(" ", 4)[0] for part in signature.split("; ")]
