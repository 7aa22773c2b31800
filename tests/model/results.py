"""What came out, as a row of the table of ``docs/reliability.md``."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.proof.results import ABOUT

BEGIN, END = "<!-- model: begin -->", "<!-- model: end -->"
HARMS = ("innocent", "lost", "early", "left")
OTHER = ("history", "listing", "traceback", "status", "hung", "suite")


def harms(summary: Mapping[str, Any]) -> Counter[str]:
    """Count the differences by what they are: the first word of the first line of each."""
    return Counter(found.partition(":")[0] for found in summary["found"])


def lines(summary: Mapping[str, Any]) -> str:
    """Return the figures for a terminal."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(summary["kinds"].items()))
    return (
        f"{summary['steps']} steps in {summary['examples']} examples beside "
        f"{summary['canaries']} canaries: {len(summary['found'])} differences\n{kinds}"
    )


def row(summary: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    about, counts = summary["about"], harms(summary)
    root = " MODEL_ARGS=--root" if about["user"] == "root" else ""
    cells = [
        *(about[key] for key in ABOUT),
        *(str(summary[key]) for key in ("steps", "examples")),
        *(str(counts[name]) for name in HARMS),
        str(sum(counts.values()) - sum(counts[name] for name in HARMS)),
        f"`make model STEPS={summary['wants']} SEED={about['seed']}{root}`",
    ]
    return f"| {' | '.join(cells)} |"
