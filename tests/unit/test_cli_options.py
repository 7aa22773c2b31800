"""What a wrong option is answered: what to write instead, and the help of that command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from test_cli_help import ALL, call, command_of
from test_given_once import ONE_VALUE

from scopekeeper.cli import option_errors
from scopekeeper.cli.main import group
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.scope.reason import Reason


def answer(*words):
    """Return the line that a call with a wrong option gets."""
    with pytest.raises(click.UsageError) as caught:
        group.main(list(words), prog_name="scopekeeper", standalone_mode=False)
    return option_errors.text_of(caught.value)


@pytest.mark.parametrize(
    ("words", "option"), ONE_VALUE, ids=[f"{' '.join(w)} {o.opts[-1]}" for w, o in ONE_VALUE]
)
def test_an_option_without_its_argument_shows_how_it_is_written_and_the_help_of_its_command(
    words, option
):
    for name in option.opts:
        line = answer(*words, name)
        assert line.startswith(f"Option {name!r} requires an argument: {name} ")
        assert line.endswith(f"; see `{' '.join(('scopekeeper', *words))} --help`")
        value = line.partition(f"argument: {name} ")[2].partition(";")[0]
        help_ = CliRunner().invoke(group, [*words, "--help"], prog_name="scopekeeper").output
        assert value.strip("[]") in help_, "as the help writes it"


def test_of_a_group_in_a_group_it_is_the_help_of_the_innermost():
    assert answer("openclaw", "install", "--home").endswith("`scopekeeper openclaw install --help`")
    assert answer("ls", "--json=x").endswith("; see `scopekeeper ls --help`")
    assert answer("openclaw", "--xyzzy").endswith("; see `scopekeeper openclaw --help`")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-v", "Did you mean '--version'?"),
        ("ls -v", "Did you mean '--members'?"),
        ("ls --follow", "`scopekeeper watch`"),
        ("history --tail 5", "Did you mean '--limit'?"),
        ("history -f", "`scopekeeper watch`"),
        ("logs -f", "`scopekeeper ls -a` lists runs"),
        ("logs --tail 5 x", "Did you mean '--lines'?"),
        ("stop --force x", "`--grace 0s` kills at once"),
        ("stop -f x", "`--grace 0s` kills at once"),
        ("stop -9 x", "`--grace 0s` kills at once"),
        ("stop -KILL x", "`--grace 0s` kills at once"),
        ("stop --all", "`--state running`"),
        ("stop -v x", "Did you mean '--json'?"),
        ("stop -q x", "`>/dev/null`"),
        ("reconcile --force", "it asks no questions"),
        ("reconcile --all", "`--all-users`"),
        ("adopt -f", "Did you mean '--force'?"),
        ("watch -n 5", "prints each event when it happens"),
        ("wait -t 5 x", "Did you mean '--timeout'?"),
        ("attach -r x", "Did you mean '--read-only'?"),
        ("exec -it -- bash", "has a terminal"),
        ("run -d -- true", "`scopekeeper exec -d`"),
        ("wrap -n", "Did you mean '--dry-run'?"),
    ],
)
def test_an_option_of_another_tool_is_answered_with_the_one_here(words, said):
    line = answer(*words.split(" "))
    assert said in line
    assert line.endswith(" --help`")


def test_the_number_of_lines_is_given_as_to_tail_and_journalctl():
    assert call("history", "-n", "1").returncode == 0
    assert "-n, --limit N" in call("history", "--help").stdout


def options_of(words):
    context, _ = command_of(words)
    return {option for each in context.command.get_params(context) for option in each.opts}


def test_what_is_suggested_exists_and_what_exists_is_not_answered():
    names = {" ".join(words) for words, _ in ALL}
    for command, answers in option_errors._FOREIGN.items():
        assert command in names
        words = command.split()
        known = options_of(words)
        assert not known & answers.keys(), command
        for text in answers.values():
            found = [text] if text.startswith("-") else re.findall("`(-[^ `]+)", text)
            assert {*found} <= known, (command, text)
    for text in (*option_errors._CLAUSES.values(), *(
        text for answers in option_errors._FOREIGN.values() for text in answers.values()
    )):  # fmt: skip
        for call_ in re.findall("`scopekeeper ([^`]+)`", text):
            name, *options = call_.split()
            assert {*options} <= options_of([name]), call_


def test_it_is_one_line_on_standard_error_with_the_status_of_wrong_usage():
    for words, status in ((("stop", "-s"), 2), (("run", "-s"), 125), (("stop", "-9", "x"), 2)):
        done = subprocess.run(
            [sys.executable, "-m", "scopekeeper", *words], capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)


@pytest.mark.parametrize("words", [
    "stop|", "ls|", "ps|", "ports|", "label|--as|x|", "adopt|", "ls|-l|", "wait|",
])  # fmt: skip
def test_a_word_that_is_empty_is_refused(words, tmp_path):
    """As that of a variable that is not set: wait "$RUN" took some run that had ended."""
    state = {"PATH": os.environ["PATH"], "SCOPEKEEPER_STATE": str(tmp_path / "state")}
    (tmp_path / "state").mkdir(mode=0o700)
    end = End("0123abcd", 1, 2, "s", "main", "time", Reason.EXITED, exit_status=3)
    HistoryStore(tmp_path / "state").write([end])
    done = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *words.split("|")],
        capture_output=True, text=True, env=state,
    )  # fmt: skip
    assert done.returncode == (4 if words == "wait|" else 2), done.stderr
    assert "empty" in done.stderr or "there is no run ''" in done.stderr


@pytest.mark.parametrize("words", ["history -n x", "why a --limit 0", "ports --port 70000"])
def test_a_number_that_is_wrong_is_said_to_be_no_whole_number(words):
    assert "whole number" in answer(*words.split()) or " in the range " in answer(*words.split())
    assert "integer range" not in answer(*words.split())


def test_a_file_for_metrics_without_a_name_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "metrics", "--textfile", ""],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True,
        text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "scopekeeper: --textfile is empty; give the path of a file\n"
    assert not os.listdir(tmp_path)
