"""The page: one file that needs nothing else, and runs nothing but its own script. Pure."""

import os
from collections import Counter
from collections.abc import Sequence

from scopekeeper.quantities import show_bytes, show_duration
from scopekeeper.report import drawing, table
from scopekeeper.report.markup import Markup, join, source_of, tag
from scopekeeper.report.model import (
    LOST,
    REASONS,
    RUNNING,
    Report,
    by_reason,
    counted,
    css_class,
    named,
    whose,
    whose_titles,
)
from scopekeeper.report.sums import Key, Sum, by_server, by_session, most_cpu, most_memory
from scopekeeper.report.timeline import axis, timeline

HEAD = '<!doctype html>\n<html lang="en" data-made-by="scopekeeper report">'
"""How each page begins: by this a later one knows that it may replace it."""
_MOST_SESSIONS = 12
_MOST_SERVERS = 10
_MOST_SHOWN = 50


def page(report: Report) -> str:
    """Return the page as HTML."""
    style, script = _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; style-src {source_of(style)}; script-src {source_of(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"scopekeeper report: {report.machine}, {report.clock(report.made)}"),
        tag("style", Markup(style)),
    )
    rows = table.rows(report)
    body = tag(
        "body", _header(report), _facts(report), _timeline(report), _now(report), _used(report),
        _servers(report),
        _lost(report), _members(report, rows) if rows else "", _footer(report),
        *((table.for_script(report, rows), tag("script", Markup(script))) if rows else ()),
    )  # fmt: skip
    return f"{HEAD}{head}{body}</html>\n"


def _file(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _header(report: Report) -> Markup:
    made = report.time(report.made)
    zone = made.strftime("%Z (UTC%z)") if made else ""
    notes = [tag("p", note, class_="warning") for note in report.notes]
    return tag(
        "header", tag("h1", f"What ran on {report.machine}"),
        tag("p", f"{report.clock(report.begin)} to {report.clock(report.made)}, {zone}",
            class_="quiet"),
        *notes,
    )  # fmt: skip


def _facts(report: Report) -> Markup:
    ended = [each for each in report.lives if each.ended is not None]
    reasons = Counter(each.reason for each in ended)
    cpu = [each.cpu for each in report.lives if each.cpu is not None]
    peaks = [each.memory_peak for each in report.lives if each.memory_peak is not None]
    orphans = sum(each.is_lost for each in report.running)
    facts = [
        ("members ended", f"{len(ended):,}", False),
        ("scopes running", f"{len(report.running):,}", False),
        ("running without owner", f"{orphans:,}", orphans > 0),
        ("escaped and running", f"{len(report.outside):,}", bool(report.outside)),
        ("out of memory", f"{reasons['oom-killed']:,}", reasons["oom-killed"] > 0),
        ("CPU time", show_duration(sum(cpu)) if cpu else "-", False),
        ("highest peak of memory", show_bytes(max(peaks)) if peaks else "-", False),
    ]
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value), class_="bad" if bad else None)
          for name, value, bad in facts),
        class_="facts",
    )  # fmt: skip


def _timeline(report: Report) -> Markup:
    if not report.lives:
        return _section("When", tag("p", "No member has ended since then, and none runs."))
    starts = [each.started for each in report.lives if each.started is not None]
    ends = [each.ended for each in report.lives if each.ended is not None]
    # a day with anything only in its last hour shows that hour
    begin = max(report.begin, min([*starts, *ends], default=report.begin))
    local = report.time(begin)
    offset = local.utcoffset() if local else None
    drawn = timeline(
        report.lives, axis(begin, report.made, offset.total_seconds() if offset else 0), report.made
    )
    about = (
        "Each bar is a scope, from the start of its first member to the end of its last one; each "
        "mark on it is the end of another member. Scopes too short for a bar are stacked below."
    )
    more = (
        f"Not drawn: {counted(drawn.more_lives, 'member')} in {counted(drawn.more_tracks, 'lane')} "
        "that were active earlier; the table has them."
    )
    return _section(
        "When", _hosts(report), _legend(report), tag("p", about, class_="note"),
        drawing.timeline(report, drawn),
        tag("p", more) if drawn.more_tracks else "",
    )  # fmt: skip


