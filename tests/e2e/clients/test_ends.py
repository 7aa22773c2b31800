"""Every end of a real client: what it leaves, and who is found to have started it."""

import pytest

from .client import Client
from .conftest import WAYS
from .counting import Left, Table
from .desk import Desk
from .ends import ENDS
from .life import ANSWER, Life

pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(240)]


def test_nothing_of_a_session_stays(
    client: Client, desk: Desk, way: str, end: str, table: Table
) -> None:
    life = ENDS[end].begin(desk)
    try:
        check_that_it_works(life)
        if desk.contained:
            check_that_it_is_contained(life)
        ENDS[end].act(life)
        left = life.left()
        table.note(ENDS[end].label, WAYS[way], Left.of(left))
        assert "scopekeeper" not in life.shown()
        if desk.contained:
            assert [each for each in left if is_contained(client, each.kind)] == []
    finally:
        life.close()


def check_that_it_works(life: Life) -> None:
    answers = life.answers()
    pids = [str(each.pid) for each in life.seen if each.kind == "server"]
    assert all(f"pong from {pid}" in answers for pid in pids), answers
    assert ANSWER in answers
    assert life.wrong() == []


def check_that_it_is_contained(life: Life) -> None:
    client = life.desk.client
    names = [client.session_name(each) for each in client.sessions(life.desk.place)]
    for each in life.seen:
        if is_contained(client, each.kind):
            assert each.scope, each
            assert not is_named(client, each.kind) or each.session in names, each


def is_contained(client: Client, kind: str) -> bool:
    return kind != "worker" or client.contains_commands


def is_named(client: Client, kind: str) -> bool:
    """Return True if the client gives its processes of a kind the id of the session."""
    return client.names_commands if kind == "worker" else client.names_servers
