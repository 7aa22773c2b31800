"""Draws the figures of ``benchmarks.curves``: pictures and the table of ``docs/performance.md``."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.pictures.chart import Curve, Panel, chart

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "curves.json"
PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "pictures"
_BEGIN, _END = "<!-- curves -->\n", "<!-- end of curves -->"
_TABLE = re.compile(f"{_BEGIN}.*?{_END}", re.DOTALL)
_STEPS = ("100", "1000", "10000")
"""The steps that the table has, and what stands for the last one after a shorter measurement."""
_LEGEND = (("scope", "scopekeeper"), ("owner", "systemd alone"))

Figures = Mapping[str, float]
Value = Callable[[Figures], float | None]


def _cpu(what: str) -> Value:
    """Return the CPU time of a command, with that of the daemons for it; None without such."""

    def value(figures: Figures) -> float | None:
        own = figures.get(f"{what}_own_ms")
        others = (figures.get(f"{what}_{who}_ms", 0.0) for who in ("systemd", "keeper"))
        return None if own is None else own + sum(others)

    return value


def _plain(what: str) -> Value:
    return lambda figures: figures.get(what)


ONE = {
    "A launch that makes a scope": _cpu("launch"),
    "A stop of one scope": _cpu("stop_one"),
    "The list of one session; list-units": _cpu("ls_one"),
    "why, of one session; status": _cpu("why_one"),
}
ALL = {
    "The list of all scopes; list-units": _cpu("ls"),
    "reconcile": _cpu("reconcile"),
    "A stop of all scopes": _cpu("stop_all"),
    "A keeper that starts": _plain("start_ms"),
}
ROWS: dict[str, Value] = {
    "a launch that makes a scope": _cpu("launch"),
    "`stop` of one; `systemctl stop`": _cpu("stop_one"),
    "`ls` of one session; `list-units` of one": _cpu("ls_one"),
    "`why` of one session; `status` of one": _cpu("why_one"),
    "`ls` of all; `list-units`": _cpu("ls"),
    "`reconcile`": _cpu("reconcile"),
    "`stop` of all; `systemctl stop`": _cpu("stop_all"),
    "the keeper, for a member that comes and goes": _plain("event_keeper_ms"),
    "the keeper, when it starts": _plain("start_ms"),
}
COUNTS: dict[str, Value] = {
    "launches a second, by four at once": _plain("launches_a_second"),
    "files that `stop` of one opens": _plain("stop_one_opened"),
    "its system calls": _plain("stop_one_calls"),
    "memory of the keeper; of systemd, in MiB": _plain("memory_mib"),
    "descriptors of the keeper": _plain("descriptors"),
    "wake-ups of the idle keeper, in a minute": _plain("wake_ups"),
}


def draw(source: str) -> int:
    """Draw from a file of figures; ``-`` is the output of a measurement."""
    figures = _read_stream() if source == "-" else json.loads(Path(source).read_text("utf-8"))
    if figures is None:
        print("curves: no figures on standard input", file=sys.stderr)
        return 2
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name, picture in pictures(figures).items():
        (PICTURES / name).write_text(picture, encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    written = f"{_BEGIN}\n{table(figures)}\n{_END}"
    PAGE.write_text(_TABLE.sub(lambda _: written, page), encoding="utf-8")
    print(table(figures))
    return 0


def _read_stream() -> Any:
    """Pass the lines on; return the figures in the line that has them, None without one."""
    figures = None
    for line in sys.stdin:
        if line.startswith("{"):
            figures = json.loads(line)
        else:
            print(line, end="", flush=True)
    return figures


def pictures(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the pictures, by the names of their files."""
    return {
        "curves-one.svg": _picture("What one scope costs beside others", ONE, figures["steps"]),
        "curves-all.svg": _picture("What all scopes cost", ALL, figures["steps"]),
    }


def _picture(title: str, values: Mapping[str, Value], steps: Mapping[str, Any]) -> str:
    panels = []
    for name, value in values.items():
        curves = []
        for kind, who in (("owner", "systemd"), ("scope", "ours")):
            points = [(int(scopes), value(step[who])) for scopes, step in steps.items()]
            known = [(x, y) for x, y in points if y]
            if known:
                curves.append(Curve(kind, known))
        panels.append(Panel(name, curves))
    words = f"{title}, by the number of scopes; both scales are powers of ten"
    return chart(words, _LEGEND, panels, "Across: scopes. Up: CPU time in milliseconds.")


def table(figures: Mapping[str, Any]) -> str:
    """Return the table of the page, of the figures of some steps."""
    steps = figures["steps"]
    shown = [each for each in _STEPS if each in steps] or list(steps)
    heads = [f"{int(each):,}" for each in shown]
    heads[0] += " scopes"
    lines = [
        f"| CPU time in ms, ours : systemd's | {' | '.join(heads)} |",
        f"|---|{'---|' * len(shown)}",
        *_rows(ROWS, shown, steps),
        f"| **counted** | {' | '.join('' for _ in shown)} |",
        *_rows(COUNTS, shown, steps),
    ]
    return "\n".join(lines) + "\n"


def _rows(rows: Mapping[str, Value], shown: list[str], steps: Mapping[str, Any]) -> list[str]:
    return [
        f"| {what} | "
        + " | ".join(_cell(value(steps[x]["ours"]), value(steps[x]["systemd"])) for x in shown)
        + " |"
        for what, value in rows.items()
    ]


def _cell(ours: float | None, theirs: float | None) -> str:
    return " : ".join(_number(each) for each in (ours, theirs) if each is not None) or "-"


def _number(value: float) -> str:
    """Return a number with two digits that count."""
    if value >= 100:
        digits = len(f"{value:.0f}") - 2
        return f"{round(value / 10**digits) * 10**digits:,}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
