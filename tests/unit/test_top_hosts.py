"""``top -H``: what other hosts send becomes rows, and nothing that they send can do more."""

import json

import pytest

from scopekeeper.cli.top import host_rows
from scopekeeper.cli.top import rows as top_rows
from scopekeeper.cli.top.layout import Scene, draw
from scopekeeper.cli.top.rows import NAMES, NO_ANSWER
from scopekeeper.cli.top.state import Room, State, settle
from scopekeeper.hosts.answer import BadAnswerError, parse
from tests.browser.days import HOSTILE
from tests.unit.test_host_tables import call, hosts, subprocess_call  # noqa: F401  a fixture

NUMBERS = {"state": "running", "memory_bytes": 5 << 20, "limit_bytes": None, "cpu_percent": 12.5,
           "idle_s": 3.0, "age_s": 60.0}  # fmt: skip
MEMBER = NUMBERS | {
    "name": "time", "id": "1", "cgroup": "/u/m-time.1", "kind": "mcp", "lifetime": "gateway",
    "owner": "my.service", "pids": [7, 8],
}  # fmt: skip
SCOPE = NUMBERS | {
    "unit": "scopekeeper-s-main.scope", "cgroup": "/u", "user": "lab", "uid": 1000, "session": "s",
    "label": "", "lane": "main", "run": "", "session_id": "", "kind": "mcp", "lifetime": "gateway",
    "owner": "my.service", "strays": [9], "members": [MEMBER],
}  # fmt: skip


def seen(*changes, host="a", **more):
    document = {"version": 1, "next_s": 2.0, "notes": [], "cpu_percent": 50.0, "cpus": 4,
                "memory_available": 1 << 30, "memory_total": 4 << 30,
                "scopes": [SCOPE | each for each in changes], **more}  # fmt: skip
    return host_rows.read(host, parse(json.dumps(document).encode()))


def row_of(measured):
    return dict(zip(NAMES, (cell.text for cell in top_rows.row(measured).cells), strict=True))


def test_a_scope_and_its_member_are_rows_with_their_host():
    found = seen({})
    row = row_of(found.scopes[0])
    assert {key: row[key] for key in ("host", "user", "session", "cpu%", "memory", "procs")} == {
        "host": "a", "user": "lab", "session": "s", "cpu%": "12.5", "memory": "5M", "procs": "3",
    }  # fmt: skip
    assert row["owner"] == "my.service"
    member = row_of(found.members[0])
    assert (member["member"], member["procs"], member["owner"]) == ("time", "2", "my.service")
    assert found.load == "CPU 50% of 4, memory 3.0G of 4.0G"


def test_the_same_session_on_two_hosts_is_two():
    rows = [top_rows.row(seen({}, host=host).scopes[0]) for host in ("a", "b")]
    assert len({row.of.key for row in rows}) == 2
    assert len(top_rows.fold(rows, every=True, unlike=())) == 2
    assert top_rows.total(rows).startswith("2 scopes of 2 sessions, 2 members, 6 processes")


def test_a_host_without_scopes_or_answer_is_a_row_that_is_not_counted():
    empty = host_rows.or_alone("a", seen(), members=False)
    asking = host_rows.or_alone("b", None, members=True)
    down = host_rows.alone("c", NO_ANSWER, "ssh: no route")
    assert [row_of(x)["state"] for x in (*empty, *asking, down)] == [
        "no scopes", "asking", "no answer",
    ]  # fmt: skip
    rows = [top_rows.row(x) for x in (*empty, *asking, down)]
    assert top_rows.total(rows).startswith("0 scopes of 0 sessions, 0 members, 0 processes")
    assert rows[2].of.title == "c"


def test_at_80_columns_the_host_and_its_state_are_whole():
    down = host_rows.alone("down", NO_ANSWER, "ssh: connect to host down: no route")
    measured = (*seen({}, {"session": "x" * 60}, host="build1").scopes, down)
    rows = [top_rows.row(each) for each in measured]
    scene = Scene(rows, hosts=("2 of 3 hosts answer, down: ssh: no route", "build1 CPU 5% of 4"))
    picture = draw(settle(State(), rows, Room(20, 20)), scene, 80, 24)
    lines = [line.text for line in picture.lines]
    assert "2 of 3 hosts answer, down: ssh: no route" in lines[0]
    assert lines[1] == "build1 CPU 5% of 4"
    assert lines[3].split()[:2] == ["HOST", "SESSION"]
    assert lines[4].split()[:2] == ["build1", "s"]
    assert lines[6].startswith("down")
    assert "no answer" in lines[6]
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_a_host_reach_the_terminal_as_text(text):
    text = text.encode(errors="replace").decode()
    named = dict.fromkeys(("session", "lane", "user", "owner", "state", "unit", "label"), text)
    rows = [top_rows.row(x) for x in seen(named).scopes]
    scene = Scene(rows, hosts=(text, text), note=text)
    picture = draw(settle(State(), rows, Room(20, 20)), scene, 200, 24)
    assert all(line.text.isprintable() for line in picture.lines[3:])


@pytest.mark.parametrize(
    "change",
    [{"strays": "many"}, {"strays": ["1"]}, {"session": 5}, {"members": [5]}, {"cpu_percent": "1"},
     {"members": None}, {"members": [MEMBER] * 10_000}],
)  # fmt: skip
def test_a_document_of_another_kind_is_refused(change):
    with pytest.raises(BadAnswerError):
        seen(change)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("top -H a --json", "-H and --json exclude each other"),
        ("top -H a", "top needs a terminal"),
    ],
)
def test_a_wrong_call_is_one_line(hosts, line, words):  # noqa: F811
    status, err = subprocess_call(line)
    assert (status, err.count("\n")) == (2, 1)
    assert words in err