def _legend(report: Report) -> Markup:
    counts = Counter(each.reason for each in report.lives)
    chips = [
        tag("button", tag("i", class_=f"swatch {css_class(reason)}"), f"{reason} ",
            tag("b", f"{counts[reason]:,}"), type="button", data_reason=reason,
            aria_pressed="false")
        for reason in REASONS if counts[reason]
    ]  # fmt: skip
    return tag("div", *chips, class_="legend", role="group", aria_label="Show only these reasons")


def _hosts(report: Report) -> Markup:
    """Return a button for each machine, with how many members it has on the page."""
    counts = Counter(each.host for each in report.lives)
    chips = [
        tag("button", f"{host} ", tag("b", f"{counts[host]:,}"), type="button", data_host=host,
            aria_pressed="false")
        for host in report.hosts
    ]  # fmt: skip
    if not chips:
        return Markup()
    return tag("div", *chips, class_="legend", role="group", aria_label="Show only these hosts")


def _now(report: Report) -> Markup:
    """Return the scopes that run, those with most memory or CPU first."""
    if not report.running:
        return Markup()
    ordered = sorted(report.running, key=lambda each: (-(each.memory or 0), -(each.cpu or 0.0)))
    rows = [
        [*whose(report, each), each.session, each.lane, each.state, each.owner,
         f"{each.members:,}", f"{each.processes:,}",
         "-" if each.memory is None else show_bytes(each.memory),
         "-" if each.cpu is None else show_duration(each.cpu), show_duration(each.age)]
        for each in ordered
    ]  # fmt: skip
    titles = [*whose_titles(report), "SESSION", "LANE", "STATE", "OWNER", "MEMBERS", "PROCS",
              "MEMORY", "CPU", "AGE"]  # fmt: skip
    shown = _plain_table(titles, rows[:_MOST_SHOWN], numbers_from=titles.index("MEMBERS"))
    return _section(f"Running now: {counted(len(rows), 'scope')}", shown, _more(rows))


def _more(rows: Sequence[object]) -> Markup:
    more = len(rows) - _MOST_SHOWN
    return (
        tag("p", f"{more:,} more are not shown; `scopekeeper ls` has all.")
        if more > 0
        else Markup()
    )


def _used(report: Report) -> Markup:
    sums = by_session(report.lives, report.made)
    cpu = [(_named(each.key), each.cpu or 0.0, _at_least(each))
           for each in most_cpu(sums, _MOST_SESSIONS)]  # fmt: skip
    memory = [
        (_named(each.key), float(each.memory_peak or 0), show_bytes(each.memory_peak or 0))
        for each in most_memory(sums, _MOST_SESSIONS)
    ]
    total = len(sums)
    return _section(
        "CPU and memory by session",
        tag("div", _chart("CPU time of all its members", cpu, total),
            _chart("The highest peak of one of its members", memory, total), class_="columns"),
    )  # fmt: skip


def _chart(title: str, rows: Sequence[tuple[str, float, str]], total: int) -> Markup:
    if not rows:
        inside = tag("p", "Unknown: nothing counted it.", class_="quiet")
    else:
        more = f"{len(rows)} of {counted(total, 'session')}" if total > len(rows) else ""
        inside = join([drawing.numbers(rows), tag("p", more, class_="note")])
    return tag("div", tag("h3", title), inside)


def _named(key: Key) -> str:
    return named(*key)


def _at_least(each: Sum) -> str:
    return ("≥" if each.cpu_unknown else "") + show_duration(each.cpu or 0.0)


def _servers(report: Report) -> Markup:
    sums = by_server(report.lives, report.made)
    if not sums:
        return Markup()
    return _section(
        "The most expensive servers",
        tag("div",
            _server_table("By CPU", most_cpu(sums, _MOST_SERVERS)),
            _server_table("By memory", most_memory(sums, _MOST_SERVERS)), class_="columns"),
        tag("p", f"{counted(len(sums), 'MCP server')}; at most {_MOST_SERVERS} in each table.",
            class_="note"),
    )  # fmt: skip


