"""The record of one run, in a folder of its own: what it is, and how it ended.

The folder is ``runs/ID`` in the state folder; its ``run.json`` is replaced atomically. Beside it is
the run's output (``scopekeeper.exec.log``).

Keepers and clients of several versions read and write it: unknown values are kept, missing ones
have a default, and an invalid record is reported and affects no other.
"""

import contextlib
import json
import os
import re
import reprlib
from collections.abc import Callable

from scopekeeper import regular_files, whole_file
from scopekeeper.data import dataclass, field
from scopekeeper.data import values as values_of
from scopekeeper.errors import NotFoundError, ScopekeeperError, StateError, UsageError
from scopekeeper.kernel import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib
    from dataclasses import Field
    from typing import Any, TypeVar

FILE = "run.json"
_ID = re.compile(r"[0-9a-f]{8}")
_MOST = 1 << 22
"""Bytes of a record; the keeper accepts arguments of less than a quarter of that."""
_DEEPEST = 32
_LONGEST = 1 << 16
"""Characters of any text but an argument."""
_LARGEST = {
    "cols": 0xFFFF, "rows": 0xFFFF, "pid": 1 << 22, "exit_status": 255, "signal": 127,
}  # fmt: skip
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; times in microseconds since the epoch."""

    at: int
    reason: str
    evidence: str = ""
    exit_status: int | None = None
    signal: int | None = None
    output: str = ""
    """The end of its output, as plain text."""
    output_cut: bool = False
    """Whether it wrote more than that."""
    extra: "dict[str, Any]" = field(default_factory=dict)
    """Values of a newer version."""

    @property
    def status(self) -> int | None:
        """The exit status as a shell has it: 128 and the signal's number; None if unknown."""
        return self.exit_status if self.signal is None else 128 + self.signal


@dataclass(frozen=True, slots=True)
class Run:
    """One command whose output the keeper records. Times are microseconds."""

    id: str
    session: str
    lane: str
    name: str
    argv: tuple[str, ...]
    started: int
    """Since the epoch."""
    boot_id: str
    tty: bool = True
    """Whether it has a terminal; else it has pipes."""
    cols: int = 80
    rows: int = 24
    session_id: str = ""
    lifetime: str = "session"
    born: int = 0
    """By CLOCK_BOOTTIME."""
    timeout: int | None = None
    no_output_timeout: int | None = None
    log_max: int = 8 << 20
    """Bytes of output to keep at least."""
    directory: str = ""
    """Of its scope, once it exists."""
    leaf: str = ""
    joined: int = 0
    """When its member started, by the member's record; since the epoch."""
    pid: int | None = None
    start_time: int | None = None
    ended: Ended | None = None
    extra: "dict[str, Any]" = field(default_factory=dict)
    """Values of a newer version."""

    @property
    def folder(self) -> "pathlib.Path":
        """The folder of its record and its output; raises StateError."""
        return folder() / self.id


class NoRunError(NotFoundError):
    """There is no such run."""


if TYPE_CHECKING:
    T = TypeVar("T", Run, Ended)
_CHECKED = ("argv",)
"""Fields whose type isinstance cannot check."""


def folder() -> "pathlib.Path":
    """Return the folder of all runs, which may not exist; raises StateError."""
    from scopekeeper import state  # imports pathlib, which `exec -d` needs nowhere

    return state.directory() / "runs"


def save(run: Run) -> None:
    """Write the record of a run; raises StateError."""
    try:
        from scopekeeper import state

        state.make()
        run.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # arguments need not be UTF-8
        content = json.dumps(plain(run)).encode("utf-8", "surrogateescape")
        whole_file.replace(run.folder / FILE, content)
    except OSError as error:
        raise StateError(f"cannot write {run.folder}: {error.strerror}") from None


def discard(run: Run) -> None:
    """Remove the record of a run that was not started; needs no descriptor."""
    with contextlib.suppress(OSError, StateError):
        (run.folder / FILE).unlink(missing_ok=True)
        run.folder.rmdir()


def is_id(text: str) -> bool:
    """Return whether a text can be the id of a run."""
    return _ID.fullmatch(text) is not None


def load(run_id: str) -> Run | None:
    """Read the record of a run; None if it does not exist or cannot be read."""
    try:
        return _read(run_id)
    except (OSError, ValueError, StateError):
        return None


def load_all() -> list[Run]:
    """Read all runs, the oldest first; raises StateError."""
    found = [load(run_id) for run_id in _ids()]
    return sorted((run for run in found if run is not None), key=lambda run: run.started)


def unreadable() -> list[str]:
    """Return a sentence for each record that cannot be read."""
    problems = []
    for run_id in _ids():
        try:
            _read(run_id)
        except FileNotFoundError:
            continue  # it is not written yet, or was removed
        except (OSError, ValueError) as error:
            problems.append(_problem(run_id, error))
    return problems


def _ids() -> list[str]:
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder())
    return sorted(name for name in names if _ID.fullmatch(name))


