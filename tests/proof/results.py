"""What came out, as the tables of ``docs/reliability.md``: written here, never by hand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .trial import KINDS, Trial

BEGIN, END = "<!-- crash points: begin -->", "<!-- crash points: end -->"
HARMS = ("innocent", "lost", "early", "left", "history", "traceback", "status", "hung", "trial")
ABOUT = ("commit", "kernel", "systemd", "Python", "user", "seed")
_SHOWN = HARMS[:4]
COLUMNS = (*ABOUT, *KINDS, *_SHOWN, "other", "command")


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
        "errors": dict(Counter(f"{trial.step}: {trial.error}" for trial in struck if trial.error)),
        "canaries": canaries,
        "rounds": max((trial.rounds for trial in fired), default=0),
        "seconds": round(sum(trial.seconds for trial in trials)),
        "harms": {name: harms.get(name, 0) for name in HARMS},
        "wrong": [str(trial) for trial in trials if trial.wrong],
    }


def merge(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of one run whose trials several machines shared."""
    first = summaries[0]
    whole = dict(first)
    for name in ("trials", "struck", "seconds"):
        whole[name] = sum(each[name] for each in summaries)
    for name in ("kinds", "steps", "errors", "harms"):
        whole[name] = dict(sum((Counter(each[name]) for each in summaries), Counter()))
    whole["harms"] = {name: whole["harms"].get(name, 0) for name in HARMS}
    whole["rounds"] = max(each["rounds"] for each in summaries)
    whole["wrong"] = [words for each in summaries for words in each["wrong"]]
    return whole


def lines(summary: Mapping[str, Any]) -> str:
    """Return the figures for a terminal."""
    harms = ", ".join(f"{count} {name}" for name, count in summary["harms"].items())
    return (
        f"{summary['struck']} of {summary['trials']} trials struck: {summary['kinds']}\n"
        f"{summary['steps']}\n"
        f"{summary['errors']}\n"
        f"{harms}; {summary['canaries']} canaries; at most {summary['rounds']} reconciles; "
        f"{summary['seconds']} s"
    )


def row(summary: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    about, harms, kinds = summary["about"], summary["harms"], summary["kinds"]
    other = sum(harms[name] for name in HARMS[len(_SHOWN) :])
    root = " PROOF_ARGS=--root" if about["user"] == "root" else ""
    cells = [
        *(about[key] for key in ABOUT),
        *(str(kinds.get(kind, 0)) for kind in KINDS),
        *(str(harms[name]) for name in _SHOWN),
        str(other),
        f"`make proof COUNT={summary['trials']} SEED={about['seed']}{root}`",
    ]
    return f"| {' | '.join(cells)} |"


def totals(rows: Sequence[str]) -> str:
    """Return the sums of a table's rows, as one line for each user."""
    found: dict[str, Counter[str]] = {}
    for line in rows:
        cells = dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True))
        sums = found.setdefault(cells["user"], Counter())
        sums["struck"] += sum(int(cells[kind]) for kind in KINDS)
        for name in (*_SHOWN, "other"):
            sums[name] += int(cells[name])
    return "\n".join(
        f"- In all as {user}: {sums['struck']:,} struck; "
        + ", ".join(f"{sums[name]} {name}" for name in (*_SHOWN, "other"))
        for user, sums in sorted(found.items())
    )


def write(page: Path, summary: Mapping[str, Any]) -> None:
    """Append the row of a run to the table of the page, and sum the rows up."""
    head, rule, *rows = table(page, BEGIN, END)
    rows.append(row(summary))
    replace(page, BEGIN, END, "\n".join((head, rule, *rows)) + f"\n\n{totals(rows)}")


def append(page: Path, begin: str, end: str, line: str) -> None:
    """Append a row to the table between two comments of the page."""
    replace(page, begin, end, "\n".join((*table(page, begin, end), line)))


def table(page: Path, begin: str, end: str) -> list[str]:
    """Return the lines of the table between two comments of the page."""
    _, between, _ = _parts(page, begin, end)
    return [line for line in between.splitlines() if line.startswith("|")]


def replace(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between two comments of the page."""
    before, _, after = _parts(page, begin, end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _parts(page: Path, begin: str, end: str) -> tuple[str, str, str]:
    before, found, rest = page.read_text().partition(begin)
    between, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"{page} has no {begin} and {end}")
    return before, between, after
