"""Policies of any shape and any bytes: they are valid, or one line says what is wrong and where."""

import json
import math
import re
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.cli.policy import command
from scopekeeper.errors import ScopekeeperError
from scopekeeper.policy import compile_cache
from scopekeeper.policy.rules import Policy, parse
from scopekeeper.policy.toml_file import PolicyError

ROOT = Path(__file__).parents[2]
RULES = list(Policy().settings("x"))
OF_COMMANDS = ("command", "shell", "events", "lanes", "kinds", "enabled", "timeout", "stdin",
               "sessions", "reasons", "memory_share", "environment", "x")  # fmt: skip
TEXTS = st.sampled_from(
    ["", "stop", "5s", "1G", "infinity", "90%", "-1s", "\u0665s", "9" * 400, "a\nb", "\x1b[2J",
     "\u202e", "x" * 3000, "/bin/true", "mcp", "member-ended", "*", "../..", "%s"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # fmt: skip
SCALARS = st.one_of(
    TEXTS, st.booleans(), st.integers(), st.integers(-5, 200), st.floats(),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)), st.just(date(2026, 1, 1)), st.just(time(1, 2)),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
LANES = st.sampled_from(["default", "cron", "main", "a b", "", "x:y", "\x1b[2J", "é"])
KEYS = st.sampled_from([*RULES, "no_such_rule", "mcp", "exec", "pty"])
TABLES = st.one_of(
    st.tuples(st.just("lanes"), LANES),
    st.tuples(st.just("lanes"), LANES, st.sampled_from(["mcp", "exec", "pty", "other"])),
    st.tuples(st.just("servers"), LANES),
    st.tuples(st.sampled_from(["on_end", "on_event"]), LANES),
    st.tuples(st.sampled_from(["lanes", "servers", "on_end", "no_such_table"])),
)
POLICIES = st.dictionaries(
    TABLES, st.dictionaries(KEYS | st.sampled_from(OF_COMMANDS), VALUES, max_size=4), max_size=4
)


def toml(value):
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else quoted(value)
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else str(value).replace("nan", "nan")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(key)} = {toml(each)}' for key, each in value.items())}}}"
    return value.isoformat() if isinstance(value, date | time) else str(value)


def quoted(text):
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def written(tables):
    lines = []
    for names, values in tables.items():
        lines.append(f"[{'.'.join(map(quoted, names))}]")
        lines += [f"{key} = {toml(value)}" for key, value in values.items()]
    return "\n".join(lines)


@given(POLICIES)
def test_any_values_anywhere_are_a_policy_that_can_be_used_or_one_line(tables):
    policy, problem = Policy(), "/etc/0.toml:1: "
    try:
        policy = parse([("/etc/0.toml", written(tables))])
    except PolicyError as error:
        problem = str(error)
    assert re.match(r"/etc/0\.toml:\d+: ", problem)
    assert "\n" not in problem
    for line in compile_cache.lines(policy):
        assert "\n" not in line
    for lane in ("main", "cron", "x"):
        for kind in ("", "mcp", "exec", "pty"):
            policy.rules(lane, kind)


SAMPLES = [each.partition("```")[0] for each in
           re.split("```toml\n", (ROOT / "docs" / "policy.md").read_text())[1:]]  # fmt: skip


@st.composite
def damaged(draw):
    """Return the bytes of a true policy with some of them changed."""
    data = bytearray(draw(st.sampled_from(SAMPLES)).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\r", b"\xef\xbb\xbf", b"\0", b"[", b"=\n"])
        )
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give the folder of the rules of this user, for all examples."""
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("rules")
        patch.setenv("SCOPEKEEPER_CONFIG", str(made))
        yield made


@given(damaged() | st.binary(max_size=60))
def test_any_bytes_are_read_by_every_command_without_a_traceback(folder, data):
    file = folder / "config.toml"
    file.write_bytes(data)
    for words in (["check", str(file)], ["check"], ["show", "cron"], ["show", "--json"],
                  ["test", "desktop", "--dry-run"]):  # fmt: skip
        done = CliRunner().invoke(command, words)
        error = done.exception
        assert error is None or isinstance(error, SystemExit | ScopekeeperError), (words, error)
        text = done.output + (str(error) if isinstance(error, ScopekeeperError) else "")
        assert "\x1b" not in text, text
        assert "Traceback" not in text