def _read(run_id: str) -> Run:
    """Read a run; raises OSError, ValueError, StateError."""
    content = regular_files.read(folder() / run_id / FILE, _MOST)
    try:
        values = json.loads(content.decode("utf-8", "surrogateescape"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    run = parse(values)
    if run.id != run_id:
        raise ValueError(f"it is the record of {run.id}")
    return run


def _problem(run_id: str, error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else str(error)
    return f"the record of the run {run_id} cannot be read ({folder() / run_id / FILE}): {words}"


def find(wanted: str) -> Run:
    """Return the run with this id, or the one whose id begins so.

    Raises NoRunError if there is none, StateError if its record cannot be read, UsageError if
    several ids begin so.
    """
    if _ID.fullmatch(wanted):
        try:
            return _read(wanted)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            hint = f"its output may be there: ls {folder() / wanted}"
            raise StateError(_problem(wanted, error), hint) from None
    found = [run for run in load_all() if wanted and run.id.startswith(wanted)]
    if not found:
        raise NoRunError(
            f"there is no run {wanted!r}",
            "`scopekeeper ls` lists what runs, `scopekeeper history` what ended",
        )
    if len(found) > 1:
        words = ", ".join(run.id for run in found)
        raise UsageError(f"{wanted!r} can be {words}", "give more of the id")
    return found[0]


def end_of(known: Run | None) -> Callable[[], bool]:
    """Return a function that returns True once a run is over whose scope is populated now.

    Without a scope that is visible here, it never returns True.
    """
    directory = known.directory if known is not None else ""
    if not directory or not cgroupfs.is_populated(directory):
        return lambda: False
    return lambda: not cgroupfs.is_populated(directory)


def refuse_input(known: Run) -> None:
    """Raise ScopekeeperError if a run has ended, and so takes no input."""
    if known.ended is not None:
        why = f"it has ended ({known.ended.reason})"
        hint = f"`scopekeeper logs {known.id}` shows what it wrote"
        raise ScopekeeperError(f"the run {known.id} takes no input any more: {why}", hint)


def plain(run: Run) -> "dict[str, Any]":
    """Return the values that ``parse`` reads a run from."""
    known = {**values_of(run), "ended": plain_end(run.ended)}
    extra: dict[str, Any] = known.pop("extra")
    return extra | known


def plain_end(ended: Ended | None) -> "dict[str, Any] | None":
    """Return the values that ``parse_end`` reads an end from."""
    if ended is None:
        return None
    known = values_of(ended)
    extra: dict[str, Any] = known.pop("extra")
    return extra | known


def parse(values: object) -> Run:
    """Read a run from untrusted plain values; raises ValueError."""
    mine, extra = _known(Run, values)
    run_id, argv = mine.get("id"), mine.get("argv")
    if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
        raise ValueError(f"{reprlib.repr(run_id)} is no id of a run")
    if not isinstance(argv, list | tuple) or not all(_is_text(word, _MOST) for word in argv):
        raise ValueError(f"argv is {reprlib.repr(argv)}")
    mine["argv"] = tuple(argv)
    directory, leaf = mine.get("directory"), mine.get("leaf")
    if directory and not (isinstance(directory, str) and _is_directory(directory)):
        raise ValueError(f"directory is {reprlib.repr(directory)}")
    if leaf and not (isinstance(leaf, str) and "/" not in leaf):
        raise ValueError(f"leaf is {reprlib.repr(leaf)}")
    if mine.get("ended") is not None:
        mine["ended"] = parse_end(mine["ended"])
    return _made(Run, mine, extra)


def parse_end(values: object) -> Ended:
    """Read an end from its plain values; raises ValueError."""
    return _made(Ended, *_known(Ended, values))


def _known(kind: type, values: object) -> "tuple[dict[str, Any], dict[str, Any]]":
    """Return the values that this version knows, and the others; raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError(f"it is no object but {type(values).__name__}")  # noqa: TRY004
    if not _is_shallow(values):
        raise ValueError("it is nested too deeply")
    known = {each.name for each in _fields(kind)} - {"extra"}
    mine = {name: value for name, value in values.items() if name in known}
    # an earlier version wrote "extra" itself
    return mine, {n: value for n, value in values.items() if n not in known and n != "extra"}


def _made(kind: "type[T]", mine: "dict[str, Any]", extra: "dict[str, Any]") -> "T":
    """Make a run or an end of its values, and check their types; raises ValueError."""
    for each in _fields(kind):
        if each.name not in mine or each.name in _CHECKED:
            continue
        value = mine[each.name]
        if not isinstance(value, each.type) or not _is_in_range(each.name, value, each.type):  # type: ignore[arg-type]
            raise ValueError(f"{each.name} is {reprlib.repr(value)}")
    try:
        return kind(**mine, extra=extra)
    except TypeError as error:
        missing = re.search("'.*'", str(error))
        raise ValueError(f"{missing[0] if missing else error} is missing") from None


def _fields(kind: type) -> "tuple[Field[Any], ...]":
    from dataclasses import fields  # `exec` starts a run without reading one

    return fields(kind)


def _is_in_range(name: str, value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return 0 <= value <= _LARGEST.get(name, _LARGEST_NUMBER)
    return not isinstance(value, str) or _is_text(value, _LONGEST)


def _is_text(value: object, longest: int) -> bool:
    """Return whether a value is a text without NUL; surrogates stand for bytes not of UTF-8."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _is_directory(path: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/")


def _is_shallow(values: object) -> bool:
    """Return whether no value nests so deep that recursion would fail."""
    level = [values]
    for _ in range(_DEEPEST):
        inner = [each for each in level if isinstance(each, dict | list | tuple)]
        level = [x for each in inner for x in (each.values() if isinstance(each, dict) else each)]
        if not inner:
            return True
    return False


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
