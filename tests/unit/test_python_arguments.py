"""Errors of the Python API name its arguments; ``dir`` shows what it has."""

import contextlib
import datetime as dt
import marshal
import math
import os
import resource
import subprocess
import sys

import pytest

import scopekeeper
from scopekeeper.errors import LimitError, ScopekeeperError, UsageError
from scopekeeper.python_api import launcher, popen_arguments, public
from scopekeeper.python_api.options import in_python, renamed
from scopekeeper.python_api.popen_arguments import PopenOptions


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
        ("--owner 999999: there is no such process", "owner=999999: there is no such process"),
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
        ({"session": 5}, "session=5 is not text; give text, such as session='5'"),
        ({"session_id": 5}, "session_id=5 is not text"),
        ({"lane": 5}, "lane=5 is not text"),
        ({"run": 5}, "run=5 is not text"),
        ({"ttl": -3}, "ttl=-3 is negative"),
        ({"grace": dt.timedelta(seconds=-1)}, "is negative"),
        ({"grace": "soon"}, "grace='soon' is not a duration"),
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
        (lambda: scopekeeper.stop(lane="cron"), "no target given: lane= alone is not enough"),
        (lambda: scopekeeper.stop(session=42), "session=42 is not text"),
        (lambda: scopekeeper.list_scopes(session=42), "session=42 is not text"),
        (lambda: scopekeeper.list_scopes(name=3), "name=3 is not text"),
        (lambda: scopekeeper.Cohort("s").spawn(["x"], name=3), "name=3 is not text"),
        (lambda: scopekeeper.stop(session="s", note=5), "note=5 is not text"),
        (lambda: scopekeeper.list_scopes(started_before="yesterday"), "started_before='yesterday'"),
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


def test_every_public_name_is_there_and_no_other():
    assert set(scopekeeper.__all__) == {*public.PUBLIC, "errors"}
    found = {}
    exec("from scopekeeper import *", found)
    assert set(scopekeeper.__all__) <= found.keys()
    assert not hasattr(scopekeeper, "nonsense")


@pytest.mark.parametrize("name", ["errors", "mcp"])
def test_a_module_is_there_without_an_import_of_its_own(name):
    if name == "mcp":
        pytest.importorskip("mcp.client.stdio")
    script = f"import scopekeeper; print(scopekeeper.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == f"scopekeeper.{name}\n", done.stderr


def test_without_the_sdk_its_client_is_no_attribute():
    """``hasattr`` asks, as programs do that show a module."""
    script = "import sys; sys.modules['mcp'] = None; import scopekeeper; scopekeeper.mcp"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "AttributeError: scopekeeper.mcp needs scopekeeper[mcp]" in done.stderr


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("terminated", "gone after 24 ms; 3 processes terminated"),
        ("killed", "gone after 24 ms; 3 processes terminated, 2 of them killed"),
        ("empty", "was already empty"),
        ("refused", "skipped: it is\\x1b another's"),
        ("remains", "1 process cannot be killed after 24 ms"),
    ],
)
def test_a_result_is_printed_as_one_line(outcome, text):
    left = (scopekeeper.Remaining(7, "D", "nfs_wait", "cat"),)
    target = scopekeeper.Target("/x/scopekeeper-s-main.scope/m-a.12345678", "/x")
    result = scopekeeper.Result(target, outcome, 1, 2, 24.4, left, "it is\x1b another's",
                                processes=3)  # fmt: skip
    assert str(result) == f"scopekeeper-s-main.scope: m-a.12345678: {text}"


def test_a_cohort_shows_its_session():
    cohort = scopekeeper.Cohort("agent:main:main", "cron")
    assert repr(cohort) == "<Cohort session='agent:main:main' lane='cron' members=0>"


@pytest.mark.parametrize("call", [
    lambda: scopekeeper.Cohort("s").spawn(["true"], stdin=subprocess.PIPE),
    lambda: scopekeeper.Cohort("s").place("x"),
    scopekeeper.list_scopes,
    lambda: scopekeeper.stop(session="nobody-has-this"),
])  # fmt: skip
def test_a_process_without_descriptors_gets_a_limit_error(call):
    scopekeeper.list_scopes("nobody-has-this")  # everything is loaded
    held = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/", os.O_RDONLY))
        with pytest.raises(LimitError, match=r"LimitNOFILE="):
            call()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_arguments_of_popen_are_those_that_are_typed():
    assert PopenOptions.__annotations__.keys() == popen_arguments._DEFAULTS.keys()


def test_dir_shows_what_is_loaded_on_first_use():
    names = {"Cohort", "spawn", "spawn_async", "list_scopes", "stop", "wait", "ScopeInfo"}
    assert names <= set(dir(scopekeeper))
    for name in names:
        assert callable(getattr(scopekeeper, name))


def test_what_a_launcher_reports_is_read_as_it_comes():
    whole = [("warning", "w" * 300), ("member", "/a", "m"), ("errno", 2)]
    said = b"".join(map(marshal.dumps, whole))
    for cut in range(len(said)):
        first, left = launcher._split(said[:cut])
        second, rest = launcher._split(left + said[cut:])
        assert (first + second, rest) == (whole, b"")


@pytest.mark.parametrize(
    "text", [b"Fatal Python error: x\n", b"Nothing", b"i\1\0\0\0", b"\xff" * 9]
)
def test_what_is_no_report_is_none(text):
    said = marshal.dumps(("warning", "w"))
    assert launcher._split(said + text) == ([("warning", "w")], text)
