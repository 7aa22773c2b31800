"""What ``top`` shows of what it measured, and what each key makes of it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli.colour import PAINTED
from scopekeeper.cli.list_where import arranged
from scopekeeper.cli.table import width_of
from scopekeeper.cli.top import layout, row_filter
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.layout import Scene, Style, draw, room_of
from scopekeeper.cli.top.rows import NAMES, Measured
from scopekeeper.cli.top.state import KEYS, SORTS, Action, Ask, Page, Room, State, press, settle
from scopekeeper.kernel.machine_load import MachineLoad
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope
from tests.docs.how_to import section

NOW = 1_700_000_000.0
ROOM = Room(10, 10, 30)
LOAD = MachineLoad(
    (0.5, 0.4, 0.3), (10, 100), 8, (10 << 30, 16 << 30), (1 << 30, 2 << 30),
    {"cpu": 1.2, "memory": 0.0, "io": 3.0}, 90_000.0,
)  # fmt: skip


def scope(session="agent:main:main", lane="main", uid=1000, **more):
    unit = f"scopekeeper-{session}-{lane}.scope"
    known = {"owner": Owner(unit="gateway.service"), "members": (member(session),), "kind": "mcp",
             "run": ""} | more  # fmt: skip
    return Scope(unit=unit, directory=f"/cg/{uid}/{unit}", cgroup=f"/{unit}", uid=uid,
                 session=session, lane=lane, born=1, **known)  # fmt: skip


def member(session="s", name="time", pids=(7, 8)):
    owner = OwnerState(Owner(unit="gateway.service"), Liveness.ALIVE, "gateway.service runs")
    return Member(name, "5e0c21ab", f"/cg/{session}/m-{name}.5e0c21ab", f"/{session}/{name}",
                  pid=7, leader_lives=True, born=1, pids=pids, owner_state=owner)  # fmt: skip


def measured(session="agent:main:main", **more):
    numbers = {key: more.pop(key) for key in ("memory", "limit", "cpu", "idle", "age", "state",
                                              "member") if key in more}  # fmt: skip
    known = {"state": "running", "member": None} | numbers
    return Measured(scope(session, **more), known.pop("member"), known.pop("state"), **known)


def rows(*each):
    return [top_rows.row(one) for one in each]


def cell(row, name):
    return row.cells[NAMES.index(name)]


def lines_of(state, scene, width=80, height=24):
    return [line.text for line in draw(state, scene, width, height).lines]


# Rows


def test_a_folded_session_adds_up_and_keeps_what_all_have():
    parts = rows(
        measured("a", lane="x", memory=1 << 20, limit=4 << 20, cpu=1.5, idle=9.0, age=5.0),
        measured("b", memory=1 << 30),
        measured("a", lane="y", memory=3 << 20, limit=4 << 20, cpu=2.5, idle=3.0, age=7.0,
                 state="orphan"),
    )  # fmt: skip
    first, second = top_rows.fold(parts, every=True, unlike=())
    assert [cell(first, name).value for name in ("memory", "limit", "cpu%", "idle", "age")] == [
        4 << 20, 8 << 20, 4.0, 3.0, 7.0,
    ]  # fmt: skip
    assert cell(first, "procs").value == 4
    assert cell(first, "session").text == "+2 a"
    assert cell(first, "lane").value is None
    assert cell(first, "state").text == "mixed"
    assert cell(first, "kind").text == "mcp"
    assert len(first.of.scopes) == 2
    assert cell(second, "session").text == "+1 b"
    assert cell(second, "cpu%").value is None


def test_a_session_without_a_limit_somewhere_has_none_as_a_whole():
    parts = rows(measured("a", lane="x", memory=1, limit=2), measured("a", lane="y", memory=1))
    (folded,) = top_rows.fold(parts, every=True, unlike=())
    assert cell(folded, "limit").value is None


def test_sessions_of_two_users_are_two():
    parts = rows(measured("a", uid=1000), measured("a", uid=1001))
    assert len(top_rows.fold(parts, every=True, unlike=())) == 2


def test_memory_has_a_bar_where_something_has_a_limit_and_its_colour_grows():
    parts = rows(
        measured("a", memory=10 << 20, limit=100 << 20),
        measured("b", memory=80 << 20, limit=100 << 20),
        measured("c", memory=95 << 20, limit=100 << 20),
        measured("d", memory=5 << 20),
    )
    table = top_rows.table(parts, parts, 120, members=False, users=False, coloured=True)
    a, b, c, d = (line for (line,) in table.rows)
    assert "10M |....." in a
    assert "\x1b[33m80M |||||." in b
    assert "\x1b[31m95M ||||||" in c
    assert "|" not in d
    without = top_rows.table(parts[3:], parts[3:], 120, members=False, users=False, coloured=True)
    assert "." not in without.rows[0][0].replace("gateway.service", "").replace("0.0", "")


def test_columns_stay_where_they_are_when_other_rows_are_shown():
    parts = rows(*(measured("s" * n, cpu=10.0 ** (n % 4), age=n * 1000.0) for n in range(1, 15)))
    heads = {
        top_rows.table(parts, parts[at : at + 3], 100, members=False, users=False,
                       coloured=False).header
        for at in range(12)
    }  # fmt: skip
    assert len(heads) == 1


def test_the_total_counts_each_scope_once_and_names_what_is_not_running():
    one = measured("a", memory=1 << 20, cpu=50.0)
    two = measured("b", memory=1 << 20, cpu=70.0, state="orphan")
    assert top_rows.total(rows(one, two)) == (
        "2 scopes of 2 sessions, 2 members, 4 processes, 2M, 120% of a CPU; 1 orphan"
    )
    as_members = [replace(one, member=member(name=name)) for name in "xy"]
    assert top_rows.total(rows(*as_members)).startswith("1 scope of 1 session, 2 members")


# The filter


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "abc"),
        ("alpha", "a"),
        ("ALPHA", "a"),
        ("gateway", "abc"),
        ("memory>1G", "b"),
        ("memory>1M orphan", "c"),
        ("state=orphan", "c"),
        ("cpu%>50", "a"),
        ("beta memory<1M", ""),
        ("no=field", ""),
        ("~", ""),
    ],
)
def test_a_filter_is_words_and_conditions(text, found):
    every = rows(
        measured("alpha", memory=1 << 20, cpu=90.0),
        measured("beta", memory=2 << 30, cpu=10.0),
        measured("c", memory=2 << 20, state="orphan"),
    )
    wanted = row_filter.parse(text, NOW)
    assert "".join(cell(x, "session").text[0] for x in every if wanted.holds(x)) == found


@pytest.mark.parametrize(
    "text", ["memory>x", "state=bad", "age<", "session~[", "session>a", "mem>1G", ">"]
)
def test_a_condition_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=r"^[^-\n][^\n]*$"):
        row_filter.parse(text, NOW)


# Keys


def typed(state, text, listed, room=ROOM):
    actions = []
    for key in text:
        state, action = press(state, key, listed, room, NOW)
        actions.append(action)
    return state, actions


def settled(listed, **more):
    return settle(State(**more), listed, ROOM)


LISTED = rows(*(measured(f"s{n:02}", memory=n << 20, cpu=float(n)) for n in range(30)))


def test_moving_stays_among_the_rows_and_the_selected_one_is_visible():
    state = settled(LISTED)
    assert (state.at, state.selected) == (0, LISTED[0].of.key)
    for keys, at, first in (("j", 1, 0), (["end"], 29, 20), ("k", 28, 20), (["pageup"], 18, 18),
                            (["home"], 0, 0), ("k", 0, 0), (["pagedown"], 10, 1)):  # fmt: skip
        state, _ = typed(state, keys, LISTED)
        assert (state.at, state.first) == (at, first), keys


def test_the_selection_follows_its_row_and_then_its_place():
    state, _ = typed(settled(LISTED), "jjj", LISTED)
    assert settle(state, LISTED[::-1], ROOM).at == 26
    left = [row for row in LISTED if row.of.key != state.selected]
    assert settle(state, left, ROOM).selected == left[3].of.key
    assert settle(state, LISTED[:2], ROOM).at == 1
    assert settle(state, [], ROOM).selected == ""


@pytest.mark.parametrize(("key", "name"), SORTS.items())
def test_a_sort_key_sorts_and_again_turns_it_round(key, name):
    once, _ = typed(settled(LISTED), key, LISTED)
    twice, _ = typed(once, key, LISTED)
    orders = [
        [cell(row, name).value for row in arranged(LISTED, lambda row: row.cells, (), s.orders)]
        for s in (once, twice)
    ]
    known = [value for value in orders[0] if value is not None]
    assert known == sorted(known, reverse=name not in ("session", "state"))
    assert [value for value in orders[1] if value is not None] == known[::-1] or not known


def test_folding_one_session_selects_its_row_and_unfolding_its_first_scope():
    state, _ = typed(settled(LISTED), "j ", LISTED)
    assert state.unlike == {LISTED[1].of.session}
    folded = top_rows.fold(LISTED, every=False, unlike=state.unlike)
    state = settle(state, folded, ROOM)
    assert folded[state.at].of.is_fold
    for key in ("left", "j"):  # it is folded already; another row
        state, _ = typed(state, [key], folded)
    state, _ = typed(state, "k", folded)
    state, _ = typed(state, ["enter"], folded)
    assert (state.unlike, state.selected) == (frozenset(), LISTED[1].of.key)
    state, _ = typed(state, ["right"], LISTED)
    assert not state.unlike


def test_all_are_folded_but_those_that_were_unfolded():
    state, _ = typed(settled(LISTED), "f", LISTED)
    folded = top_rows.fold(LISTED, every=state.folds, unlike=state.unlike)
    assert all(row.of.is_fold for row in folded)
    state = settle(state, folded, ROOM)
    state, _ = typed(state, ["right"], folded)
    folded = top_rows.fold(LISTED, every=state.folds, unlike=state.unlike)
    assert [row.of.is_fold for row in folded].count(False) == 1


def test_a_filter_is_in_force_as_it_is_typed_and_escape_takes_it_back():
    state, _ = typed(settled(LISTED), "/s0", LISTED)
    assert (state.typed, state.filtered, state.filter) == ("s0", "s0", "")
    back, _ = typed(state, ["esc"], LISTED)
    assert (back.typed, back.filtered) == (None, "")
    kept, _ = typed(state, ["backspace", "1", "enter"], LISTED)
    assert (kept.typed, kept.filter) == (None, "s1")
    gone, _ = typed(kept, ["esc"], LISTED)
    assert gone.filter == ""
    wrong, _ = typed(kept, ["/", "ctrl-u", *"memory>x", "enter"], LISTED)
    assert wrong.typed == "memory>x"
    assert "not a size" in wrong.problem
    assert wrong.filtered == "s1", "what is no filter yet changes nothing"
    assert typed(wrong, ["ctrl-u", "enter"], LISTED)[0].filter == ""


def test_letters_of_a_filter_do_nothing_else():
    state, actions = typed(settled(LISTED), "/sawlqmfMy?", LISTED)
    assert actions == [None] * len(actions)
    assert state.typed == "sawlqmfMy?"


@pytest.mark.parametrize(
    ("key", "what"),
    [("s", "ask"), ("a", "attach"), ("l", "output"), ("w", "why"), ("enter", "details")],
)
def test_an_action_is_about_the_selected_row(key, what):
    state, _ = typed(settled(LISTED), "jj", LISTED)
    _, (action,) = typed(state, [key], LISTED)
    assert action == Action(what, LISTED[2].of)
    assert typed(State(), [key], [])[1] == [None], "without rows there is none"


def test_only_y_stops_and_any_other_key_does_not():
    asking = State(ask=Ask("what", "Stop it", ("a", "b")))
    for key in ("n", "enter", "esc", "q", "s", "x", "Z", "ctrl-u"):
        state, (action,) = typed(asking, [key], LISTED)
        assert (state.ask, action) == (None, None), key
    for key in ("up", "down", "pagedown", " ", "end"):
        state, (action,) = typed(asking, [key], LISTED)
        assert state.ask is not None
        assert action is None
    state, (action,) = typed(asking, "y", LISTED)
    assert (state.ask, action) == (None, Action("stop", target="what"))


def test_what_cannot_be_stopped_is_not_even_with_y():
    state, (action,) = typed(State(ask=Ask(None, "Stop it", ("refused",))), "y", LISTED)
    assert (state.ask, action) == (None, None)


def test_y_without_a_question_stops_nothing():
    assert typed(settled(LISTED), "yyY", LISTED)[1] == [None] * 3


def test_a_page_scrolls_acts_on_its_row_and_is_left():
    page = Page("details", "t", tuple(map(str, range(30))), shown=LISTED[4].of)
    state = State(page=page)
    state, _ = typed(state, ["pagedown", "down"], LISTED)
    assert state.page.first == 11
    state, _ = typed(state, ["end"], LISTED)
    assert (state.page.first, state.page.follows) == (20, True)
    state, _ = typed(state, ["up"], LISTED)
    assert (state.page.first, state.page.follows) == (19, False)
    _, (action,) = typed(state, "s", LISTED)
    assert action == Action("ask", LISTED[4].of), "not the selected row of the list"
    assert typed(state, "q", LISTED)[0].page is None
    _, (action,) = typed(typed(state, "q", LISTED)[0], "q", LISTED)
    assert action == Action("quit")


def test_every_key_that_is_listed_does_something():
    state, _ = typed(settled(LISTED, filter="s"), "jj", LISTED)
    names = {"↑": "up", "↓": "down", "PgUp": "pageup", "PgDn": "pagedown", "Home": "home",
             "End": "end", "Enter": "enter", "Space": " ", "←": "left", "→": "right",
             "Ctrl-L": "ctrl-l", "Esc": "esc"}  # fmt: skip
    for keys, _ in KEYS:
        for word in keys.split():
            key = names.get(word, word)
            if key == "right":  # unfolds only
                continue
            after, action = press(state, key, LISTED, ROOM, NOW)
            assert action is not None or after != state, word


def test_the_page_lists_the_same_keys():
    text = section("operating.md", "See it live")
    listed = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:3] == "| `"]
    assert [(keys.replace("`", ""), does) for keys, does in listed] == list(KEYS)


# The picture


def scene(listed=LISTED, **more):
    return Scene(listed, NOW, LOAD, 37.0, **more)


def test_at_80_columns_what_matters_is_whole():
    listed = rows(
        measured("agent:main:telegram:direct:123456789", memory=412 << 20, limit=1 << 30, cpu=12.5,
                 idle=3.0, age=7500.0),
        measured("agent:spark:main", memory=131 << 20, cpu=0.0, idle=86399.0, age=86399.0,
                 state="leaderless"),
    )  # fmt: skip
    lines = lines_of(settled(listed), scene(listed))
    assert len(lines) == 24
    assert max(map(width_of, lines)) <= 80
    assert lines[1].startswith("memory ||||||||............ 6.0G of 16G, pressure cpu 1%")
    assert "load 0.50 0.40 0.30, CPU 37% of 8, swap 1.0G of 2.0G" in lines[0]
    assert lines[2].startswith("2 scopes of 2 sessions, 2 members, 4 processes, 543M, 12% of a CPU")
    titles = lines[3].split()
    assert {"SESSION", "STATE", "CPU%", "MEMORY", "PROCS", "AGE"} <= set(titles)
    for words, line in zip((("12.5", "412M ||....", "2h5m"), ("leaderless", "131M", "23h59m")),
                           lines[4:6], strict=True):  # fmt: skip
        assert all(word in line for word in words), line
    assert "q quit" in lines[-1]
    assert "? keys" in lines[-1]


def test_the_selected_row_and_the_sorted_column_are_marked():
    state, _ = typed(settled(LISTED), "M", LISTED)
    listed = arranged(LISTED, lambda row: row.cells, (), state.orders)
    picture = draw(settle(state, listed, ROOM), scene(listed, coloured=True), 80, 24)
    (header,) = [line for line in picture.lines if line.style is Style.HEADER]
    assert header.underlined == "MEMORY"
    (selected,) = [line for line in picture.lines if line.style is Style.SELECTED]
    assert "s00" in selected.text
    assert "\x1b" not in selected.text + header.text
    assert any("\x1b[32mrunning" in line.text for line in picture.lines)


def test_a_small_screen_has_the_rows_alone():
    lines = lines_of(settled(LISTED), scene(), 40, 5)
    assert lines[0].split()[0] == "SESSION"
    assert "s00" in lines[1]
    assert len(lines) == 5


def test_the_cursor_is_where_the_filter_is_typed():
    state, _ = typed(settled(LISTED), "/main", LISTED)
    picture = draw(state, scene(), 80, 24)
    assert picture.lines[-1].text == "/main"
    assert picture.cursor == (23, 5)


def test_a_question_shows_what_would_end_and_how_to_answer():
    state = State(ask=Ask("what", "Stop scope", tuple(f"line {n}" for n in range(50))))
    lines = lines_of(state, scene())
    assert lines[0].startswith("Stop scope  1-22 of 50")
    assert lines[1] == "line 0"
    assert lines[-1] == "stop it? y: yes, any other key: no"
    lines = lines_of(replace(state, ask=replace(state.ask, what=None)), scene())
    assert lines[-1] == "it has nothing that can be stopped; any key"


def test_a_page_that_follows_stays_at_its_end():
    page = Page("output", "Output", tuple(f"line {n}" for n in range(50)), follows=True)
    assert lines_of(State(page=page), scene())[-2] == "line 49"


EVIL = st.text(
    st.sampled_from("ab:- …日本👩💻\u200d\ufe0fe\u0301\x1b\n\t\r\u202e\x9b\x00]0;\x07"), max_size=60
)
NUMBERS = st.none() | st.floats(0, 1e13)


@st.composite
def strange(draw_):
    return measured(
        draw_(EVIL), lane=draw_(EVIL), uid=draw_(st.sampled_from([1000, 4_000_000_000])),
        run=draw_(EVIL), kind=draw_(EVIL), label=draw_(EVIL), session_id=draw_(EVIL),
        members=(member(draw_(EVIL), draw_(EVIL)),), owner=Owner(unit=draw_(EVIL)),
        state=draw_(st.sampled_from(["running", "orphan", "kept"])),
        memory=draw_(st.none() | st.integers(0, 1 << 50)),
        limit=draw_(st.none() | st.integers(0, 1 << 50)),
        cpu=draw_(NUMBERS), idle=draw_(NUMBERS), age=draw_(NUMBERS),
    )  # fmt: skip


KEY = st.sampled_from(
    ["up", "down", "pageup", "pagedown", "home", "end", "enter", "esc", "backspace", "left",
     "right", "ctrl-l", "ctrl-u", "/", "?", *"yYqsalwmfgGkjMCIAPNS ", "é", "=", ">"]
)  # fmt: skip


@given(
    st.lists(strange(), max_size=12), st.lists(KEY, max_size=25), st.integers(1, 210),
    st.integers(1, 55), EVIL, st.booleans(), st.booleans(),
)  # fmt: skip
def test_whatever_is_pressed_every_line_fits_and_none_controls_the_terminal(
    every, keys, width, height, message, coloured, users
):
    state, listed = State(), rows(*every)
    for key in keys:
        room = room_of(state, width, height)
        state = settle(state, listed, room)
        if listed:
            assert listed[state.at].of.key == state.selected
            assert state.first <= state.at < state.first + room.rows
        state, action = press(state, key, listed, room, NOW)
        if action is not None and action.what == "ask":
            state = replace(state, ask=Ask(action.shown, message, (message, "line")))
        elif action is not None and action.shown is not None:
            page = Page(action.what, message, (message,) * 9, shown=action.shown)
            state = replace(state, page=page)
        elif action is not None:
            state = replace(state, message=message)
        listed = rows(*every)
        if state.folds or state.unlike:
            listed = top_rows.fold(listed, every=state.folds, unlike=state.unlike)
        listed = arranged(listed, lambda row: row.cells, (), state.orders)
        state = settle(state, listed, room_of(state, width, height))
        shown = scene(listed, coloured=coloured, users=users, note="", empty=message)
        picture = draw(state, shown, width, height)
        assert len(picture.lines) == height
        for line in picture.lines:
            text = re.sub(PAINTED, "", line.text)
            assert width_of(text) <= width
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", text)
        if picture.cursor is not None:
            assert picture.cursor[0] < height
            assert picture.cursor[1] < width


def test_a_long_word_is_broken_and_others_are_not():
    assert layout.wrapped("a " + "b" * 30, 10) == ["a " + "b" * 8, "b" * 10, "b" * 10, "bb"]
    assert layout.wrapped("one two three four", 10) == ["one two", "  three", "  four"]
