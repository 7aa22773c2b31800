"""Errors of the Python API name its arguments; ``dir`` shows what it has."""

import math

import pytest

import scopekeeper
from scopekeeper.errors import ScopekeeperError, UsageError
from scopekeeper.python_api.options import in_python, renamed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--memory-max: '4Q' is not a size", "memory_max='4Q' is not a size"),
        ("--member-memory-max: 'x' is", "member_memory_max='x' is"),
        ("--placement system needs root", "placement=system needs root"),
        ("--placement cgroup:x: the path", "placement=cgroup:x: the path"),
        ("unknown if-unavailable 'x'; use", "unknown if_unavailable='x'; use"),
        ("a place needs a name; give --name", "a place needs a name; give name="),
        ("start it with systemd-run --user", "start it with systemd-run --user"),
        ("look with: scopekeeper ls --members", "look with: scopekeeper ls --members"),
        ("--own-scope and --owner", "--own-scope and owner="),
    ],
)  # fmt: skip
def test_options_become_arguments_and_other_programs_options_stay(text, expected):
    assert in_python(text) == expected


def test_the_hint_of_an_error_is_renamed_too():
    error = renamed(ScopekeeperError("--ttl: 'x' is bad", "leave --ttl out"))
    assert str(error) == "ttl='x' is bad; leave ttl= out"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"memory_max": "4Q"}, "memory_max='4Q' is not a size"),
        ({"tasks_max": 1.5}, "tasks_max=1.5 is not valid; give a number or text"),
        ({"ttl": math.nan}, "ttl='nan' is not a duration"),
        ({"ttl": []}, "ttl=[] is not valid; give seconds, a timedelta"),
        ({"kind": "x"}, "unknown kind 'x'"),
        ({"session": ""}, "session"),
    ],
)  # fmt: skip
def test_an_error_of_a_cohort_has_no_option_in_it(options, text):
    with pytest.raises(UsageError) as raised:
        scopekeeper.Cohort(**options)
    assert text in str(raised.value)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (scopekeeper.stop, "no target given; give a word, or session="),
        (lambda: scopekeeper.stop(lane="cron"), "no target given"),
        (lambda: scopekeeper.stop(state="x"), "state='x' is not valid; use one of running"),
        (lambda: scopekeeper.list_scopes(lifetime=["x"]), "lifetime='x' is not valid; use one of"),
        (lambda: scopekeeper.stop(session=""), "session='' is empty"),
        (lambda: scopekeeper.stop(session="s", grace="x"), "grace='x' is not a duration"),
        (lambda: scopekeeper.wait("x", timeout="y"), "timeout='y' is not a duration"),
    ],
)  # fmt: skip
def test_an_error_of_a_function_has_no_option_in_it(call, text):
    with pytest.raises(UsageError) as raised:
        call()
    assert text in str(raised.value)
    assert "--" not in str(raised.value)


def test_an_argument_that_there_is_not_is_a_type_error():
    with pytest.raises(TypeError, match="no argument 'sesion'"):
        scopekeeper.stop(sesion="s")


def test_dir_shows_what_is_loaded_on_first_use():
    names = {"Cohort", "spawn", "spawn_async", "list_scopes", "stop", "wait", "ScopeInfo"}
    assert names <= set(dir(scopekeeper))
    for name in names:
        assert callable(getattr(scopekeeper, name))
