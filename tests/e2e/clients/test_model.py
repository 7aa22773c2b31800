"""The model and the installation of clients, where no client is needed."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import eventually

from . import plugin
from .counting import Left, Table
from .known import CLIENTS
from .model import Model

SCRIPT = 'call: ping {"x": 1}\nsay: done'
ANTHROPIC = "/v1/messages"
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
GEMINI = "/v1beta/models/any:generateContent"
GEMINI_STREAMED = "/v1beta/models/any:streamGenerateContent"


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def ask(model: Model, path: str, body: dict[str, Any], *, stream: bool = False) -> str:
    """Return the whole answer of the model."""
    if path == GEMINI:
        path = GEMINI_STREAMED if stream else GEMINI
    elif stream:
        body = body | {"stream": True}
    request = urllib.request.Request(model.origin + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


FIRST: dict[str, dict[str, Any]] = {
    ANTHROPIC: {
        "tools": [{"name": "ping"}],
        "messages": [{"role": "user", "content": SCRIPT}],
    },
    CHAT: {
        "tools": [{"type": "function", "function": {"name": "ping"}}],
        "messages": [{"role": "user", "content": SCRIPT}],
    },
    RESPONSES: {
        "tools": [{"type": "function", "name": "ping"}],
        "input": [{"role": "user", "content": [{"type": "input_text", "text": SCRIPT}]}],
    },
    GEMINI: {
        "tools": [{"functionDeclarations": [{"name": "ping"}]}],
        "contents": [{"role": "user", "parts": [{"text": SCRIPT}]}],
    },
}
"""A turn that begins."""
THEN: dict[str, tuple[str, list[dict[str, Any]]]] = {
    ANTHROPIC: (
        "messages",
        [
            {"role": "assistant", "content": [{"type": "tool_use", "name": "ping"}]},
            {"role": "user", "content": [{"type": "tool_result", "content": "pong"}]},
        ],
    ),
    CHAT: (
        "messages",
        [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "pong"},
        ],
    ),
    RESPONSES: (
        "input",
        [
            {"type": "function_call", "name": "ping"},
            {"type": "function_call_output", "output": "pong"},
        ],
    ),
    GEMINI: (
        "contents",
        [
            {"role": "model", "parts": [{"functionCall": {"name": "ping"}}]},
            {"role": "user", "parts": [{"functionResponse": {"response": "pong"}}]},
        ],
    ),
}
"""The same turn once the tool has answered."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", FIRST)
def test_a_script_is_done_step_by_step_in_every_dialect(
    model: Model, path: str, stream: bool
) -> None:
    called = ask(model, path, FIRST[path], stream=stream)
    assert '"ping"' in called
    assert called.startswith(("data: ", "event: ")) is stream
    key, more = THEN[path]
    after = FIRST[path] | {key: FIRST[path][key] + more}
    said = ask(model, path, after, stream=stream)
    assert '"done"' in said
    assert '"ping"' not in said
    (result,) = model.results("say: done")
    assert "pong" in result


@pytest.mark.parametrize("path", FIRST)
def test_a_tool_that_is_not_offered_is_refused_with_its_name(model: Model, path: str) -> None:
    other = json.loads(json.dumps(FIRST[path]).replace('"name": "ping"', '"name": "another"'))
    assert "no tool called ping" in ask(model, path, other)
    assert model.refused("say: done")


def test_a_stream_of_chat_completions_has_its_last_line(model: Model) -> None:
    assert ask(model, CHAT, FIRST[CHAT] | {"stream": True}).endswith("data: [DONE]\n\n")


def test_a_request_without_tools_is_no_turn(model: Model) -> None:
    body = {"messages": [{"role": "user", "content": f"A title for: \n{SCRIPT}"}]}
    assert '"OK"' in ask(model, ANTHROPIC, body)
    assert not model.refused("say: done")


def test_a_held_turn_is_answered_once_it_is_released(model: Model) -> None:
    body = {
        "tools": [{"name": "ping"}],
        "messages": [{"role": "user", "content": 'call: hold {"name": "one"}'}],
    }
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask(model, ANTHROPIC, body)))
    asking.start()
    eventually(lambda: model.holds("one"))
    assert not answers
    model.release("one")
    asking.join()
    assert "released" in answers[0]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_is_pinned_to_one_version_that_its_title_names(name: str) -> None:
    client = CLIENTS[name]
    assert client.title.endswith(f" {client.version}")
    assert client.version.replace(".", "").isdigit()


@pytest.mark.parametrize("name", CLIENTS)
def test_the_documentation_names_the_version_that_is_played(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs/clients.md").read_text()
    measured = " ".join(page.partition("\n## Measured\n")[2].partition("\n## ")[0].split())
    assert CLIENTS[name].title in measured


def test_clients_can_be_asked_for_in_several_ways() -> None:
    assert list(plugin.wanted("all")) == list(CLIENTS)
    assert list(plugin.wanted("codex, claude")) == ["codex", "claude"]
    assert list(plugin.wanted("")) == []


def pytest_of(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the host's pytest with the plugin, where there is no npm and pip has no index."""
    (folder / "pytest.ini").touch()
    checkout = Path(__file__).parents[3]
    environment = {"SCOPEKEEPER_LAB": str(folder), "PATH": "", "PYTHONPATH": str(checkout)}
    environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    argv = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    plugins = ["-p", "tests.lab.plugin", "-p", "tests.e2e.clients.plugin"]
    return subprocess.run(
        [*argv, *plugins, *options], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_client_that_cannot_be_installed_is_a_skip_and_passes_nothing(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, "--client", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in CLIENTS:
        assert f"NOT RUN: {name}: " in done.stderr
    assert "there is no npm here" in done.stderr
    assert "PyPI's registry cannot be reached" in done.stderr
    last = done.stdout.splitlines()[-1]
    assert f"{len(CLIENTS)} skipped" in last
    assert "passed" not in last


def test_an_unknown_client_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, "--client", "nobody")
    assert done.returncode == 4
    assert "unknown client 'nobody'; known: claude, codex" in done.stdout + done.stderr


def test_the_table_has_its_columns_side_by_side_and_its_rows_in_order() -> None:
    table = Table("A client 1", ("first", "second", "third"), ("without", "with"))
    table.note("second", "with", Left(0, 0, 0))
    table.note("first", "without", Left(1, 2, 0))
    title, head, *rows = table.lines()
    assert title == "A client 1: left 10 s after its end"
    assert head.split() == ["without", "with"]
    assert [row.split() for row in rows] == [
        ["first", "1", "server,", "2", "helpers", "-"],
        ["second", "-", "0"],
    ]
