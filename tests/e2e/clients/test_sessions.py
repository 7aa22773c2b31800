"""Sessions of a real client: their names, two at once, resumed, begun anew, with a subagent."""

import pytest

from tests.e2e.census import Process
from tests.machine import eventually

from .client import Client
from .desk import Desk
from .ends import ENDS
from .life import ANSWER, ECHO, Life, Prompt, Screen
from .test_ends import is_contained, is_named

MEMBER_LEFT_S = 30.0
"""Leftovers of a member end after its ``leader_grace``, and some of them only by SIGKILL."""
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(240)]


def sessions_of(life: Life) -> set[str]:
    """Return the sessions on record of what is contained."""
    client = life.desk.client
    return {each.session for each in life.seen if is_contained(client, each.kind)}


def names_of(life: Life) -> set[str]:
    """Return the sessions on record of what lives, is contained, and has an id from the client."""
    client = life.desk.client
    found = [
        (each.session, each.lives)  # in this order: what has ended meanwhile has no record
        for each in life.seen
        if is_contained(client, each.kind) and is_named(client, each.kind)
    ]
    return {session for session, lives in found if lives}


def alive(processes: frozenset[Process]) -> set[Process]:
    return {each for each in processes if each.lives}


def test_a_second_session_is_left_alone_and_answers(client: Client, desk: Desk) -> None:
    one = Prompt(desk, background=True)
    two = Prompt(desk, background=False)
    try:
        assert two.seen.isdisjoint(one.seen)
        if desk.contained:
            assert sessions_of(one).isdisjoint(sessions_of(two))
        ENDS["SIGKILL"].act(one)
        left = [each for each in one.left() if is_contained(client, each.kind)]
        assert bool(left) is not desk.contained
        assert alive(two.seen) == two.seen
        ENDS["finished"].act(two)
        left = [each for each in two.left() if is_contained(client, each.kind)]
        assert two.status == 0
        assert left == [] or not desk.contained
    finally:
        one.close()
        two.close()


def test_a_session_that_is_resumed_has_its_name_again(client: Client, desk: Desk) -> None:
    first = Prompt(desk, background=False)
    try:
        (identifier,) = client.sessions(desk.place)
        before = sessions_of(first)
        ENDS["finished"].act(first)
        left = first.left()
        assert left == [] or not desk.contained
    finally:
        first.close()
    second = Prompt(desk, background=False, resumed=identifier)
    try:
        if desk.contained and client.names_servers:
            assert before == sessions_of(second) == {client.session_name(identifier)}
        assert client.sessions(desk.place) == {identifier}
        ENDS["SIGKILL"].act(second)
        left = second.left()
        assert left == [] or not desk.contained
    finally:
        second.close()


def test_a_session_that_is_begun_anew_leaves_nothing_of_either(client: Client, desk: Desk) -> None:
    life = Screen(desk, background=True)
    try:
        first, names = life.seen, names_of(life)
        life.begin_anew()
        identifiers = client.sessions(desk.place)
        assert len(identifiers) == 2
        names |= names_of(life)
        if desk.contained and names:
            assert names == {client.session_name(each) for each in identifiers}
        life.seen |= first
        ENDS["tui-SIGKILL"].act(life)
        left = [each for each in life.left() if is_contained(client, each.kind)]
        assert bool(left) is not desk.contained
    finally:
        life.close()


def test_a_subagent_uses_the_servers_of_its_session(client: Client, desk: Desk) -> None:
    step = client.subagent("\n".join([client.ping("stub"), client.command(ECHO), "say: was there"]))
    life = Prompt(desk, background=False, more=[step])
    try:
        (answer,) = {each.pid for each in life.seen if (each.kind, each.name) == ("server", "stub")}
        assert "was there" in life.answers()
        (pong, echo) = desk.model.results("\nsay: was there")
        assert f"pong from {answer}" in pong
        assert ANSWER in echo
        if desk.contained:
            assert len(sessions_of(life)) == 1
        ENDS["SIGKILL"].act(life)
        left = [each for each in life.left() if is_contained(client, each.kind)]
        assert bool(left) is not desk.contained
    finally:
        life.close()


@pytest.mark.parametrize("start", [Prompt, Screen])
def try_commands_end_with_a_client_that_is_a_member_itself(
    client: Client, desk: Desk, start: type[Prompt | Screen]
) -> None:
    desk.as_member = desk.contained
    life = start(desk, background=True)
    try:
        commands = {each for each in life.seen if each.kind == "worker"}
        assert all(bool(each.scope) is desk.contained for each in commands)
        assert life.wrong() == []
        ENDS["SIGKILL"].act(life)
        if desk.contained:
            eventually(lambda: not alive(life.seen), MEMBER_LEFT_S)
        else:
            assert commands <= set(life.left())
    finally:
        life.close()
