"""Draws the timeline and bars of numbers as SVG. Pure.

Shapes stretch with the page, and text is HTML beside them: it keeps its size on a narrow screen.
Colours are classes of ``page.css``: a content security policy forbids styles in attributes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from scopekeeper.quantities import show_duration
from scopekeeper.report.markup import Markup, join, tag
from scopekeeper.report.model import (
    REASONS,
    RUNNING,
    Report,
    by_reason,
    counted,
    css_class,
    named,
)
from scopekeeper.report.timeline import CELL, WIDTH, Axis, Bar, Mark, Timeline, Track

_ROW, _BAR = 14, 10
"""Height of a row of bars, and of a bar in it."""
_MARK = 3
_MOST_NAMES = 12
"""Names of members that the title of a bar lists."""
_DAY = 86400


def timeline(report: Report, drawn: Timeline) -> Markup:
    """Return the tracks below their axis."""
    parts = [tag("div", class_="corner"), _labels(report, drawn.axis)]
    before = None
    for track in drawn.tracks:
        whose = (track.host, track.user, track.session)
        parts += [_name(track, is_first=whose != before), _track(report, track, drawn.axis)]
        before = whose
    return tag("div", join(parts), class_="timeline", tabindex=0)


def _labels(report: Report, axis: Axis) -> Markup:
    ticks = [axis.begin + axis.step * at for at in range(axis.steps)]
    return tag("div", *(tag("span", _tick(report, at, axis.step)) for at in ticks), class_="axis")


def _tick(report: Report, moment: float, step: int) -> str:
    found = report.time(moment)
    if found is None:
        return "?"
    if step < _DAY and (found.hour or found.minute):
        return found.strftime("%H:%M")
    return found.strftime("%m-%d" if step < 30 * _DAY else "%Y-%m")


def _name(track: Track, *, is_first: bool) -> Markup:
    """Return the name of a track; that of the session is there once, and filters the table."""
    parts = []
    if is_first:
        name = named(track.host, track.user, track.session)
        parts.append(tag("button", name, type="button", title=name, data_find=track.session,
                         data_of=track.host or None))  # fmt: skip
    parts.append(tag("span", track.lane, class_="lane", title=f"lane {track.lane}"))
    return tag("div", *parts, class_="name first" if is_first else "name")


def _track(report: Report, track: Track, axis: Axis) -> Markup:
    shapes = [*_grid(axis)]
    top = 0
    for row in track.rows:
        for bar in row:
            shapes += _bar(report, bar, top)
        top += _ROW
    if track.cells:
        shapes += _cells(report, track.cells, axis, top)
        top += _ROW
    session = named(track.host, "", track.session)
    label = f"{session}, lane {track.lane}: {counted(track.lives, 'member')}"
    picture = tag(
        "svg", *shapes, viewBox=f"0 0 {WIDTH} {max(top, _ROW)}", height=max(top, _ROW),
        preserveAspectRatio="none", role="img", aria_label=label,
    )  # fmt: skip
    more = counted(track.undrawn, "more scope")
    note = tag("p", f"{more} at the same time", class_="note") if track.undrawn else ""
    return tag("div", picture, note, class_="track", data_host=track.host or None)


def _grid(axis: Axis) -> Iterator[Markup]:
    for at in range(1, axis.steps):
        left = f"{WIDTH * at / axis.steps:.2f}"
        yield tag("line", x1=left, x2=left, y1=0, y2="100%", class_="grid")


def _bar(report: Report, bar: Bar, top: int) -> Iterator[Markup]:
    yield _rect(bar.left, top + 2, bar.right - bar.left, _BAR, bar.reason, _title(report, bar))
    for mark in bar.marks:
        yield _rect(mark.at, top, _MARK, _ROW, mark.reason, _of_mark(bar, mark))


def _title(report: Report, bar: Bar) -> str:
    """Return what is shown when the pointer is on a bar."""
    until = report.made if bar.ended is None else bar.ended
    shown = "now" if bar.ended is None else report.clock(bar.ended)
    names = [f"{name} ({count:,})" if count > 1 else name for name, count in bar.members.items()]
    more = [f"{len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
    return (
        f"{report.clock(bar.started)} to {shown}, {show_duration(until - bar.started)}: "
        f"{bar.reason} · "
        f"{counted(bar.members.total(), 'member')}: {', '.join([*names[:_MOST_NAMES], *more])} · "
        f"{by_reason(bar.reasons)}"
    )


def _of_mark(bar: Bar, mark: Mark) -> str:
    where = "a scope that runs" if bar.reason == RUNNING else "a scope that ended later"
    return f"{counted(mark.number, 'member')} in {where}: {mark.reason}"


def _cells(
    report: Report, cells: Mapping[int, Counter[str]], axis: Axis, top: int
) -> Iterator[Markup]:
    """Yield a stack for each cell, its parts as high as their share of the cell's scopes."""
    seconds = (axis.end - axis.begin) * CELL / WIDTH
    for cell, counts in sorted(cells.items()):
        title = (
            f"{report.clock(axis.begin + cell * seconds)}: "
            f"{counted(counts.total(), 'scope')} shorter than {show_duration(seconds)}: "
            f"{by_reason(counts)}"
        )
        at = float(top + 2)
        for reason in sorted(counts, key=REASONS.index):
            height = _BAR * counts[reason] / counts.total()
            yield _rect(cell * CELL, at, CELL, height, reason, title)
            at += height


def _rect(x: float, y: float, width: float, height: float, reason: str, title: str) -> Markup:
    return tag(
        "rect", tag("title", title), x=f"{x:.1f}", y=f"{y:.4g}", width=f"{width:.1f}",
        height=f"{height:.4g}", class_=css_class(reason),
    )  # fmt: skip


def numbers(rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Return a bar for each number, with its name before it and its text after it."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    parts = []
    for name, value, shown in rows:
        bar = tag("rect", x=0, y=1, width=f"{WIDTH * value / most:.1f}", height=8)
        picture = tag("svg", bar, viewBox=f"0 0 {WIDTH} 10", height=10,
                      preserveAspectRatio="none", aria_hidden="true")  # fmt: skip
        parts += [tag("span", name, class_="what", title=name), picture, tag("span", shown)]
    return tag("div", *parts, class_="numbers")
