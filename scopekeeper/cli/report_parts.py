"""The parts of a bug report: what other commands and the keeper's log say, without arguments.

Each part is made alone, within a time limit. A part that cannot be made is one line, in
``problem``, that says why.
"""

import json
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from scopekeeper import keeper_address, state
from scopekeeper.cli import captured
from scopekeeper.doctor.versions import versions
from scopekeeper.errors import ScopekeeperError, words
from scopekeeper.exec.spawn_keeper import LOG
from scopekeeper.kernel import proc
from scopekeeper.regular_files import open_regular
from scopekeeper.scope.reason import without_user
from scopekeeper.systemd import journal_lines
from scopekeeper.systemd.units import KEEPER

MOST_BYTES = 1 << 20
"""Of the whole report, as JSON."""
_ENDS, _LINES = 50, 200
_LONGEST = 1000
"""Characters of one text."""
_SECONDS = 60.0
"""For one command; the trial of ``doctor`` waits up to 35 s for systemd."""
_NEWEST_LAST = ("ends", "lines")
_LISTS = ("checks", "scopes", "unread", *_NEWEST_LAST)
"""What is shortened if the report is too long."""


def parts() -> dict[str, Any]:
    """Return all parts by their name."""
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": versions,
        "ls": lambda: _asked("ls", "--json"),
        "history": lambda: _asked("history", "--json", f"--limit={_ENDS}"),
        "doctor": lambda: _asked("doctor", "--json"),  # last: its trial is an end of its own
        "keeper": _keeper,
        "journal": _journal,
        "log": _log_file,
    }
    return {name: _tried(make) for name, make in made.items()}


def problems(report: dict[str, Any]) -> list[str]:
    """Return a line for each part that could not be made."""
    return [
        f"{name}: {part['problem']}"
        for name, part in report.items()
        if isinstance(part, dict) and "problem" in part
    ]


def _tried(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except Exception as error:  # noqa: BLE001  the other parts are still of use
        return {"problem": error.message if isinstance(error, ScopekeeperError) else words(error)}


def _asked(*arguments: str) -> dict[str, Any]:
    """Return what a command of this program prints as JSON, and its warnings."""
    printed = captured.run(list(arguments), _SECONDS)
    said = printed.errors.decode("utf-8", "replace").splitlines()
    said = [line.removeprefix("scopekeeper: ") for line in said if line.strip()]
    try:
        found: dict[str, Any] = json.loads(printed.output)
    except (ValueError, RecursionError):
        words_ = said[-1] if said else f"no answer; exit status {printed.status}"
        raise ScopekeeperError(words_) from None
    found.pop("version", None)
    return {**found, "exit_status": printed.status, **({"warnings": said} if said else {})}


def _keeper() -> dict[str, Any]:
    return {"runs": keeper_address.runs()}


def _journal() -> dict[str, Any]:
    if not proc.exists("/run/systemd/system"):
        raise ScopekeeperError("systemd does not run here")
    kind = "user" if os.getuid() else "system"
    lines = [
        {"time": _time(line.at), "priority": line.priority, "message": line.message, **line.fields}
        for line in journal_lines.last(kind, KEEPER, _LINES)
    ]
    return {"from": " ".join(journal_lines.command(kind, KEEPER, _LINES)), "lines": lines}


def _log_file() -> dict[str, Any]:
    """Return the last lines of a keeper's log where it runs without systemd."""
    path = state.directory() / LOG
    try:
        with open(path, "rb", opener=lambda name, _: open_regular(name)) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_BYTES))
            lines = deque(file, _LINES)
    except FileNotFoundError:
        return {"from": str(path), "lines": []}
    return {
        "from": str(path),
        "lines": [line.decode("utf-8", "replace").rstrip("\n") for line in lines],
    }


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds")


def without_arguments(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return a part without command lines, titles and users' names. Pure.

    The name of a program stays.
    """
    if isinstance(value, list):
        return [without_arguments(each) for each in value]
    if not isinstance(value, dict):
        return _shortened(without_user(value)) if isinstance(value, str) else value
    kept = {}
    for key, inner in value.items():
        if key == "argv":
            kept["program"] = _program(inner)
        elif key not in ("user", "title"):  # a title can be the words of a prompt
            kept[key] = without_arguments(inner)
    return kept


def _program(argv: Any) -> str | None:  # noqa: ANN401
    """Return the name of a program; one that rewrites its arguments has them all in the first."""
    if not isinstance(argv, list) or not argv or not isinstance(argv[0], str):
        return None
    return _shortened(os.path.basename(argv[0].partition(" ")[0])) or None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def without_home(value: Any, home: str) -> Any:  # noqa: ANN401
    """Return a part with ``~`` for a home folder. Pure."""
    if isinstance(value, dict):
        return {key: without_home(inner, home) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_home(inner, home) for inner in value]
    return value.replace(f"{home}/", "~/") if isinstance(value, str) and home else value


def fitted(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with its longest lists cut until it is short enough. Pure.

    What is left out is counted in ``left_out`` beside the list; the newest ends and lines stay.
    """
    while len(json.dumps(report, indent=2)) > MOST_BYTES:
        part, name = max(
            ((part, name) for part in report.values() if isinstance(part, dict)
             for name in _LISTS if part.get(name)),
            key=lambda found: len(json.dumps(found[0][found[1]])), default=(None, ""),
        )  # fmt: skip
        if part is None:
            break
        whole = part[name]
        half = len(whole) // 2
        part[name] = whole[len(whole) - half :] if name in _NEWEST_LAST else whole[:half]
        part["left_out"] = part.get("left_out", 0) + len(whole) - half
    return report
