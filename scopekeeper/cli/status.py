"""``scopekeeper status``."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from scopekeeper.cli import openclaw_status, unseen
from scopekeeper.cli.examples import examples
from scopekeeper.cli.show import (
    answer,
    processes,
    safe,
    safe_json,
    table,
    terminal_width,
    warn,
    with_no_trunc,
)
from scopekeeper.cli.table import Column, Fit, cut, wrap
from scopekeeper.doctor import parts
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import ConfigError, ScopekeeperError
from scopekeeper.mcp_configs import known_clients
from scopekeeper.openclaw import locations
from scopekeeper.openclaw.status import BACKEND, Containment
from scopekeeper.quantities import show_bytes
from scopekeeper.scope import choose_placement
from scopekeeper.scope.placement import Caller
from scopekeeper.setup import carry_out, running_now, today
from scopekeeper.setup.client_hooks import ClientHooks
from scopekeeper.setup.running_now import OTHERS, Load
from scopekeeper.setup.step import Found, Machine, Need
from scopekeeper.setup.steps import STEPS

_COLUMNS = (
    Column("WHAT", Fit.MIDDLE, 12),
    Column("STATE"),
    Column("SCOPES", need=3, right=True),
    Column("PROCS", need=2, right=True),
    Column("MEMORY", need=1, right=True),
    Column("DETAIL", Fit.END, 12, need=4),
)
_OTHERWISE = ("keeper", "openclaw")
"""Steps whose part is judged more closely here, and more cheaply."""
_ROWS, _HANDS = 6, 3
"""The most rows, and commands, on one screen of 24 lines."""
_NAMES = 4
_BY_STATE = (Need.CHANGE, Need.HAND, Need.NOTHING)
_OPENCLAW = "OpenClaw"
_NOTHING = (
    "None of the MCP clients and gateways that scopekeeper knows was found: `scopekeeper setup` "
    "prints what to do."
)
_INSTALL = "scopekeeper openclaw install"


@dataclass(slots=True)
class _Row:
    """One client or gateway."""

    what: str
    need: Need = Need.NOTHING
    details: list[str] = field(default_factory=list)
    load: Load = field(default_factory=Load)

    @property
    def detail(self) -> str:
        return "; ".join(dict.fromkeys(self.details))


@dataclass(frozen=True, slots=True)
class _Hand:
    """What needs a hand, and the command that mends it."""

    what: str
    detail: str
    command: str
    few: str = ""
    """What it is about in fewer words, for a line of a terminal."""


@click.command("status", epilog=examples("scopekeeper status", "scopekeeper status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one versioned JSON object.")
@with_no_trunc
def command(as_json: bool, no_trunc: bool) -> None:
    """Show on one screen what is contained, what runs, what was cleaned up, what needs a hand.

    A row for each MCP client and gateway that is found here, with what it runs in scopes now. A
    client that started before it was wrapped needs a hand: to be started again. Then the ends of
    today, since midnight, and the command for each thing that needs a hand. `doctor` checks the
    machine itself; `openclaw status` has each of its sessions. Exit status: 0 everything found is
    contained; 1 something is not, or needs a hand.
    """
    found = _found()
    keeper, hands = _keeper()
    rows = _rows(found)
    whole, loads = _loads([each.what for each in found])
    for row in rows:
        row.load = loads.get(row.what, row.load)
    rows += _without_files(rows, loads)
    hands = [*_lost(whole, keeper), *_rules(), *_tables(), *_hands(found), *hands]
    unseen.collect()
    ends, problem = _today()
    if as_json:
        rows += [_others(loads)] if OTHERS in loads else []
        _answer(rows, keeper, whole, None if problem else ends, hands)
    else:
        _print(rows, loads, no_trunc=no_trunc)
        ended = "unknown" if problem else _ended(ends)
        _facts(keeper, whole, ended, Machine(os.environ, dict).without_systemd())
        _mend(hands, whole=no_trunc)
    warn([problem] if problem else [])
    raise SystemExit(1 if hands else 0)


def _found() -> list[Found]:
    """Return what the steps of setup find, and OpenClaw's gateway."""
    machine = Machine(os.environ, dict)  # no step that is called here needs documents
    steps = [step for step in STEPS if step.name not in _OTHERWISE]
    found = carry_out.find(steps, machine)
    # a hook makes an end sooner; without it, all is contained as well
    found = [each for each in found if each.step != ClientHooks.name or each.need is Need.HAND]
    return [*found, *_openclaw()]


