"""What ``policy`` prints of a lane that is known or not, and of the commands for events."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def show(tmp_path):
    """Call it with rules for one lane, and for one kind of another."""
    (tmp_path / "config.toml").write_text(
        '[lanes.nightly]\ngrace = "9s"\n[lanes.weekly.mcp]\norphans = "report"\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCOPEKEEPER_CONFIG": str(tmp_path)}

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "scopekeeper", "policy", "show", *words], env=environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return call


@pytest.mark.parametrize("lane", ["nightly", "weekly", "nightly:x", "main", "cron", "default", ""])
def test_a_lane_that_a_file_or_a_built_in_rule_names_is_shown_without_a_note(show, lane):
    done = show(*filter(None, [lane]))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(show(*filter(None, [lane]), "--json").stdout)["mentioned"] is True


def test_durations_are_shown_as_a_file_has_them(show):
    printed = show("nightly").stdout
    rows = {line.split()[0]: line.split()[1] for line in printed.splitlines()}
    wanted = {"grace": "9s", "orphan_grace": "0s", "session_grace": "1d", "wait_most": "8s"}
    assert {key: rows[key] for key in wanted} == wanted
    assert ".0s" not in printed
    assert show("main").stdout.count(" 5s ") == 1, "the grace that no file sets"


def test_a_lane_that_nothing_mentions_is_noted(show):
    done = show("nigthly")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "no file and no scope mentions the lane 'nigthly'" in done.stderr
    assert done.stdout == show("default").stdout
    assert json.loads(show("nigthly", "--json").stdout)["mentioned"] is False


COMMANDS = """
[on_end.hook]
reasons = ["oom-killed", "failed"]
command = ["true", "a b", "$SCOPEKEEPER_EVENT_MESSAGE"]
[on_event.near]
events = ["MemoryHigh"]
memory_share = "80%"
lanes = ["cron"]
shell = true
command = "echo near"
[on_end.off]
enabled = false
command = ["no-such-program"]
"""


@pytest.fixture
def policy(tmp_path):
    """Call ``policy`` with these commands."""
    (tmp_path / "config.toml").write_text(COMMANDS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCOPEKEEPER_CONFIG": str(tmp_path)}

    def call(*words, text=None):
        if text is not None:
            (tmp_path / "config.toml").write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "scopekeeper", "policy", *words], env=environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    call.file = tmp_path / "config.toml"
    return call


def test_the_commands_of_a_lane_are_shown_with_where_they_are_from(policy):
    done = policy("show", "cron")
    header, *rows = [line for line in done.stdout.split("\n\n")[1].splitlines() if line]
    assert header.split() == ["COMMAND", "FOR", "RUNS", "FROM"]
    assert [" ".join(row.split()) for row in rows] == [
        f"on_end.hook failed, oom-killed true 'a b' '$SCOPEKEEPER_EVENT_MESSAGE' {policy.file}:4",
        f"on_end.off nothing: it is not enabled no-such-program {policy.file}:13",
        f"on_event.near MemoryHigh 80%; lane cron echo near {policy.file}:10",
    ]
    assert "on_event.near" not in policy("show", "main").stdout
    (hook, _) = json.loads(policy("show", "main", "--json").stdout)["commands"]
    assert (hook["title"], hook["reasons"], hook["timeout_s"]) == (
        "on_end.hook", ["failed", "oom-killed"], 30.0
    )  # fmt: skip


def test_a_check_names_what_is_missing_and_what_is_wrong_in_one_line(policy):
    done = policy("check")
    assert done.returncode == 0
    assert (done.stdout, done.stderr) == ("The policy is valid: 0 rules, 3 commands.\n", "")
    done = policy("check", text=COMMANDS.replace("enabled = false", ""))
    assert done.returncode == 0
    missing = "there is no program no-such-program in PATH; give its whole path"
    assert done.stderr == f"scopekeeper: warning: {policy.file}:13: {missing}\n"
    wrong = policy("check", text='[on_end.x]\nreasons = ["ttl"]\ncommand = "true"')
    assert (wrong.returncode, wrong.stdout) == (1, "")
    problem = 'command is a list of words, as ["mail", "root"]; shell = true takes a text'
    assert wrong.stderr == f"scopekeeper: {policy.file}:3: {problem}\n"


def test_a_dry_run_prints_what_a_command_is_given_and_starts_nothing(policy):
    done = policy("test", "near", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    argv, *variables, document = done.stdout.splitlines()
    assert argv == "/bin/sh -c 'echo near'"
    assert variables[0] == "SCOPEKEEPER_EVENT=MemoryHigh"
    assert json.loads(document)["limit_bytes"] == 4 << 30
    found = json.loads(policy("test", "near", "--dry-run", "--json").stdout)
    assert found["argv"] == ["/bin/sh", "-c", "echo near"]
    assert len(found["variables"]) == len(variables)


def test_a_name_that_no_table_has_or_two_have_is_one_line(policy):
    unknown = policy("test", "other")
    assert unknown.returncode == 4
    assert unknown.stderr.count("\n") == 1
    twice = COMMANDS.replace("on_event.near", "on_event.hook")
    done = policy("test", "hook", text=twice)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "scopekeeper: hook is on_end.hook and on_event.hook\n"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("tasks_max = true", "tasks_max is a whole number"),
        ("cpu_weight = []", "cpu_weight is a whole number"),
        ("ttl = true", "ttl is a text in quotes"),
        ('ttl = "x"', "ttl: 'x' is not a duration; write 90s, 15m or 2h"),
        ('tasks_max = "-1"', "tasks_max: '-1' is not a whole number above zero"),
        ('memory_max = "99999999999999G"',
         "memory_max: '99999999999999G' is too large; leave it out for no limit"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_the_key_as_it_is_written(policy, rule, problem):
    done = policy("check", text=f"[lanes.default]\n{rule}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"scopekeeper: {policy.file}:2: {problem}\n"


def test_a_duration_is_shown_in_full(policy):
    shown = policy("show", "main", text='[lanes.main]\nttl = "90m30s"\n').stdout
    rows = {line.split()[0]: line.split()[1] for line in shown.splitlines()}
    assert (rows["ttl"], rows["grace"], rows["wait_most"]) == ("1h30m30s", "5s", "8s")
