"""Sessions of a real client: their names, two at once, resumed, begun anew, with a subagent."""

import pytest

from tests.e2e.census import Process

from .client import Client
from .desk import Desk
from .ends import ENDS
from .life import ANSWER, ECHO, Life, Prompt, Screen
from .test_ends import is_contained

pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(240)]


def sessions_of(life: Life) -> set[str]:
    """Return the sessions on record of what is contained."""
    client = life.desk.client
    return {each.session for each in life.seen if is_contained(client, each.kind)}


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
        first = life.seen
        life.begin_anew()
        identifiers = client.sessions(desk.place)
        assert len(identifiers) == 2
        if desk.contained and client.names_servers:
            names = {each.session for each in life.seen | first}
            assert names == {client.session_name(each) for each in identifiers}
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
