"""The plugin's JavaScript, run by a real Node, with a gateway's part played by a few lines."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scopekeeper.cli import stop

PLUGIN = Path(__file__).parents[2] / "scopekeeper" / "openclaw" / "plugin"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js here (node)")
KEY = "Symbol.for('openclaw.sessionMcpRuntimeManager')"


def node(script, *, folder=None, **environment):
    """Run a module and return what it printed as JSON."""
    names = "const P = process.env.PLUGIN; const say = (x) => console.log(JSON.stringify(x));"
    ran = subprocess.run(
        [NODE, "--input-type=module", "-e", names + script],
        env={"PATH": os.environ["PATH"], "PLUGIN": str(PLUGIN), **environment},
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


LANES = {
    "agent:main:main": "main",
    "agent:main:main:heartbeat": "heartbeat",
    "agent:main:cron:1b": "cron",
    "agent:main:cron:1b:run:2c": "cron",
    "agent:main:subagent:9d": "subagent",
    "temp:slug-generator": "nested",
    "agent:main:temp:slug-generator": "nested",
    "agent:main:helper:incognito-slug-generator-1": "nested",
    "agent:main:setup-inference:incognito-1": "nested",
    "agent:main:internal-session-effects:run-1": "nested",
    "agent:main:update-repair:run-1": "nested",
    "agent:main:hook:1b": "cron",
    # the main session of an agent may have any name, and a peer too
    "agent:main:temp": "main",
    "agent:main:constructor:x": "main",
    "agent:main:telegram:direct:temp": "main",
    "agent:main:telegram:direct:heartbeat": "main",
    "agent:main:signal:group:cron": "main",
    "agent:main:telegram:direct:5:heartbeat": "heartbeat",
    "agent:heartbeat:main": "main",
    "main": "main",
    "": "main",
}


def test_the_lane_follows_from_the_key():
    (lanes,) = node(
        "const {laneOf} = await import(`${P}/identity.js`);"
        f"say({json.dumps(list(LANES))}.map(laneOf));"
    )
    assert dict(zip(LANES, lanes, strict=True)) == LANES


def test_only_runs_that_nobody_comes_back_to_are_over_with_their_run():
    asked = [
        ("agent:main:cron:1", "cron"), ("agent:main:main:heartbeat", "heartbeat"),
        ("temp:slug-generator", None), ("agent:main:temp:slug-generator", None),
        ("agent:main:helper:incognito-slug-generator-1", None), ("agent:main:hook:1", "cron"),
        # those go on: a heartbeat or a job in the main session, who talks to a job, a subagent
        ("agent:main:main", "heartbeat"), ("agent:main:main", "cron"),
        ("agent:main:cron:1", "user"), ("agent:main:subagent:1", "user"),
        ("agent:main:subagent:1", None), (None, None),
    ]  # fmt: skip
    (over,) = node(
        "const {isOverWithItsRun} = await import(`${P}/identity.js`);"
        f"say({json.dumps(asked)}.map((a) => isOverWithItsRun(...a)));"
    )
    assert over == [True] * 6 + [False] * 6


def test_a_key_of_any_length_becomes_a_session_that_a_launch_takes():
    keys = ["k" * 512, "k" * 513, "é😀" * 400, "k" * 512 + "a", "a\0b", "", None, 5]
    (made,) = node(
        "const {sessionOf} = await import(`${P}/identity.js`);"
        f"say({json.dumps(keys)}.map((k) => sessionOf(k) ?? null));"
    )
    assert made[0] == keys[0]
    assert made[4:] == [None] * 4
    assert all(len(session) <= 512 for session in made[:4])
    assert len(set(made[:4])) == 4


SERVERS = {
    "ours": {"command": "/opt/bin/scopekeeper", "args": ["run", "--", "x"], "env": {"A": "1"}},
    "bare": {"command": "x", "env": {"A": "1"}},
    "far": {"url": "http://127.0.0.1:1"},
}


@pytest.mark.parametrize("method", ["getOrCreate", "acquire"])
@pytest.mark.parametrize("early", [True, False])
def test_a_server_that_is_contained_is_told_its_session_and_no_other(method, early):
    make = (
        f"globalThis[{KEY}] = {{ {method}(p, q) {{ return [this === globalThis[{KEY}], p, q] }} }};"
    )
    give = (
        "const {giveIdentity} = await import(`${P}/servers.js`);"
        "for (let i = 0; i < 2; i++)"
        " giveIdentity((p) => ({S: p.sessionId}), (m) => seen.push(m));"
    )
    seen, called, untouched, heir = node(
        f"const seen = []; {make + give if early else give + make}"
        f"const params = {{sessionId: 's1', cfg: {{x: 1, mcp: {{y: 2, servers: {json.dumps(SERVERS)}}}}}}};"  # noqa: E501
        f"const r = globalThis[{KEY}].{method}(params, 'more');"
        f"say(seen.at(-1)); say(r); say(params); say(Object.getPrototypeOf(globalThis)[{KEY}] ?? null);"  # noqa: E501
    )
    assert seen == [method]
    itself, params, more = called
    assert (itself, more) == (True, "more")
    assert params["cfg"]["mcp"]["servers"] == {
        **SERVERS, "ours": {**SERVERS["ours"], "env": {"A": "1", "S": "s1"}},
    }  # fmt: skip
    assert (params["cfg"]["x"], params["cfg"]["mcp"]["y"]) == (1, 2)
    assert untouched["cfg"]["mcp"]["servers"] == SERVERS
    assert heir is None


def test_where_openclaw_has_become_another_it_goes_on_and_that_is_said():
    for value in ("{ other() { return 1 } }", "null", "5", "Object.freeze({acquire() {}})"):
        seen, same = node(
            "const {giveIdentity} = await import(`${P}/servers.js`); const seen = [];"
            "giveIdentity(() => ({}), (m) => seen.push(m));"
            f"const made = {value}; globalThis[{KEY}] = made;"
            f"say(seen); say(globalThis[{KEY}] === made);"
        )
        assert (seen, same) == ([[]], True)


GATEWAY = """
const hooks = {};
const warned = [];
const api = { pluginConfig: {program: process.env.PROGRAM}, runtime: {version: process.env.VERSION},
  logger: {warn: (text) => warned.push(text)}, on: (name, f) => { hooks[name] = f; } };
