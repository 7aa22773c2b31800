"""The rules of a lane as a launch needs them: read from what was compiled of the policy.

Reading TOML takes longer than a launch, so it is done once for each change of the files.
"""

import posix

from scopekeeper.launch.member import Warnings
from scopekeeper.launch.place import read

SYSTEM = "/etc/scopekeeper"


class Rules:
    """Returns options for a lane class; a policy that cannot be meant becomes a warning."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def __call__(self, lane_class: str) -> dict[str, str]:
        """Return the options that the policy has for launches in a lane."""
        signature = sign()
        lines = self._compiled()
        if lines[0] != signature:
            from scopekeeper.policy.compiled import refresh

            if _paths(lines[0]) != _paths(signature):
                lines = [""]  # of other files; else the last good rules stay in force
            text, problem = refresh(signature)
            if problem:
                self._warnings.append(problem)
            else:
                lines = text.split("\n")
        said: dict[str, str] = {}
        for line in lines[1:]:
            name, *entries = line.split("\t")
            if name == lane_class or (name == "" and not said):
                said = dict(entry.split("=", 1) for entry in entries)
        return said

    def _compiled(self) -> list[str]:
        path = compiled_path()
        try:
            if path and posix.stat(path).st_uid == posix.getuid():
                return read(path).split("\n")
        except OSError:
            pass
        return [""]


def compiled_path() -> str:
    """Return where the compiled rules are kept; '' where there is no runtime directory."""
    uid = posix.getuid()
    runtime = "/run" if uid == 0 else f"/run/user/{uid}"
    try:
        return f"{runtime}/scopekeeper/rules" if posix.stat(runtime).st_uid == uid else ""
    except OSError:
        return ""


def folders() -> list[str]:
    """Return where policy files are looked for, the system's first."""
    home = posix.environ.get(b"HOME", b"/").decode("utf-8", "surrogateescape")
    return [SYSTEM, f"{home}/.config/scopekeeper"]


def sources() -> list[str]:
    """Return the policy files that there are, in the order in which they are read."""
    found = []
    for folder in folders():
        found.append(f"{folder}/config.toml")
        try:
            found += sorted(
                f"{folder}/config.d/{name}"
                for name in posix.listdir(f"{folder}/config.d")
                if name.endswith(".toml")
            )
        except OSError:
            continue
    return found


def _paths(signature: str) -> list[str]:
    return [part.rsplit(" ", 4)[0] for part in signature.split("; ")]


def sign() -> str:
    """Return a text that changes when one of the files does."""
    parts = []
    for path in sources():
        try:
            seen = posix.stat(path)
        except OSError:
            continue
        parts.append(f"{path} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}")
    return "; ".join(parts).replace("\n", " ")