def _server_table(title: str, sums: Sequence[Sum]) -> Markup:
    if not sums:
        return tag("div", tag("h3", title), tag("p", "Unknown: nothing counted it."))
    rows = [
        [_named(each.key), f"{each.lives:,}", f"{each.sessions:,}",
         "-" if each.cpu is None else _at_least(each),
         "-" if each.memory_peak is None else show_bytes(each.memory_peak),
         show_duration(each.time)]
        for each in sums
    ]  # fmt: skip
    titles = ["SERVER", "STARTED", "SESSIONS", "CPU", "PEAK", "RAN"]
    return tag("div", tag("h3", title), _plain_table(titles, rows, numbers_from=1))


def _lost(report: Report) -> Markup:
    """Return what has lost its owner or its scope: what runs, then what ended."""
    orphans = [each for each in report.running if each.is_lost]
    scopes = [
        [*whose(report, each), each.session, each.lane, each.state, each.owner,
         show_duration(each.age), each.evidence]
        for each in orphans
    ]  # fmt: skip
    processes = [
        [*whose(report, each), each.session, each.lane, str(each.pid), each.program,
         each.evidence]
        for each in report.outside
    ]  # fmt: skip
    titles = whose_titles(report)
    over = Counter(each.reason for each in report.lives if each.reason in LOST)
    ended = by_reason(over) or "none"
    return _section(
        "Orphans and escapes",
        _listed("Scopes without their owner", "No scope that runs has lost its owner.",
                [*titles, "SESSION", "LANE", "STATE", "OWNER", "AGE", "EVIDENCE"], scopes),
        _listed("Processes outside of their scope",
                "No process is seen to run outside of its scope.",
                [*titles, "SESSION", "LANE", "PID", "PROGRAM", "EVIDENCE"], processes),
        tag("p", f"Ended since then for such a reason: {ended}."),
    )  # fmt: skip


def _listed(title: str, none: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    if not rows:
        return tag("p", none)
    head = tag("h3", f"{title}: {len(rows):,}")
    return join([head, _plain_table(titles, rows[:_MOST_SHOWN]), _more(rows)])


def _plain_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int | None = None
) -> Markup:
    """Return a table; its columns from that one on have numbers."""

    def kind(at: int) -> str | None:
        return "number" if numbers_from is not None and at >= numbers_from else None

    head = tag("tr", *(tag("th", x, scope="col", class_=kind(at)) for at, x in enumerate(titles)))
    body = [tag("tr", *(tag("td", x, class_=kind(at)) for at, x in enumerate(row))) for row in rows]
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex=0)


def _members(report: Report, rows: Sequence[Sequence[table.TableCell]]) -> Markup:
    running = sum(each.reason == RUNNING for each in report.lives)
    host = "a host, " if report.hosts else ""
    tools = tag(
        "div",
        tag("input", type="search", id="words", aria_label="Show only rows with these words",
            placeholder="words to filter by"),
        tag("span", f"{len(rows):,}", id="count", role="status"),
        tag("button", "Previous", type="button", id="previous"),
        tag("button", "Next", type="button", id="next"),
        class_="tools",
    )  # fmt: skip
    return _section(
        "All members",
        tag("p", f"{counted(len(rows), 'member')}, of which {running:,} run. A click on a title "
            f"sorts, one on {host}a reason or a session above filters.", class_="note"),
        tag("noscript", tag("p", f"Without JavaScript, this has the last {table.AT_ONCE}, and "
                            "neither sorts nor filters.")),
        tools,
        tag("div", table.table(report, rows), class_="wide", tabindex=0),
    )  # fmt: skip


def _section(title: str, *content: Markup | str) -> Markup:
    return tag("section", tag("h2", title), *content)


def _footer(report: Report) -> Markup:
    return tag(
        "footer",
        f"Made by scopekeeper {report.version} on {report.clock(report.made)}. ≥: of some members "
        "nobody saw the CPU time. ≤: an end that was seen late. The page fetches nothing.",
    )
