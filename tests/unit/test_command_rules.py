"""Commands for ends and events come out of files as they were meant, or a line says why not."""

import pytest

from scopekeeper.policy.command_rules import EVENTS, VARIABLES, variable_of
from scopekeeper.policy.rules import parse
from scopekeeper.policy.toml_file import PolicyError

PATH = "/etc/0.toml"


def commands(*texts):
    return parse([(f"/etc/{number}.toml", text) for number, text in enumerate(texts)]).commands


def test_a_command_has_what_its_table_says_and_bounds_of_its_own():
    (rule,) = commands(
        "[on_end.mail]\n"
        'reasons = ["oom-killed", "no output", "owner-gone", "failed"]\n'
        'lanes = "cron"\nkinds = ["mcp"]\n'
        'timeout = "1m"\nmemory_max = "64M"\nrate = 5\n'
        'command = ["mail", "-s", "$SCOPEKEEPER_EVENT_MESSAGE", "root"]'
    )
    assert (rule.title, rule.source) == ("on_end.mail", f"{PATH}:8")
    assert rule.reasons == {"oom-killed", "no output", "owner gone", "failed"}
    assert (rule.lanes, rule.kinds) == ({"cron"}, {"mcp"})
    assert (rule.timeout, rule.memory_max, rule.rate) == (60_000_000, 64 << 20, 5)
    assert rule.argv == ("mail", "-s", "$SCOPEKEEPER_EVENT_MESSAGE", "root")
    (plain,) = commands('[on_event.x]\nevents = ["OrphanFound"]\ncommand = ["true"]')
    assert (plain.timeout, plain.memory_max, plain.rate) == (30_000_000, 256 << 20, 30)
    assert plain.enabled
    assert not plain.watches_memory


def test_later_files_override_single_settings_and_names_of_both_tables_are_apart():
    first = '[on_end.a]\ncommand = ["true"]\nrate = 5\n[on_event.a]\nevents = "OrphanFound"\n'
    found = commands(first + 'command = ["false"]', "[on_end.a]\nenabled = false\nrate = 6")
    assert [(x.title, x.words, x.enabled, x.rate) for x in found] == [
        ("on_end.a", ("true",), False, 6), ("on_event.a", ("false",), True, 30)
    ]  # fmt: skip
    assert found[0].source == f"{PATH}:2"


def test_a_shell_is_used_only_if_it_is_asked_for():
    (rule,) = commands("[on_end.x]\nshell = true\ncommand = 'echo \"$SCOPEKEEPER_EVENT_REASON\"'")
    assert rule.argv == ("/bin/sh", "-c", 'echo "$SCOPEKEEPER_EVENT_REASON"')


def test_the_shares_of_memory_that_somebody_asks_about_are_known():
    memory = '[on_event.{}]\nevents = ["MemoryHigh"]\ncommand = ["true"]\n'
    made = parse([(PATH, memory.format("a") + 'memory_share = "80%"\n' + memory.format("b"))])
    assert made.memory_shares == {0.8, 0.9}
    off = parse([(PATH, memory.format("a") + "enabled = false")])
    assert off.memory_shares == frozenset()


@pytest.mark.parametrize("word", ["$SCOPEKEEPER_EVENT", "${SCOPEKEEPER_EVENT_REASON}"])
def test_a_whole_word_can_be_a_variable(word):
    assert variable_of(word) in VARIABLES
    assert variable_of(f"{word}.") == ""
    assert variable_of("$HOME") == ""


def wrong(*lines, table="[on_end.x]"):
    return "\n".join((table, *lines))


