"""The plugin for OpenCode, run by a real Node, with a few lines in the place of OpenCode."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.machine import eventually, text_of

FOLDER = Path(__file__).parents[2] / "scopekeeper/clients/opencode"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no Node.js here (node)")
ID = "ses_61f2aB0"


@pytest.fixture
def program(tmp_path):
    """A scopekeeper that writes down how it was called."""
    path = tmp_path / "bin/scopekeeper"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\necho "$* in $PWD" >> {tmp_path}/calls\n')
    path.chmod(0o755)
    return path


def node(program, script, **environment):
    """Load a copy of the plugin's one file, as OpenCode does; return what the script says."""
    copy = program.parent.parent / "plugins/scopekeeper.mjs"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(FOLDER / "scopekeeper.js", copy)
    names = (
        "const say = (x) => console.log(JSON.stringify(x));"
        f"const loaded = await import({json.dumps(str(copy))});"
        "const [make] = Object.values(loaded);"
        "const hooks = await make({directory: '/', $: null, client: null});"
        "const event = (type, properties) => hooks.event({event: {type, properties}});"
        "const deleted = (properties) => event('session.deleted', properties);"
    )
    ran = subprocess.run(
        [NODE, "--input-type=module", "-e", names + script],
        env={"PATH": f"{program.parent}:/bin:/usr/bin", **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def env(program, given, output="{env: {A: '1'}}", **environment):
    script = f"const o = {output}; await hooks['shell.env']({given}, o); say(o);"
    (said,) = node(program, script, **environment)
    return said


@needs_node
def test_it_has_two_hooks_and_one_plugin(program):
    assert node(program, "say([Object.keys(loaded).length, Object.keys(hooks).sort()]);") == [
        [1, ["event", "shell.env"]]
    ]


@needs_node
def test_a_command_gets_the_name_of_its_session(program):
    assert env(program, f"{{cwd: '/x', sessionID: '{ID}', callID: 'c'}}") == {
        "env": {"A": "1", "SCOPEKEEPER_SESSION": f"opencode:{ID}"}
    }


@needs_node
@pytest.mark.parametrize(
    "given", ["{}", "undefined", "null", "{sessionID: 7}", "{sessionID: ''}", "{sessionID: 'a b'}",
              "{sessionID: '-x'}", "{sessionID: 'x'.repeat(129)}", "{sessionID: 'a\\nb'}"],
)  # fmt: skip
def test_what_is_no_id_names_nothing(program, given):
    assert env(program, given) == {"env": {"A": "1"}}


@needs_node
def test_a_session_that_is_named_already_stays(program):
    given = f"{{sessionID: '{ID}'}}"
    assert env(program, given, SCOPEKEEPER_SESSION="outer") == {"env": {"A": "1"}}
    other = {"env": {"SCOPEKEEPER_SESSION": "other"}}
    assert env(program, given, "{env: {SCOPEKEEPER_SESSION: 'other'}}") == other
    assert env(program, given, "{}")["env"] == {"SCOPEKEEPER_SESSION": f"opencode:{ID}"}


@needs_node
@pytest.mark.parametrize("properties", [f"{{info: {{id: '{ID}'}}}}", f"{{sessionID: '{ID}'}}"])
def test_a_deleted_session_is_stopped(program, tmp_path, properties):
    node(program, f"await deleted({properties});")
    assert eventually(lambda: text_of(tmp_path / "calls")) == f"stop -s opencode:{ID} in /\n"


@needs_node
def test_nothing_else_is_ever_stopped(program, tmp_path):
    """The last one shows that a call would have been written by then."""
    kinds = ("session.created", "session.idle", "session.updated", "server.exit")
    events = [f"await event('{kind}', {{info: {{id: '{ID}'}}}});" for kind in kinds]
    wrong = ["{}", "undefined", "{info: {}}", "{info: {id: '--all'}}", "{info: {id: ['x']}}",
             "{info: {id: 'a*'}}", "{info: {id: ''}}"]  # fmt: skip
    calls = [f"await deleted({each});" for each in wrong]
    more = "await hooks.event(); await hooks.event({}); await hooks.event({event: null});"
    node(program, "".join([*events, *calls, more, "await deleted({info: {id: 'last'}});"]))
    assert eventually(lambda: text_of(tmp_path / "calls")) == "stop -s opencode:last in /\n"


@needs_node
@pytest.mark.parametrize("body", [None, "echo loud; echo louder >&2; exit 1", "kill -9 $$"])
def test_a_missing_or_broken_scopekeeper_is_silent(program, body):
    if body is None:
        program.unlink()
    else:
        program.write_text(f"#!/bin/sh\n{body}\n")
    script = f"await deleted({{info: {{id: '{ID}'}}}}); setTimeout(() => say('alive'), 100);"
    assert node(program, script) == ["alive"]


@needs_node
def test_the_stop_outlives_opencode_and_its_process_group(program, tmp_path):
    program.write_text(f"#!/bin/sh\nread -r line < {tmp_path}/go\necho $line > {tmp_path}/calls\n")
    os.mkfifo(tmp_path / "go")
    node(program, f"await deleted({{info: {{id: '{ID}'}}}});")  # it has ended
    (tmp_path / "go").write_text("ended\n")
    assert eventually(lambda: text_of(tmp_path / "calls")) == "ended\n"


def test_its_package_is_the_one_file():
    package = json.loads((FOLDER / "package.json").read_text())
    assert package["version"] == __version__
    assert package["main"] == "scopekeeper.js"
    assert (package["type"], "dependencies" in package) == ("module", False)
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {"scopekeeper.js", "package.json", "README.md"}
    assert not any("://" in path.read_text() for path in FOLDER.iterdir())
