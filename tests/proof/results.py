"""What came out, as the tables of ``docs/reliability.md``: written here, never by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .trial import KINDS, Trial

BEGIN, END = "<!-- crash points: begin -->", "<!-- crash points: end -->"
HARMS = ("innocent", "lost", "early", "left", "history", "traceback", "status", "hung", "trial")
ABOUT = ("commit", "kernel", "systemd", "Python", "user", "seed")


def summarise(trials: Sequence[Trial], canaries: int, about: Mapping[str, str]) -> dict[str, Any]:
    """Return the figures of a run."""
    fired = [trial for trial in trials if trial.kind in KINDS]
    struck = [trial for trial in fired if trial.struck]
    harms = Counter(words.partition(":")[0] for trial in trials for words in trial.wrong)
    return {
        "about": dict(about),
        "trials": len(fired),
        "struck": len(struck),
        "kinds": dict(Counter(trial.kind for trial in struck)),
        "steps": dict(Counter(trial.step for trial in struck)),
        "canaries": canaries,
        "rounds": max((trial.rounds for trial in fired), default=0),
        "harms": {name: harms.get(name, 0) for name in HARMS},
        "wrong": [str(trial) for trial in trials if trial.wrong],
    }


def lines(summary: Mapping[str, Any]) -> str:
    """Return the figures for a terminal."""
    harms = ", ".join(f"{count} {name}" for name, count in summary["harms"].items())
    return (
        f"{summary['struck']} of {summary['trials']} trials struck: {summary['kinds']}\n"
        f"{summary['steps']}\n"
        f"{harms}; {summary['canaries']} canaries; at most {summary['rounds']} reconciles"
    )


def row(summary: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    about, harms, kinds = summary["about"], summary["harms"], summary["kinds"]
    other = sum(harms[name] for name in ("history", "traceback", "status", "hung", "trial"))
    root = " PROOF_ARGS=--root" if about["user"] == "root" else ""
    cells = [
        *(about[key] for key in ABOUT),
        *(str(kinds.get(kind, 0)) for kind in KINDS),
        *(str(harms[name]) for name in ("innocent", "lost", "early", "left")),
        str(other),
        f"`make proof COUNT={summary['trials']} SEED={about['seed']}{root}`",
    ]
    return f"| {' | '.join(cells)} |"


def write(page: Path, summary: Mapping[str, Any]) -> None:
    """Append the row of a run to the table of the page."""
    append(page, BEGIN, END, row(summary))


def append(page: Path, begin: str, end: str, line: str) -> None:
    """Append a row to the table between two comments of the page."""
    before, found, rest = page.read_text().partition(begin)
    table, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"{page} has no {begin} and {end}")
    page.write_text(f"{before}{begin}{table.rstrip()}\n{line}\n{end}{after}")
