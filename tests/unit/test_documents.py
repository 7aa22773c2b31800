"""Man pages and completions say what the commands do, and the shells take them."""

import os
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.cli import documents
from scopekeeper.cli.bash import completed, last_word
from scopekeeper.cli.main import group
from tests.machine import PROGRAM
from tests.terminal import Terminal

BASH = "bash-completion/completions/scopekeeper"
ZSH = "zsh/site-functions/_scopekeeper"
FISH = "fish/vendor_completions.d/scopekeeper.fish"


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def share(tmp_path_factory):
    """A folder with all of them, written by another process."""
    folder = tmp_path_factory.mktemp("share")
    assert (
        subprocess.run([sys.executable, "-m", "scopekeeper.cli.documents", folder]).returncode == 0
    )
    return folder


def commands(context):
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            each = context.command.get_command(context, name)
            yield from commands(click.Context(each, info_name=name, parent=context))


# click keeps what it makes of a context for the next one: this has to be what main() has
ALL = list(commands(click.Context(group, info_name="scopekeeper", **group.context_settings)))


def rendered(page):
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-ww", "-rLL=500n", page],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@needs("groff")
@pytest.mark.parametrize("context", ALL, ids=lambda each: each.command_path)
def test_a_page_has_all_that_help_has(share, context):
    text = rendered(share / "man/man1" / f"{context.command_path.replace(' ', '-')}.1")
    lines = [line.strip() for line in text.splitlines()]
    for option in context.command.get_params(context):
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record:
            assert any(line.startswith(record[0]) for line in lines), record
            assert " ".join(record[1].split()).replace("`", "") in " ".join(text.split())
    first = context.command.help.split("\n\n")[0].rstrip(".").replace("`", "")
    summary = text.split("NAME")[1].split("SYNOPSIS")[0]
    assert " ".join(first.split())[1:] in " ".join(summary.split())
    for below in commands(context):
        if below.parent is context:
            assert f"{below.command_path.replace(' ', '-')}(1)" in text


@needs("groff")
def test_the_pages_of_the_other_programs_are_there_and_nothing_else_is(share):
    assert "$SCOPEKEEPER_SHELL" in rendered(share / "man/man1/scopekeeper-shell.1")
    assert "$CLAUDE_CODE_SHELL_PREFIX" in rendered(share / "man/man1/scopekeeper-prefix.1")
    pages = {f"{each.command_path.replace(' ', '-')}.1" for each in ALL}
    pages |= {"scopekeeper-shell.1", "scopekeeper-prefix.1"}
    assert set(os.listdir(share / "man/man1")) == pages
    assert {each for each in documents.texts() if not each.startswith("man/")} == {BASH, ZSH, FISH}


def test_bash_completes_what_is_typed(share, tmp_path):
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], environment={"HOME": "/nowhere"})
    try:
        terminal.expect(r"\$ ")
        terminal.type(f"bind 'set bell-style none'; . {share / BASH}\n")
        terminal.expect(r"\$ $")
        terminal.type("scopekeeper stop --mus\t")
        terminal.expect("--must-exist ")
        terminal.type("\x15scopekeeper openclaw uninst\t")
        terminal.expect("uninstall ")
        (tmp_path / "only one").touch()
        terminal.type(f"\x15scopekeeper disown {tmp_path}/on\t")
        terminal.expect(r"only\\ one ")
    finally:
        terminal.end()


@needs("fish")
def test_fish_completes_what_is_typed(share):
    asked = f"source {share / FISH}; complete -C 'scopekeeper stop --mus'"
    environment = {**os.environ, "PATH": f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"}
    done = subprocess.run(["fish", "-N", "-c", asked], capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.stdout.split("\t")[0].strip() == "--must-exist", done.stderr


@needs("zsh")
def test_zsh_completes_what_is_typed(share):
    terminal = Terminal(["zsh", "-f", "-i"])
    try:
        terminal.type(f"fpath=({share / ZSH}(:h) $fpath); autoload -U compinit; compinit -u -D; "
                      "PS1=rea''dy'> '\n")  # fmt: skip
        terminal.expect("ready> ")
        terminal.type("scopekeeper stop --mus\t")
        terminal.expect("--must-exist")
    finally:
        terminal.end()


VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(str.isprintable), min_size=1
)


def the_rest(begun, value):
    """Return what the line has for the word when bash has put the answer in."""
    found = completed(begun, value)
    if begun[:1] in ("'", '"'):
        return begun[0] + found + begun[0] if found else ""
    at = max(begun.rfind(each) for each in ":=") + 1
    return begun[:at] + found


@given(VALUES, st.integers(0, 20), st.sampled_from(["", "--session="]))
@example("agent:a b", 7, "")
@example("x$(reboot)", 0, "")
def test_what_bash_has_then_is_the_value(value, typed, option):
    begun = value[:typed]
    if shlex.quote(begun) != begun and begun:
        begun = ""
    line = the_rest(option + begun, value)
    assert shlex.split(line) == [option + value]


@given(VALUES, st.integers(0, 20), st.sampled_from("'\""))
def test_in_quotes_only_what_is_literal_there_is_offered(value, typed, quote):
    line = the_rest(quote + value[:typed], value)
    unsafe = "'" if quote == "'" else '$`"\\!'
    assert line == ("" if set(value) & set(unsafe) else quote + value + quote)


@given(st.lists(VALUES, max_size=4), VALUES)
def test_the_last_word_is_found_whatever_is_quoted(before, last):
    line = " ".join(map(shlex.quote, before)) + " "
    assert last_word(line) == ""
    assert last_word(line + shlex.quote(last)) == shlex.quote(last)
    assert last_word(line + "'" + last.replace("'", "")) == "'" + last.replace("'", "")