(await import(`${P}/index.js`)).default.register(api);
"""


@pytest.fixture
def program(tmp_path):
    """A launcher that writes down how it is called."""
    path = tmp_path / "scopekeeper"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$0.calls"\n'
                    'echo "$SCOPEKEEPER_OWNER" >> "$0.owners"\n')  # fmt: skip
    path.chmod(0o755)
    return path


def calls(program):
    path = Path(f"{program}.calls")
    return sorted(path.read_text().splitlines()) if path.exists() else []


def fire(program, events, *, called=0, version="2026.9.6", before=""):
    """Let hooks be called, and return what each gave, and what was warned of.

    called is how often the program then has to be; before is run first.
    """
    script = "".join(f"say((await hooks.{name}?.({event}, {context})) ?? null);"
                     for name, event, context in events)  # fmt: skip
    *given, warned = node(
        GATEWAY + before + script + "process.on('exit', () => say(warned));"
        "const until = Date.now() + 20000;"  # a gateway goes on; this would leave at once
        "const fs = await import('node:fs');"
        f"while (Date.now() < until && lines() < {called})"
        " await new Promise((ok) => setTimeout(ok, 10));"
        "function lines() { try { return fs.readFileSync(`${process.env.PROGRAM}.calls`, 'utf8')"
        ".split('\\n').length - 1 } catch { return 0 } }",
        folder=program.parent, PROGRAM=str(program), VERSION=version,
    )  # fmt: skip
    return given, warned


def test_what_is_over_is_stopped_by_its_names_and_the_time_of_the_event(program):
    given, warned = fire(program, called=4, events=[
        ("agent_end", "{}", "{sessionKey: 'agent:main:cron:7', sessionId: 'i1', trigger: 'cron'}"),
        ("session_end", "{sessionKey: 'agent:main:main', sessionId: 'i2', reason: 'reset'}", "{}"),
        ("session_end", "{sessionKey: 'agent:a:main', sessionId: 'i3', reason: 'shutdown'}", "{}"),
        ("subagent_ended", "{targetSessionKey: 'agent:main:subagent:5', outcome: 'ok'}", "{}"),
    ])  # fmt: skip
    assert given == [None] * 4
    assert warned == []
    made = [line.split() for line in calls(program)]
    # another gateway of this user may have the same sessions
    assert all(words[:2] == ["stop", "--mine"] for words in made)
    owners = Path(f"{program}.owners").read_text().split()
    assert len(owners) == 4
    assert len(set(owners)) == 1, "the pid of the gateway, where it is no service"
    assert owners[0].isdecimal()
    by_session = {words[words.index("--session") + 1]: words for words in made}
    ids = {key: words[words.index("--session-id") + 1] for key, words in by_session.items()
           if "--session-id" in words}  # fmt: skip
    # in main, one scope goes on from life to life
    assert ids == {"agent:main:cron:7": "i1"}
    assert len(by_session) == 4
    for key, words in by_session.items():
        moment = words[words.index("--started-before") + 1]
        assert abs(float(moment.removeprefix("@")) - os.stat(program).st_atime) < 60
        lifetimes = [words[at + 1] for at, word in enumerate(words) if word == "--lifetime"]
        assert lifetimes == (["gateway"] if key == "agent:a:main" else ["gateway", "session"])


def test_every_option_that_it_gives_is_one_of_the_command(program):
    fire(program, called=1, events=[
        ("session_end", "{sessionKey: 'agent:main:cron:1', sessionId: 'i', reason: 'reset'}", "{}"),
    ])  # fmt: skip
    (call,) = calls(program)
    assert call.endswith(" --note OpenClaw session_end: reset")
    shown = {name for each in stop.command.params if not getattr(each, "hidden", False)
             for name in each.opts}  # fmt: skip
    assert {word for word in call.split() if word.startswith("--")} <= shown


def test_a_scopekeeper_that_does_not_know_note_is_called_again_with_reason(program):
    text = program.read_text()
    older = 'case " $* " in *" --note "*) echo "No such option: --note" >&2; exit 2;; esac'
    program.write_text(text.replace("#!/bin/sh\n", f"#!/bin/sh\n{older}\n"))
    end = ("session_end", "{sessionKey: 'agent:main:main', sessionId: 'i', reason: 'reset'}", "{}")
    _, warned = fire(program, called=1, events=[end])
    (call,) = calls(program)
    assert call.endswith(" --reason OpenClaw session_end: reset")
    assert warned == []


def test_a_call_that_is_wrong_otherwise_is_warned_of_once(program):
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$0.calls"; echo wrong >&2; exit 2\n')
    end = ("session_end", "{sessionKey: 'agent:main:main', sessionId: 'i', reason: 'reset'}", "{}")
    wait = ("wait", "null", "null")
    until = ("hooks.wait = async () => { while (warned.length < 1)"
             " await new Promise((ok) => setTimeout(ok, 10)); };")  # fmt: skip
    _, warned = fire(program, called=2, before=until, events=[end, wait])
    assert [line.split()[-4] for line in calls(program)] == ["--note", "--reason"]
    assert warned == ["scopekeeper: stop: wrong"]


def test_a_session_that_goes_on_is_not_stopped(program):
    fire(program, called=1, events=[
        ("agent_end", "{}", "{sessionKey: 'agent:main:main', sessionId: 'i', trigger: 'user'}"),
        ("agent_end", "{}", "{sessionKey: 'agent:main:main', sessionId: 'i', trigger: 'cron'}"),
        ("agent_end", "undefined", "undefined"),
        ("session_end", "{sessionKey: 'agent:main:main', sessionId: 'i', reason: 'compaction'}",
         "{}"),
        ("subagent_ended", "{targetSessionKey: 'agent:main:main', outcome: 'reset'}", "{}"),
        ("subagent_ended", "{}", "{}"),
        ("gateway_start", "{port: 1}", "{}"),
    ])  # fmt: skip
    assert calls(program) == ["reconcile"]


START = ("gateway_start", "{port: 1}", "{}")


def test_a_restart_in_the_same_process_ends_what_the_life_before_left(program):
    again = ("wait", "null", "null")
    fire(program, called=3, before="hooks.wait = () => new Promise((ok) => setTimeout(ok, 300));",
         events=[START, ("gateway_stop", "{reason: 'gateway restarting'}", "{}"),
                 again, START])  # fmt: skip
    (stopped,) = [line for line in calls(program) if line != "reconcile"]
    words = stopped.split()
    assert words[:2] == ["stop", "--mine"]
    assert "--session" not in words
    # what is to outlive a gateway outlives this too
    assert [words[at + 1] for at, word in enumerate(words) if word == "--lifetime"] == ["gateway"]
    # the moment is that of the end: what the new life has started by now is spared
    moment = float(words[words.index("--started-before") + 1].removeprefix("@"))
    assert Path(f"{program}.calls").stat().st_mtime - moment > 0.2  # of the 0.3 between the lives


@pytest.mark.parametrize(("reason", "version"), [
    ("gateway stopping", "2026.9.6"), ("plugin replacement", "2026.9.6"), (None, "2026.9.6"),
    ("gateway restarting", "2026.4.15"),
])  # fmt: skip
def test_a_life_that_goes_on_is_not_ended_by_a_second_start(program, reason, version):
    # a plugin that is replaced is stopped and started; 2026.4 goes on with its servers
    method = "getOrCreate" if ".4." in version else "acquire"
    servers = f"globalThis[{KEY}] = {{ {method}() {{}} }};"
    fire(
        program,
        called=2,
        version=version,
        before=servers,
        events=[START, ("gateway_stop", f"{{reason: {json.dumps(reason)}}}", "{}"), START],
    )
    assert calls(program) == ["reconcile"] * 2


@pytest.mark.parametrize(("version", "name"), [
    ("2026.4.15", "before_tool_call"), ("2026.9.6", "resolve_exec_env"),
])  # fmt: skip
def test_a_command_is_told_its_session(program, version, name):
    where = "{sessionKey: 'agent:main:main', sessionId: 'i'}"
    if name == "before_tool_call":
        asked = [("exec", "'gateway'"), ("exec", "undefined"), ("exec", "'node'"), ("read", "''")]
        events = [(name, f"{{toolName: '{tool}', params: {{x: 1, env: {{A: 'b'}}, host: {host}}}}}",
                   where) for tool, host in asked]  # fmt: skip
        given, _ = fire(program, events, version=version)
        environments = [each and each["params"]["env"] for each in given]
        assert given[0]["params"]["x"] == 1
        assert environments[0]["A"] == "b"
    else:
        hosts = ("'gateway'", "undefined", "'node'", "'sandbox'")
        events = [(name, f"{{toolName: 'exec', host: {host}}}", where) for host in hosts]
        environments, _ = fire(program, events, version=version)
    assert environments[2:] == [None, None]
    for environment in environments[:2]:
        assert environment["SCOPEKEEPER_SESSION"] == "agent:main:main"
        assert environment["SCOPEKEEPER_SESSION_ID"] == "i"
        assert environment["SCOPEKEEPER_LANE"] == "main"
        assert environment["SCOPEKEEPER_OWNER"].isdecimal()


def test_on_2026_4_the_gateway_lets_go_of_servers_that_are_stopped(program):
    disposed, = node(
        GATEWAY + f"const gone = []; globalThis[{KEY}] = {{ getOrCreate() {{}},"
        " disposeSession(id) { gone.push(id); throw new Error('no') },"
        " resolveSessionId: (key) => `of ${key}` };"
        "try { await hooks.subagent_ended({targetSessionKey: 'agent:a:subagent:1'}, {}) } catch {}"
        "hooks.session_end({sessionKey: 'k', sessionId: 'i', reason: 'shutdown'}, {});"
        "say(gone);",
        PROGRAM=str(program), VERSION="2026.4.15",
    )  # fmt: skip
    assert disposed == ["of agent:a:subagent:1"]


def test_without_the_program_it_is_said_once_and_nothing_else_happens(tmp_path):
    event = ("session_end", "{sessionKey: 'a', sessionId: 'b', reason: 'reset'}", "{}")
    given, warned = fire(tmp_path / "gone", [event] * 5)
    assert given == [None] * 5
    assert len(warned) == 1
    assert "there is no" in warned[0]


def test_a_gateway_that_leaves_does_not_wait_for_a_call(tmp_path):
    path = tmp_path / "scopekeeper"
    path.write_text("#!/bin/sh\nexec sleep 30\n")
    path.chmod(0o755)
    (done,) = node(
        GATEWAY + "hooks.session_end({sessionKey: 'a', sessionId: 'b'}, {}); say('left');",
        PROGRAM=str(path), VERSION="2026.9.6",
    )  # fmt: skip
    assert done == "left"


def test_it_has_the_version_of_the_package_that_brings_it():
    from scopekeeper.version import __version__

    told = [json.loads((PLUGIN / name).read_text())["version"]
            for name in ("package.json", "openclaw.plugin.json")]  # fmt: skip
    assert told == [__version__] * 2
    assert f'const VERSION = "{__version__}";' in (PLUGIN / "index.js").read_text()


def test_a_report_says_which_profile_it_is_of_and_only_the_last_one_is_removed(tmp_path):
    """A plugin that is replaced may be stopped after the new one has started."""
    file = json.dumps(str(tmp_path / "report.json"))
    head, _, _ = (PLUGIN / "report.js").read_text().partition("function place()")
    (tmp_path / "report.mjs").write_text(f"{head}function place() {{ return {file}; }}")
    first, second, last = node(
        f"const {{Report}} = await import({json.dumps(str(tmp_path / 'report.mjs'))});"
        "const fs = await import('node:fs');"
        f"const read = () => fs.existsSync({file}) && JSON.parse(fs.readFileSync({file}));"
        "const old = new Report({a: 1}), replaced = new Report({a: 2});"
        "old.write({}); say(read()); replaced.write({}); old.remove(); say(read());"
        "replaced.remove(); say(read());",
        HOME="/h", OPENCLAW_PROFILE="work",
    )  # fmt: skip
    assert (first["a"], second["a"], last) == (1, 2, False)
    assert first["environment"] == {"HOME": "/h", "OPENCLAW_PROFILE": "work"}


def test_the_package_has_what_its_registries_require():
    """ClawHub refuses a code plugin without compat and build; npm refuses a private package."""
    package = json.loads((PLUGIN / "package.json").read_text())
    manifest = json.loads((PLUGIN / "openclaw.plugin.json").read_text())
    assert (package["name"], package["version"]) == (manifest["id"], manifest["version"])
    assert f'const VERSION = "{package["version"]}";' in (PLUGIN / "index.js").read_text()
    assert package["description"] == manifest["description"]
    assert package["license"]
    assert "private" not in package
    assert package["openclaw"]["compat"]["pluginApi"].startswith(">=")
    assert package["openclaw"]["build"]["openclawVersion"]
    assert [PLUGIN / each for each in package["openclaw"]["extensions"]] == [PLUGIN / "index.js"]
    install = package["openclaw"]["install"]
    assert install["npmSpec"] == install["clawhubSpec"].removeprefix("clawhub:") == package["name"]
    assert f"{install['defaultChoice']}Spec" in install
    # what OpenClaw 2026.9 documents; ClawHub warns of others
    assert set(package["openclaw"]) <= {"extensions", "install", "compat", "build"}
    assert set(manifest) <= {"id", "name", "description", "version", "activation", "configSchema"}


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_the_package_holds_every_file_of_the_plugin(tmp_path):
    packed = subprocess.run(
        ["npm", "pack", "--dry-run", "--json", "--offline", "--ignore-scripts", str(PLUGIN)],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    (package,) = json.loads(packed.stdout)
    assert {each["path"] for each in package["files"]} == set(os.listdir(PLUGIN))


BACKENDS = """
import { AsyncLocalStorage } from "node:async_hooks";
const {containBackends} = await import(`${P}/backends.js`);
const warned = [];
const contain = (program) => containBackends({
  program, warn: (text) => warned.push(text),
  environmentFor: ({sessionKey}) => sessionKey && {SCOPEKEEPER_SESSION: sessionKey},
});
const runs = new AsyncLocalStorage();
globalThis[Symbol.for("openclaw.agentEvents.executionContext")] = runs;
const within = (keys, act) => runs.run({routingByRun: new Map(
  keys.map((sessionKey, at) => [at, {routing: {sessionKey, sessionId: "i"}}]))}, act);