@pytest.mark.parametrize(("text", "problem"), [
    ("on_end = 1", "1: write [on_end.NAME]"),
    ('[on_end]\ncommand = ["a"]', "2: command is in no table with a name; write [on_end.NAME]"),
    ('[[on_end.x]]\ncommand = ["a"]', "1: x is in no table with a name; write [on_end.NAME]"),
    ("[on_ends.x]", "1: unknown table on_ends; write [on_end.NAME]"),
    ('[on_end."a b"]\ncommand = ["a"]',
     "1: 'a b' is no name: up to 40 letters, digits, - and _"),
    ("[on_end.x]", "1: on_end.x has no command"),
    (wrong("rate = 1"), "2: on_end.x has no command"),
    (wrong("command = []"), "2: command is empty"),
    (wrong('command = ["", "a"]'), "2: command is empty"),
    (wrong("command = [1]"), '2: command is a list of words, as ["mail", "root"]'),
    (wrong('command = "true"'),
     '2: command is a list of words, as ["mail", "root"]; shell = true takes a text'),
    (wrong("shell = true", 'command = ["a"]'),
     "3: with shell = true, command is one text in quotes, which the shell reads"),
    (wrong('command = ["bin/a"]'), "2: command: 'bin/a' has a relative path; give its whole path"),
    (wrong('command = ["a\\u0000"]'), "2: command has a character that no argument can have"),
    (wrong(f'command = ["{"a" * 5000}"]'),
     "2: command is too long: 64 words of 4096 characters"),
    (wrong('comand = ["a"]'), "2: unknown setting comand; did you mean command?"),
    (wrong('events = "OrphanFound"'), "2: events is a setting of [on_event.NAME]"),
    (wrong('reasons = "ttl"', table="[on_event.x]"), "2: reasons is a setting of [on_end.NAME]"),
    (wrong('reasons = "oom-kiled"'),
     "2: reasons: 'oom-kiled' is none of them; did you mean 'oom-killed'?"),
    (wrong("reasons = []"), "2: reasons is a list of texts in quotes"),
    (wrong('events = ["orphan"]', table="[on_event.x]"),
     f"2: events: 'orphan' is none of them; write {', '.join(EVENTS)}"),
    (wrong('command = ["a"]', table="[on_event.x]"),
     f"2: on_event.x has no events: {', '.join(EVENTS)}"),
    (wrong('events = "OrphanFound"', 'memory_share = "50%"', 'command = ["a"]',
           table="[on_event.x]"), "3: memory_share is only for the event MemoryHigh"),
    (wrong("memory_share = 80", table="[on_event.x]"),
     '2: memory_share is a text from "1%" to "100%"'),
    (wrong('memory_share = "101%"', table="[on_event.x]"),
     '2: memory_share is a text from "1%" to "100%"'),
    (wrong('lanes = ["cron:1"]'),
     "2: lanes: 'cron:1' is no lane class; a lane's class ends at :"),
    (wrong('kinds = ["mpc"]'), "2: kinds: 'mpc' is none of them; did you mean 'mcp'?"),
    (wrong("shell = 1"), "2: shell is true or false"),
    (wrong("rate = 0"), "2: rate is a whole number of starts a minute, from 1 to 600"),
    (wrong("rate = true"), "2: rate is a whole number of starts a minute, from 1 to 600"),
    (wrong('timeout = "11m"'), "2: timeout is above zero, and 10m at most"),
    (wrong('timeout = "infinity"'),
     "2: timeout: 'infinity' is not a duration; write 90s, 15m or 2h"),
    (wrong('memory_max = "infinity"'),
     "2: memory_max: 'infinity' is not a size; write 512M or 2G"),
])  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_place(text, problem):
    with pytest.raises(PolicyError) as error:
        commands(text)
    assert str(error.value) == f"{PATH}:{problem}"


@pytest.mark.parametrize(("words", "problem"), [
    (["a", "x$SCOPEKEEPER_EVENT_REASON"], "a variable is a word of its own"),
    (["a", "--text=${SCOPEKEEPER_EVENT_MESSAGE}"], "a variable is a word of its own"),
    (["a", "$SCOPEKEEPER_EVENT_MESAGE"], "did you mean $SCOPEKEEPER_EVENT_MESSAGE?"),
    (["sh", "-c", "$SCOPEKEEPER_EVENT_MESSAGE"], "sh may execute the text"),
    (["/bin/bash", "-c", "echo $0", "$SCOPEKEEPER_EVENT_MESSAGE"], "bash may execute the text"),
    (["nice", "python3.11", "$SCOPEKEEPER_EVENT_MESSAGE"], "python3.11 may execute the text"),
    (["ssh", "host", "logger", "$SCOPEKEEPER_EVENT_MESSAGE"], "ssh may execute the text"),
    (["env", "x", "${SCOPEKEEPER_EVENT_MESSAGE}"], "env may execute the text"),
])  # fmt: skip
def test_a_text_of_others_is_no_part_of_what_is_executed(words, problem):
    with pytest.raises(PolicyError) as error:
        commands(f"[on_end.x]\ncommand = {words!r}")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_without_such_a_variable_a_command_may_be_any():
    (rule,) = commands('[on_end.x]\ncommand = ["sh", "-c", "echo $HOME"]')
    assert rule.words == ("sh", "-c", "echo $HOME")
