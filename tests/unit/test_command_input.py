"""What a command is given of an event: safe as an argument and a variable, whole as JSON."""

import dataclasses
import json

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from scopekeeper.keeper import notices
from scopekeeper.keeper.command_input import given, message
from scopekeeper.keeper.command_sample import sample
from scopekeeper.keeper.event_commands import concerns
from scopekeeper.policy.command_rules import EVENTS, REASONS, VARIABLES
from scopekeeper.policy.rules import parse


def rule(text):
    (made,) = parse([("/etc/0.toml", text)]).commands
    return made


NOTIFY = rule('[on_end.x]\ncommand = ["notify", "$SCOPEKEEPER_EVENT_MESSAGE", "$HOME", "a b"]')


def end(**changes):
    return notices.MemberEnded(dataclasses.replace(sample(NOTIFY).end, **changes))


def test_a_variable_in_a_word_is_one_argument_and_everything_else_stays():
    made = given(NOTIFY, end(name="a b; $(reboot)"))
    assert made.argv[0] == "notify"
    assert made.argv[1].startswith("a b; $(reboot) of agent:main:main ended: exited")
    assert made.argv[2:] == ("$HOME", "a b")


def test_a_text_does_not_look_like_an_option():
    made = given(NOTIFY, end(name="--exec=reboot"))
    assert made.argv[1].startswith(" --exec=reboot of ")
    assert made.variables["SCOPEKEEPER_EVENT_MEMBER"] == "--exec=reboot"


def test_every_variable_is_there_and_no_marker_of_a_member():
    made = given(NOTIFY, end(exit_status=None, signal=11), dropped=3, is_test=True)
    assert tuple(made.variables) == VARIABLES
    assert made.variables["SCOPEKEEPER_EVENT"] == "MemberEnded"
    assert made.variables["SCOPEKEEPER_EVENT_SIGNAL"] == "SIGSEGV"
    assert made.variables["SCOPEKEEPER_EVENT_EXIT_STATUS"] == ""
    assert made.variables["SCOPEKEEPER_EVENT_DROPPED"] == "3"
    assert made.variables["SCOPEKEEPER_EVENT_TEST"] == "1"
    assert made.variables["SCOPEKEEPER_EVENT_MESSAGE"].startswith("test: ")
    assert not {"SCOPEKEEPER_SCOPE", "SCOPEKEEPER_MEMBER"} & made.variables.keys()


def test_the_json_is_the_event_as_watch_prints_it_without_arguments():
    notice = end(argv=("server", "--token=secret"))
    made = given(NOTIFY, notice, dropped=2)
    assert made.stdin.count(b"\n") == 1
    document = json.loads(made.stdin)
    assert document.items() >= notices.fields(notice).items()
    assert (document["version"], document["rule"], document["dropped"]) == (1, "on_end.x", 2)
    assert b"secret" not in made.stdin + json.dumps([made.argv, made.variables]).encode()


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x1b\n\0\u202e\udc80\udcff\ud800")
)


@for_all(name=TEXTS, session=TEXTS, evidence=TEXTS)
def test_whatever_a_name_has_it_is_one_printable_line(name, session, evidence):
    made = given(NOTIFY, end(name=name, session=session, evidence=evidence))
    for text in (*made.argv, *made.variables.values()):
        assert len(text) <= 1001
        assert not {"\n", "\r", "\x1b", "\0", "\u202e"} & set(text)
        text.encode()
    json.loads(made.stdin.decode("utf-8"))


def test_what_is_endless_is_cut():
    made = given(NOTIFY, end(evidence="x" * 100_000))
    assert made.variables["SCOPEKEEPER_EVENT_EVIDENCE"] == "x" * 999 + "…"
    assert len(made.stdin) < 100_000


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_has_a_sentence_and_a_sample_that_its_rule_is_for(event):
    asked = rule(f'[on_event.x]\nevents = "{event}"\ncommand = ["a"]\nlanes = "cron"')
    notice = sample(asked)
    assert type(notice).__name__ == event
    assert concerns(asked, notice)
    assert message(notice).startswith("example of ") or "agent:main:main" in message(notice)
    assert json.loads(given(asked, notice).stdin)["event"] == event
    others = [each for each in EVENTS if each != event]
    assert not concerns(rule(f'[on_event.x]\nevents = {others}\ncommand = ["a"]'), notice)
    assert not concerns(NOTIFY, notice)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_a_sample_that_its_rule_is_for(reason):
    asked = rule(f'[on_end.x]\nreasons = "{reason}"\ncommand = ["a"]')
    notice = sample(asked)
    assert concerns(asked, notice)
    assert concerns(NOTIFY, notice) is (reason != "continued"), "of a member that went on"
    other = rule('[on_event.x]\nevents = ["OrphanFound"]\ncommand = ["a"]')
    assert not concerns(other, notice)


def test_failed_is_an_exit_with_another_status_than_0():
    asked = rule('[on_end.x]\nreasons = "failed"\ncommand = ["a"]')
    assert concerns(asked, end(exit_status=1))
    assert not concerns(asked, end(exit_status=0))
    assert not concerns(asked, end(exit_status=None))


def test_a_lane_and_a_kind_narrow_it_down():
    asked = rule('[on_end.x]\nlanes = ["cron"]\nkinds = ["mcp"]\ncommand = ["a"]')
    assert concerns(asked, end(lane="cron:7", kind="mcp"))
    assert not concerns(asked, end(lane="main", kind="mcp"))
    assert not concerns(asked, end(lane="cron", kind="exec"))


def test_what_a_command_itself_starts_and_the_trial_of_doctor_are_no_ends_to_report():
    assert not concerns(NOTIFY, end(owner="scopekeeper-event-x-0123abcd.service"))
    assert not concerns(NOTIFY, end(session="scopekeeper", lane="doctor"))
