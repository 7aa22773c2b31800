"""Options and environment become an identity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.clients.identity import Named
from scopekeeper.launch.arguments import parse
from scopekeeper.launch.request import Request


def request(environment=None, command="server", **options):
    raw = {f"SCOPEKEEPER_{k}".encode(): v.encode() for k, v in (environment or {}).items()}
    return Request(options, raw, command)


def test_the_environment_fills_in_what_is_not_given():
    made = request({"SESSION": "s", "LANE": "cron", "RUN": "r", "SESSION_ID": "i"})
    assert (made.session, made.lane, made.run, made.session_id) == ("s", "cron", "r", "i")


def test_lane_and_run_of_another_session_are_not_taken_over():
    made = request({"SESSION": "outer", "LANE": "cron", "RUN": "r"}, session="mine")
    assert (made.session, made.lane, made.run) == ("mine", "main", "")


def test_a_run_of_another_lane_is_not_taken_over():
    there = {"SESSION": "s", "LANE": "main", "RUN": "gateway.service"}
    assert request(there).run == request(there, lane="main").run == "gateway.service"
    assert request(there, lane="nested").run == ""
    assert request(there, lane="cron", session_id="1").run == "1"
    assert request({"SESSION": "s", "RUN": "r"}, lane="cron").run == "r", "it names no lane"


def test_beside_a_scope_that_ends_with_a_unit_is_the_owners_or_that_of_the_lifetime():
    assert request(session="s").run_beside("gateway.service") == "gateway.service"
    assert request(session="s", lifetime="detached").run_beside("gateway.service") == "detached"


def test_a_lane_in_the_environment_without_a_session_holds():
    assert request({"LANE": "cron"}, session="mine").lane == "cron"


CLIENT = Named("claude:7", "cli")


def test_a_client_names_session_and_lane_if_nothing_else_does():
    made = Request({}, {}, "true", None, CLIENT)
    assert (made.session, made.lane, made.ignored) == ("claude:7", "cli", "")
    assert Request({"lane": "cron"}, {}, "true", None, CLIENT).lane == "cron"
    assert Request({}, {b"SCOPEKEEPER_LANE": b"cron"}, "true", None, CLIENT).lane == "cron"
    assert Request({}, {b"SCOPEKEEPER_SESSION": b"s"}, "true", None, Named()).session == "s"


def test_the_rules_of_the_lane_that_a_client_names_apply():
    asked = []

    def rules(lane_class, _server):
        asked.append(lane_class)
        return {"replace": "1"}

    made = Request({}, {}, "true", rules, CLIENT)
    assert asked == ["cli"]
    assert not made.replace, "all servers of a client are in its session"


def test_two_runs_of_one_cron_job_never_share_a_scope():
    one = request(session="s", lane="cron", session_id="1")
    two = request(session="s", lane="cron", session_id="2")
    assert (one.run, two.run) == ("1", "2")


def test_a_main_session_keeps_one_scope_over_its_lives():
    assert request(session="s", session_id="1").run == ""


def test_each_pty_run_has_a_scope_of_its_own_and_outlives_the_gateway():
    one, two = request(session="s", kind="pty"), request({"RUN": "x"}, session="s", kind="pty")
    assert one.run != two.run != "x"
    assert one.lifetime == "session"


def test_a_command_at_the_terminal_of_a_client_ends_with_it_unless_a_rule_says_otherwise():
    asked = {"session": "s", "kind": "pty", "of_client": "1"}
    one, two = request(**asked), request(**asked)
    assert one.lifetime == "gateway"
    assert one.run != two.run != ""
    assert request(**asked, lifetime="detached").lifetime == "detached"
    ruled = Request(asked, {}, "sh", lambda *_: {"lifetime": "session"})
    assert ruled.lifetime == "session"


def test_members_that_outlive_the_gateway_do_not_share_its_scope():
    assert request(session="s", lifetime="session").run == "session"
    assert request(session="s", lifetime="detached", run="r").run == "r"


def test_the_greatest_age_of_a_lane_is_not_that_of_what_only_a_stop_ends():
    def durations(**options):
        return Request(
            {"session": "s", **options}, {}, "server", lambda *_: {"ttl": "1h"}
        ).durations

    assert durations() == durations(lifetime="session") == {"ttl": 3_600_000_000}
    assert durations(lifetime="detached") == {}
    assert durations(lifetime="detached", ttl="2h") == {"ttl": 7_200_000_000}


def test_the_name_is_the_commands():
    assert request(session="s", command="/usr/bin/uvx").name == "uvx"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"session": ""}, "session is empty"),
        ({"session": "x" * 4096}, "4096 characters"),
        ({"session": "s", "lane": ""}, "lane is empty"),
        ({"session": "s", "run": ""}, "run is empty"),
        ({"session": "s", "kind": "job"}, "unknown kind 'job'; use mcp, pty or exec"),
        ({"session": "s", "lifetime": "long"}, "unknown lifetime"),
        ({"session": "s", "if_unavailable": "no"}, "unknown if-unavailable"),
        ({"session": "s", "ttl": "-5s"}, "--ttl"),
        ({"session": "s", "memory_max": "-5"}, "--memory-max"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        request(**options)


def test_plain_arguments_are_parsed_without_click():
    assert parse(["-s", "a", "--lane=b", "--replace", "--", "cmd", "-s"]) == (
        {"session": "a", "lane": "b", "replace": "1"},
        ["cmd", "-s"],
    )
    assert parse(["cmd", "--session", "x"]) == ({}, ["cmd", "--session", "x"])


def test_options_that_are_given_again_come_together():
    words = ["--own", "/a", "--require=/c", "--own=/b=", "--own-scope", "cmd"]
    expected = {"own": "/a\0/b=", "require": "/c", "own_scope": "1"}
    assert parse(words) == (expected, ["cmd"])


@pytest.mark.parametrize(
    "arguments", [[], ["--"], ["-s"], ["--what", "x"], ["--help"], ["-sx", "cmd"], ["-s", "x"]]
)
def test_the_rest_is_left_to_click(arguments):
    assert parse(arguments) is None


WORDS = [
    "-s",
    "--lane",
    "--lane=x",
    "--",
    "--replace",
    "cmd",
    "-x",
    "--own",
    "--own=a",
    "--own-scope",
]


@given(st.lists(st.sampled_from(WORDS)))
def test_the_fast_parser_and_click_agree(arguments):
    from scopekeeper.cli.main import group
    from scopekeeper.cli.run import command

    parsed = parse(arguments)
    if parsed is None:
        return
    # click keeps what it makes of the first context for every later one
    context = command.make_context("run", list(arguments), **group.context_settings)
    given_options = {k: v for k, v in context.params.items() if v and k != "command"}
    assert list(context.params["command"]) == parsed[1]
    assert given_options.keys() == parsed[0].keys()
    for name, value in parsed[0].items():
        clicked = given_options[name]
        if isinstance(clicked, tuple):
            clicked = "\0".join(clicked)
        assert clicked is True or clicked == value
