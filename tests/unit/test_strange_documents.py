"""Files of clients with every line end, blank and mark anywhere: refused, or undone to the byte.

The text alone, and the file that `wrap` and `unwrap` find on the disk.
"""

import contextlib
import os
import re
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from scopekeeper.cli.unwrap import command as unwrap_command
from scopekeeper.cli.wrap import command as wrap_command
from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs.document import ParseError
from scopekeeper.mcp_configs.hooks import register, unregister
from scopekeeper.mcp_configs.wrap import Launcher, Selection, unwrap, wrap
from tests.configs import json_configs, toml_configs, yaml_configs
from tests.hook_configs import json_settings, toml_settings, yaml_settings

ALL = Selection()
LAUNCHER = Launcher("scopekeeper", "/opt/sk/bin/scopekeeper", ("--memory-max", "2G"))
STRANGE = ("\r", "\n", "\r\n", "\t", "\v", "\f", "\0", "\x1b", "\x7f", "\x85", "\xa0", "\ufeff",
           "\u2028", "\u2029", "\u202e", "\ud800", "  \n", "\n\n\n", "\n\t")  # fmt: skip
LINE_END = re.compile("\r\n|\r|\n")
SERVERS = json_configs() | toml_configs() | yaml_configs()
HOOKS = json_settings() | toml_settings() | yaml_settings()


@st.composite
def strange(draw, documents):
    """Return a format and a text whose line ends are mixed, with strange characters anywhere."""
    kind, text, _ = draw(documents)
    ends = draw(st.sampled_from([None, ("\n",), ("\r\n", "\n"), ("\r\n", "\n", "\r")]))
    if ends:
        text = LINE_END.sub(lambda _: draw(st.sampled_from(ends)), text)
    for piece in draw(st.lists(st.sampled_from(STRANGE), max_size=3)):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + piece + text[at:]
    return kind, text


@given(strange(SERVERS))
def test_servers_of_any_text_are_undone_to_the_byte(document):
    kind, text = document
    with contextlib.suppress(ParseError, ConfigError):
        wrapped = wrap(text, kind, LAUNCHER, ALL).text
        assert unwrap(wrapped, kind, ALL).text == text
        assert wrap(wrapped, kind, LAUNCHER, ALL).text == wrapped


@given(strange(HOOKS))
def test_hooks_in_any_text_are_undone_to_the_byte(document):
    kind, text = document
    with contextlib.suppress(ParseError, ConfigError):
        registered = register(text, kind, "/opt/scopekeeper").text
        assert unregister(registered, kind).text == text
        assert register(registered, kind, "/opt/scopekeeper").text == registered


@given(SERVERS.map(lambda each: each[:2]), st.text(max_size=40), st.integers(0))
def test_whatever_text_is_put_into_it_is_refused_or_undone(document, piece, at):
    kind, text = document
    at %= len(text) + 1
    text = text[:at] + piece + text[at:]
    with contextlib.suppress(ParseError, ConfigError):
        assert unwrap(wrap(text, kind, LAUNCHER, ALL).text, kind, ALL).text == text


@st.composite
def files(draw):
    """Return the name of a client and bytes of a file of it, or of none."""
    kind, text = draw(strange(SERVERS))
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32"])),
                       "surrogatepass")  # fmt: skip
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at:]
    return kind, data


@pytest.fixture(scope="module")
def home():
    """Give a folder for all examples, with a state of its own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOPEKEEPER_STATE", f"{folder}/state")
        patch.setenv("HOME", folder)
        program = Path(folder, "scopekeeper")
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        yield Path(folder)


@settings(max_examples=40)
@given(files())
def test_a_file_has_the_same_bytes_afterwards_and_nobody_sees_a_traceback(home, file):
    kind, data = file
    suffix = {"codex": ".toml"}.get(kind.name, ".yaml" if kind.name in YAMLS else ".json")
    path = home / f"config{suffix}"
    path.write_bytes(data)
    before = os.stat(path).st_mode
    options = [str(path), "--format", kind.name]
    for command, words in ((wrap_command, ["--program", f"{home}/scopekeeper"]),
                           (unwrap_command, [])):  # fmt: skip
        done = CliRunner().invoke(command, [*options, *words])
        error = done.exception
        assert error is None or isinstance(error, SystemExit | ConfigError | ParseError), error
    assert path.read_bytes() == data
    assert os.stat(path).st_mode == before


YAMLS = ("hermes", "goose", "continue")
