"""What ``top`` shows, and what each key makes of it. Pure: a key gives a state and an action."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from scopekeeper.cli.list_where import Order
from scopekeeper.cli.top import row_filter
from scopekeeper.cli.top.rows import NAMES, Shown, TopRow

SORTS = {
    "M": "memory", "C": "cpu%", "I": "idle", "A": "age", "P": "procs", "N": "session", "S": "state",
}  # fmt: skip
"""The keys that sort, each with its field; the largest is first, but for texts."""
_TEXTS = ("session", "state")
KEYS = (
    ("↑ ↓ k j", "the row above, below"),
    ("PgUp PgDn", "a screen up, down"),
    ("Home End g G", "the first, the last"),
    ("Enter", "open: processes, limits, output, why its last ones ended"),
    ("s", "stop: shows what would end, and asks"),
    ("a", "attach to a run's terminal"),
    ("l", "a run's output, as it comes"),
    ("w", "why: what runs in it, and why the last ones ended"),
    ("M C I A", "sort by memory, CPU, idle time, age; again: the other way round"),
    ("P N S", "sort by processes, session, state"),
    ("m", "a row for each member, or for each scope"),
    ("f", "fold all sessions, or unfold them"),
    ("Space ← →", "fold the session of this row, or unfold it"),
    ("/", "filter: words that a row has, and conditions such as memory>1G"),
    ("Ctrl-L", "look again, and draw it anew"),
    ("?", "these keys"),
    ("q Esc", "back; in the list, q quits"),
)
"""What a person can press, and what that does."""
_LONGEST = 200
"""Characters of a filter."""
_FAR = 1 << 30


@dataclass(frozen=True, slots=True)
class Page:
    """A text over the whole screen, that can be scrolled."""

    what: str
    """``details``, ``output``, ``why`` or ``keys``."""
    title: str
    lines: tuple[str, ...] = ()
    first: int = 0
    """The first line that is visible."""
    shown: Shown | None = None
    """What it is about."""
    follows: bool = False
    """Whether it stays at its end while lines are added."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question before a stop."""

    what: object
    """What is stopped if the answer is y; None if nothing can be."""
    question: str
    lines: tuple[str, ...]
    """What would end."""
    first: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is shown, and how."""

    orders: tuple[Order, ...] = ()
    members: bool = False
    """Whether each row is a member."""
    folds: bool = False
    """Whether sessions are folded, but for those in unlike; else only those in unlike are."""
    unlike: frozenset[str] = frozenset()
    filter: str = ""
    typed: str | None = None
    """The filter that is being typed."""
    problem: str = ""
    """Why that is none yet."""
    selected: str = ""
    """The key of the selected row."""
    at: int = 0
    """Its place among the rows, and that of the first visible row."""
    first: int = 0
    page: Page | None = None
    ask: Ask | None = None
    message: str = ""

    @property
    def arrangement(self) -> tuple[object, ...]:
        """What decides which rows there are, and in which order."""
        typed = self.filter if self.typed is None or self.problem else self.typed
        return self.orders, self.members, self.folds, self.unlike, typed

    @property
    def filtered(self) -> str:
        """The filter in force: the one being typed, as soon as it is one."""
        return self.filter if self.typed is None or self.problem else self.typed


class Room(NamedTuple):
    """What the screen has room for."""

    rows: int
    """Rows of the list at once."""
    lines: int
    """Lines of a page, or of what would end, at once."""
    length: int = 0
    """How many lines the page or the question has at this width."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a key asks for beside another state."""

    what: str
    """``quit``, ``redraw``, ``details``, ``why``, ``output``, ``attach``, ``ask`` or ``stop``."""
    shown: Shown | None = None
    target: object = None
    """What a ``stop`` is about, as the question has it."""


Pressed = tuple[State, Action | None]


def settle(state: State, rows: Sequence[TopRow], room: Room) -> State:
    """Return the state with a row selected that is there, and visible.

    If the selected one is gone, it is the one that has its place now.
    """
    at = next((at for at, row in enumerate(rows) if row.of.key == state.selected), state.at)
    return _moved(state, rows, room, at)


def _moved(state: State, rows: Sequence[TopRow], room: Room, at: int) -> State:
    if not rows:
        return replace(state, selected="", at=0, first=0)
    at = min(max(at, 0), len(rows) - 1)
    height = max(room.rows, 1)
    first = min(max(state.first, at - height + 1), at)
    first = max(min(first, len(rows) - height), 0)
    return replace(state, selected=rows[at].of.key, at=at, first=first)


