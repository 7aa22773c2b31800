"""What came out, as the tables of ``docs/reliability.md``: written here, never by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.proof.results import ABOUT, replace

WARM = 120.0
"""Seconds of short commands before a storm."""
_HEAD = "| what | mean | slope an hour | standard error | |\n|---|---|---|---|---|"


def marks(what: str) -> tuple[str, str]:
    """Return the lines between which a table is."""
    return f"<!-- {what}: begin -->", f"<!-- {what}: end -->"


def command(what: str, summary: Mapping[str, Any]) -> str:
    """Return what repeats a run."""
    seed = summary["about"]["seed"]
    if what == "storm":
        warm = "" if summary["warm"] == WARM else f" STORM_ARGS='--warm {summary['warm']:g}'"
        return f"make storm MINUTES={summary['minutes']:g} SEED={seed}{warm}"
    return f"make day ENDS={summary['ends']} HOURS={summary['hours']:g} SEED={seed}"


def table(what: str, summary: Mapping[str, Any]) -> str:
    """Return a run as Markdown: what it was, what it did, and the slopes."""
    about = ", ".join(f"{key} {summary['about'][key]}" for key in ABOUT)
    harms = ", ".join(f"{name} {count}" for name, count in summary["harms"].items())
    rows = [
        f"| {name} | {_number(each['mean'])} | {_number(each['per_hour'])} | "
        f"{_number(each['error'])} | {each['verdict']} |"
        for name, each in summary["slopes"].items()
    ]
    words = f"`{command(what, summary)}`: {about}. {summary['ends']} ends: {harms}."
    return "\n".join([words, "", _HEAD, *rows])


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"


def write(page: Path, what: str, summary: Mapping[str, Any]) -> None:
    """Put a run in the place of the one before."""
    begin, end = marks(what)
    replace(page, begin, end, table(what, summary))