def _openclaw() -> Iterator[Found]:
    """Yield what ``openclaw status`` finds, if this user has a configuration of OpenClaw."""
    try:
        config = locations.find(os.environ).config
    except ConfigError:  # no HOME, as in a service of the system
        return
    if not os.path.exists(config):
        return
    try:
        judged = openclaw_status.judge()
    except ScopekeeperError as error:
        yield Found("openclaw", _OPENCLAW, Need.HAND, error.message,
                    command=error.hint or "scopekeeper openclaw status")  # fmt: skip
        return
    lacks = [
        (each.detail, each.fix)
        for each in judged.findings
        if each.verdict in (Containment.LACKS, Containment.OFF)
    ]
    lacks += [(each.detail, each.fix) for each in judged.sessions
              if not each.unit and each.state != BACKEND]  # fmt: skip
    lacks += [(each.detail, "") for each in judged.findings
              if each.verdict is Containment.STARTING]  # fmt: skip
    # what is not installed explains the rest
    lacks = [each for each in lacks if each[1].startswith(_INSTALL)][:1] or lacks
    by_fix: dict[str, str] = {}
    for detail, fix in lacks:
        by_fix.setdefault(fix or "scopekeeper openclaw status", detail)
    for fix, detail in by_fix.items():
        yield Found("openclaw", _OPENCLAW, Need.HAND, detail, command=fix)
    if not lacks:
        detail = next((e.detail for e in judged.findings if e.part.startswith("gateway")), "")
        yield Found("openclaw", _OPENCLAW, Need.NOTHING, detail)


def _keeper() -> tuple[Finding | None, list[_Hand]]:
    """Return the finding of ``doctor`` on the keeper, and what needs a hand."""
    try:
        finding = parts.keeper(choose_placement.find(Caller()))
    except (ScopekeeperError, LookupError) as error:
        text = error.message if isinstance(error, ScopekeeperError) else str(error.args[0])
        return None, [_Hand("this machine", text, "scopekeeper doctor")]
    hand = [_Hand("keeper", finding.detail, finding.fix)]
    return finding, hand if finding.status is not Status.OK else []


def _rows(found: Sequence[Found]) -> list[_Row]:
    """Return a row for each client and gateway, those that are not contained first."""
    rows: dict[str, _Row] = {}
    for each in found:
        if each.need is Need.ADVICE and each.what not in rows:
            continue
        row = rows.setdefault(each.what, _Row(each.what))
        need = Need.NOTHING if each.need is Need.ADVICE else each.need
        if _BY_STATE.index(need) < _BY_STATE.index(row.need):
            row.need, row.details = need, []
        if need is row.need:
            row.details.append(each.detail)
    return sorted(rows.values(), key=lambda row: _BY_STATE.index(row.need))


def _without_files(rows: Sequence[_Row], loads: dict[str, Load]) -> list[_Row]:
    """Return a row for each client that runs in scopes, and has no file that setup knows."""
    missing = loads.keys() - {OTHERS, *(row.what for row in rows)}
    return [
        _Row(what, details=["no file of it here"], load=loads[what]) for what in sorted(missing)
    ]


def _others(loads: dict[str, Load]) -> _Row:
    """Return the row of all that is in scopes, and that no other row counts."""
    return _Row(OTHERS, details=["owned by no known client"], load=loads[OTHERS])


def _loads(units: Sequence[str]) -> tuple[Load, dict[str, Load]]:
    with contextlib.suppress(LookupError):  # no cgroup2
        return running_now.by_owner(units)
    return Load(), {}


def _hands(found: Sequence[Found]) -> Iterator[_Hand]:
    """Yield what needs a hand; all that setup does has one command."""
    changes = [each for each in found if each.need is Need.CHANGE]
    if changes:
        names = list(dict.fromkeys(each.what for each in changes))
        more = f" and {len(names) - _NAMES} more" if names[_NAMES:] else ""
        detail = changes[0].detail if len(changes) == 1 else "not contained"
        few = ", ".join(names[:_NAMES]) + more
        yield _Hand(", ".join(names), detail, "scopekeeper setup", few)
    for each in found:
        if each.need is Need.HAND:
            detail = f"{each.detail}; {each.why}" if each.why else each.detail
            yield _Hand(each.what, detail, each.command)


def _tables() -> Iterator[_Hand]:
    """Yield each table of clients that does not count: the files of its clients are not found."""
    for problem in known_clients.problems():
        yield _Hand("clients.toml", problem, "scopekeeper doctor")


def _rules() -> Iterator[_Hand]:
    """Yield rules that are not in force: nothing is cleaned up by them."""
    finding = parts.policy()
    if finding.status is not Status.OK:
        yield _Hand("rules", finding.detail, "scopekeeper policy check")