def press(state: State, key: str, rows: Sequence[TopRow], room: Room, now: float) -> Pressed:
    """Return what a key makes of the state, and what it asks for.

    A key is a character, or a name such as ``up``. now is in seconds since the epoch.
    """
    state = replace(state, message="")
    if key == "ctrl-l":
        return state, Action("redraw")
    if state.ask is not None:
        return _answer(state, state.ask, key, room)
    if state.typed is not None:
        return _type(state, state.typed, key, now), None
    if state.page is not None:
        return _turn(state, state.page, key, room)
    return _list(state, key, rows, room)


def _answer(state: State, ask: Ask, key: str, room: Room) -> Pressed:
    """Only y stops; keys that scroll stay in the question, any other leaves it."""
    first = _scrolled(ask.first, key, room)
    if first is not None:
        return replace(state, ask=replace(ask, first=first)), None
    state = replace(state, ask=None)
    if key in ("y", "Y") and ask.what is not None:
        return state, Action("stop", target=ask.what)
    return replace(state, message="nothing was stopped"), None


def _type(state: State, typed: str, key: str, now: float) -> State:
    if key == "esc":
        return replace(state, typed=None, problem="")
    if key == "enter":
        if state.problem:
            return state
        return replace(state, typed=None, filter=typed.strip())
    if key == "backspace":
        typed = typed[:-1]
    elif key == "ctrl-u":
        typed = ""
    elif len(key) == 1 and key.isprintable():
        typed = (typed + key)[:_LONGEST]
    try:
        row_filter.parse(typed, now)
    except ValueError as error:
        return replace(state, typed=typed, problem=str(error))
    return replace(state, typed=typed, problem="")


def _turn(state: State, page: Page, key: str, room: Room) -> Pressed:
    if key in ("q", "esc", "enter", "left", "backspace") or (key == "?" and page.what == "keys"):
        return replace(state, page=None), None
    first = _scrolled(page.first, key, room)
    if first is not None:
        is_end = first >= room.length - room.lines
        return replace(state, page=replace(page, first=first, follows=is_end)), None
    if page.shown is not None:
        return state, _action(key, page.shown)
    return state, None


def _scrolled(first: int, key: str, room: Room) -> int | None:
    """Return the first line that a key shows; None if it does not scroll."""
    steps = {
        "up": -1, "k": -1, "down": 1, "j": 1, "pageup": -room.lines, "pagedown": room.lines,
        " ": room.lines, "home": -_FAR, "g": -_FAR, "end": _FAR, "G": _FAR,
    }  # fmt: skip
    if key not in steps:
        return None
    return min(max(first + steps[key], 0), max(room.length - room.lines, 0))


def _list(state: State, key: str, rows: Sequence[TopRow], room: Room) -> Pressed:
    moves = {
        "up": state.at - 1, "k": state.at - 1, "down": state.at + 1, "j": state.at + 1,
        "pageup": state.at - room.rows, "pagedown": state.at + room.rows,
        "home": 0, "g": 0, "end": len(rows), "G": len(rows),
    }  # fmt: skip
    if key in moves:
        return _moved(state, rows, room, moves[key]), None
    if key == "q":
        return state, Action("quit")
    if key == "esc":
        return replace(state, filter=""), None
    if key == "/":
        return replace(state, typed=state.filter, problem=""), None
    if key == "?":
        lines = tuple(f"{keys:14}{does}" for keys, does in KEYS)
        return replace(state, page=Page("keys", "Keys", lines)), None
    if key in SORTS:
        return _sort(state, SORTS[key]), None
    if key == "m":
        return replace(state, members=not state.members), None
    if key == "f":
        return replace(state, folds=not state.folds, unlike=frozenset()), None
    shown = rows[state.at].of if state.at < len(rows) else None
    if shown is None:
        return state, None
    if key in (" ", "left", "right") or (key == "enter" and shown.is_fold):
        return _fold(state, shown, key), None
    return state, _action(key, shown)


def _action(key: str, shown: Shown) -> Action | None:
    known = {"enter": "details", "s": "ask", "a": "attach", "l": "output", "w": "why"}
    return Action(known[key], shown) if key in known else None


def _sort(state: State, name: str) -> State:
    at = NAMES.index(name)
    is_falling = name not in _TEXTS
    if state.orders and state.orders[0].at == at:
        is_falling = not state.orders[0].is_falling
    return replace(state, orders=(Order(at, is_falling),), first=0)


def _fold(state: State, shown: Shown, key: str) -> State:
    """Fold or unfold the session of a row, and select it."""
    is_folded = (shown.session in state.unlike) is not state.folds
    if (key == "left" and is_folded) or (key == "right" and not is_folded):
        return state
    unlike = state.unlike ^ {shown.session}
    selected = shown.parts[0].directory if is_folded else f"+{shown.session}"
    return replace(state, unlike=unlike, selected=selected)
