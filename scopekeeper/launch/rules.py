"""The rules of a lane as a launch needs them: read from what was compiled of the policy.

Reading TOML takes longer than a launch, so it is done once for each change of the files.

Whose files count is decided here, for every program that reads them: those of /etc, and those at
the home that the password database has for this uid. ``$HOME`` is handed on by ``sudo -E``, and the
system's services have none: root's keeper would end root's scopes by the rules of a user, or by
others than root's commands.
"""

import posix

from scopekeeper import regular_files
from scopekeeper.launch.member import Warnings
from scopekeeper.launch.place import home_of
from scopekeeper.launch.request import LIFETIMES

SYSTEM = "/etc/scopekeeper"
VARIABLE = b"SCOPEKEEPER_CONFIG"
"""Names a folder that is read in place of the one at home."""
DURATIONS = ("ttl", "grace", "timeout", "no_output_timeout")
NUMBERS = (
    "max_scopes", "memory_max", "memory_high", "tasks_max", "cpu_weight", "member_memory_max",
    "member_tasks_max",
)  # fmt: skip
CHOICES = {
    "ephemeral": ("0", "1"), "replace": ("1",), "supersede": ("1",), "lifetime": LIFETIMES,
    "when_full": ("refuse", "stop-orphan"),
}  # fmt: skip
"""What is compiled of a policy: microseconds with their unit, numbers or infinity, and words."""
_DIGITS = 19
_TYPE, _FILE, _FOLDER = 0o170000, 0o100000, 0o040000


class Rules:
    """Returns options for a lane class; a policy that is invalid or not ours becomes a warning."""

    def __init__(self, warnings: Warnings) -> None:
        self._warnings = warnings

    def __call__(self, lane_class: str) -> dict[str, str]:
        """Return the options that the policy has for launches in a lane."""
        found = find()
        self._warnings += found.ignored
        signature, lines = found.signature, _compiled()
        said = _options(lines, lane_class) if _paths(lines[0]) == _paths(signature) else None
        if said is not None and lines[0] == signature:
            return said
        from scopekeeper.policy.compiled import refresh

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
    """Return what the lines say of a lane; None where nobody compiled that."""
    said: dict[str, str] = {}
    for line in lines[1:]:
        name, *entries = line.split("\t")
        if name == lane_class or (name == "" and not said):
            pairs = [entry.partition("=") for entry in entries]
            if not all(_is_compiled(key, value) for key, _, value in pairs):
                return None
            said = {key: value for key, _, value in pairs}
    return said


def _is_compiled(key: str, value: str) -> bool:
    if key in CHOICES:
        return value in CHOICES[key]
    if key in DURATIONS and value.endswith("us"):
        value = value[:-2]
    elif key not in NUMBERS:
        return False
    elif value == "infinity":
        return True
    return value.isascii() and value.isdecimal() and len(value) <= _DIGITS


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
    named = posix.environ.get(VARIABLE, b"").decode("utf-8", "surrogateescape")
    if named:
        return [SYSTEM, named]
    home = home_of(posix.getuid())
    return [SYSTEM, f"{home}/.config/scopekeeper"] if home else [SYSTEM]


class Found:
    """The policy files that count, in the order in which they are read, and those that do not."""

    __slots__ = ("ignored", "signature", "sources")

    def __init__(self) -> None:
        self.sources: list[str] = []
        """One that is not there yet is among them."""
        self.ignored: list[str] = []
        """A sentence for each folder or file that is there and does not count."""
        self.signature = ""
        """Changes when one of the sources does."""


def find() -> Found:
    """Look for policy files; of others than root and this uid, none counts."""
    found = Found()
    parts: list[str] = []
    for folder in folders():
        if not folder.startswith("/"):
            found.ignored.append(f"the policy in {folder} is ignored: give its whole path")
            continue
        if not _counts(folder, _FOLDER, found):
            continue
        _add(f"{folder}/config.toml", found, parts)
        more = f"{folder}/config.d"
        try:
            names = sorted(posix.listdir(more))
        except OSError:
            continue
        if _counts(more, _FOLDER, found):
            for name in names:
                if name.endswith(".toml"):
                    _add(f"{more}/{name}", found, parts)
    found.signature = "; ".join(parts).replace("\n", " ")
    return found


def _add(path: str, found: Found, parts: list[str]) -> None:
    if not _counts(path, _FILE, found):
        return
    found.sources.append(path)
    try:
        seen = posix.stat(path)
    except OSError:
        return
    parts.append(f"{path} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}")


def _counts(path: str, kind: int, found: Found) -> bool:
    """Tell whether what is at path may say what happens to our scopes; nothing there does no harm.

    A link counts by what it leads to: nobody else can have put it into a folder that counts.
    """
    try:
        seen = posix.stat(path)
    except OSError:
        return True
    if seen.st_mode & _TYPE != kind:
        problem = f"it is no {'directory' if kind == _FOLDER else 'regular file'}"
    elif seen.st_uid not in (0, posix.getuid()):
        problem = f"it belongs to uid {seen.st_uid}"
    elif seen.st_mode & 0o002 or (seen.st_mode & 0o020 and not _is_private(seen.st_gid)):
        problem = f"others can write to it; chmod go-w {path}"
    else:
        return True
    found.ignored.append(f"the policy in {path} is ignored: {problem}")
    return False


def _is_private(gid: int) -> bool:
    """Tell whether nobody but this user is in a group.

    Where each user has such a group, as on Ubuntu, the umask has new files writable by it.
    """
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(posix.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    named = group.gr_name == user.pw_name and gid == user.pw_gid
    return named and set(group.gr_mem) <= {user.pw_name}


def _paths(signature: str) -> list[str]:
    return [part.rsplit(" ", 4)[0] for part in signature.split("; ")]