def _lost(whole: Load, keeper: Finding | None) -> Iterator[_Hand]:
    """Yield scopes that no keeper ends."""
    if whole.lost and keeper is not None and not keeper.detail.startswith("runs"):
        many = f"{whole.lost} scopes have lost their owner"
        text = "1 scope has lost its owner" if whole.lost == 1 else many
        yield _Hand("leftovers", text, "scopekeeper reconcile")


def _today() -> tuple[today.Today, str]:
    try:
        return today.read(), ""
    except ScopekeeperError as error:
        before = "" if str(error).startswith("the history") else "the history cannot be read: "
        return today.Today(), f"{before}{error}"


def _print(rows: Sequence[_Row], loads: dict[str, Load], *, no_trunc: bool) -> None:
    """Print the table; contained ones that do not fit a screen are counted."""
    if not rows:
        width = terminal_width()
        for line in wrap(_NOTHING, width) if width else [_NOTHING]:
            click.echo(line)
        return
    shown, more = list(rows), []
    if terminal_width() and not no_trunc and len(rows) > _ROWS:
        shown, more = list(rows[: _ROWS - 1]), list(rows[_ROWS - 1 :])
    cells = [_cells(row.what, row.need.value, row.load, row.detail) for row in shown]
    if OTHERS in loads:
        others = _others(loads)
        cells.append(_cells(OTHERS, others.need.value, others.load, others.detail))
    table(_COLUMNS, cells, whole=no_trunc)
    if more:
        bad = sum(row.need is not Need.NOTHING for row in more)
        state = f"{bad} of them not contained" if bad else "contained"
        click.echo(f"and {len(more)} more, {state}; --no-trunc shows them")


def _cells(what: str, state: str, load: Load, detail: str) -> list[str]:
    memory = "-" if load.memory_bytes is None else show_bytes(load.memory_bytes)
    runs = [str(load.scopes), str(load.processes), memory] if load.scopes else ["-", "-", "-"]
    return [what, state, *runs, detail or "-"]


def _facts(keeper: Finding | None, whole: Load, ended: str, no_systemd: str) -> None:
    click.echo()
    if no_systemd:
        _line("services", f"not looked at: {no_systemd}")
    if keeper is not None:
        _line("keeper", re.split("[;:]", keeper.detail)[0])
    scopes = f"{whole.scopes} scope{'' if whole.scopes == 1 else 's'}"
    memory = "" if whole.memory_bytes is None else f", {show_bytes(whole.memory_bytes)}"
    runs = f"{scopes}, {processes(whole.processes)}{memory}" if whole.scopes else "nothing"
    _line("runs", runs)
    _line("today", ended)


def _ended(ends: today.Today) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in ends.reasons.most_common())
    cleaned = (
        f", {ends.cleaned} of them cleaned up: {reasons}; {processes(ends.processes)}"
        if ends.cleaned
        else ""
    )
    return f"{ends.ended} ended{cleaned}"


def _line(name: str, text: str) -> None:
    first, width = f"{name:<7} ", terminal_width()
    for line in wrap(safe(text), width, first, " " * len(first)) if width else [first + text]:
        click.echo(safe(line))


def _mend(hands: Sequence[_Hand], *, whole: bool) -> None:
    if not hands:
        click.echo("Nothing needs a hand.")
        return
    click.echo("\nNeeds a hand:")
    width = None if whole else terminal_width()
    most = _HANDS if width else len(hands)
    for each in hands[:most]:
        text = f"  {safe((width and each.few) or each.what)}: {safe(each.detail)}"
        click.echo(cut(text, width) if width else text)
        if each.command:
            click.echo(safe(f"    {each.command}"))
    if hands[most:]:
        click.echo(f"  and {len(hands) - most} more: scopekeeper status --no-trunc")


def _answer(
    rows: Sequence[_Row],
    keeper: Finding | None,
    whole: Load,
    ends: today.Today | None,
    hands: Sequence[_Hand],
) -> None:
    answer({
        "contained": not hands,
        "found": [
            {"what": safe_json(row.what), "state": row.need.value,
             "detail": safe_json(row.detail) or None, **_load(row.load)}
            for row in rows
        ],
        "keeper": None if keeper is None else safe_json(keeper.detail),
        "runs": _load(whole),
        "today": ends and {"ended": ends.ended, "cleaned_up": ends.cleaned,
                           "processes": ends.processes, "reasons": dict(ends.reasons)},
        "needs_a_hand": [
            {"what": safe_json(each.what), "detail": safe_json(each.detail),
             "command": safe_json(each.command) or None}
            for each in hands
        ],
    })  # fmt: skip


def _load(load: Load) -> dict[str, Any]:
    return {
        "scopes": load.scopes, "processes": load.processes, "memory_bytes": load.memory_bytes,
    }  # fmt: skip