const registry = {cliBackends: []};
globalThis[Symbol.for("openclaw.pluginRegistryState")] = {activeRegistry: registry};
const newer = (id = "claude-cli") => ({id, prepareExecution: (context) => ({
  env: {A: "1"}, execute: async function* (execution) { yield {...execution, context}; },
})});
const execute = async (backend, execution) => {
  const prepared = await backend.prepareExecution("context");
  for await (const each of prepared.execute(execution)) return each;
};
const env = {PATH: process.env.LAUNCHERS};
const CLAUDE = {command: "/x/claude", args: ["-p"], env, sessionId: "I"};
"""
OPTIONS = ["run", "--name", "claude", "--real-shell", "--if-unavailable=warn", "--"]


@pytest.fixture
def launcher(tmp_path):
    made = tmp_path / "bin/scopekeeper"
    made.parent.mkdir()
    made.write_text('#!/bin/sh\necho "$SCOPEKEEPER_SESSION" "$@"\n')
    made.chmod(0o755)
    return made


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("program", ["scopekeeper", "PATH"])
def test_the_program_of_a_backend_runs_in_the_session_that_it_works_for(launcher, when, program):
    add = 'registry.cliBackends.push({backend: newer()}, {backend: newer("other-cli")});'
    path = str(launcher) if program == "PATH" else program
    call = f"contain({json.dumps(path)}); contain({json.dumps(path)});"
    (ours, other, named, several, untouched, warned) = node(
        BACKENDS + (add + call if when == "before" else call + add) + """
        const [mine, others] = registry.cliBackends.map((each) => each.backend);
        say(await within(["agent:main:main"], () => execute(mine, CLAUDE)));
        say(await within(["agent:main:main"], () => execute(others, CLAUDE)));
        say(await execute(mine, CLAUDE));
        say(await within(["agent:a:main", "agent:b:main"], () => execute(mine, CLAUDE)));
        say(await within(["agent:main:main"], () => execute(mine, {...CLAUDE, argv0: "claude"})));
        say(warned);
        """,
        LAUNCHERS=str(launcher.parent),
    )  # fmt: skip
    assert (ours["command"], ours["args"]) == (str(launcher), [*OPTIONS, "/x/claude", "-p"])
    assert ours["env"]["SCOPEKEEPER_SESSION"] == "agent:main:main"
    assert ours["context"] == "context"
    assert (other["command"], other["args"]) == ("/x/claude", ["-p"])
    assert named["env"]["SCOPEKEEPER_SESSION"] == "claude:I"
    assert several["env"]["SCOPEKEEPER_SESSION"] == "claude:I"
    assert untouched["command"] == "/x/claude"
    assert warned == []


def test_without_a_launcher_a_backend_runs_as_before_and_that_is_said(tmp_path):
    (ran, warned) = node(
        BACKENDS + """
        registry.cliBackends.push({backend: newer()});
        contain("scopekeeper");
        say(await execute(registry.cliBackends[0].backend, CLAUDE));
        say(warned);
        """,
        LAUNCHERS=str(tmp_path),
    )  # fmt: skip
    assert (ran["command"], ran["args"]) == ("/x/claude", ["-p"])
    assert warned == ["there is no scopekeeper; claude-cli runs outside of scopes"]


@pytest.mark.parametrize(
    "registry",
    [
        "undefined", "{}", "{activeRegistry: null}", "{activeRegistry: {cliBackends: 3}}",
        "{activeRegistry: {cliBackends: [null, {}, {backend: 3}, {backend: {id: 'claude-cli'}}]}}",
        "{activeRegistry: {cliBackends: Object.freeze([{backend: Object.freeze(newer())}])}}",
    ],
)  # fmt: skip
def test_a_registry_of_another_form_is_left_as_it_is(registry):
    (done,) = node(
        BACKENDS
        + f"""
        globalThis[Symbol.for("openclaw.pluginRegistryState")] = {registry};
        contain("scopekeeper");
        say(true);
        """
    )
    assert done is True
