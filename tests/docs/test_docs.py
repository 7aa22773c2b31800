"""Every page of docs/: its commands run, and print what it shows; its files can be read."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from scopekeeper.cli.main import group
from scopekeeper.clients import hooks
from scopekeeper.clients.code import module
from scopekeeper.clients.keys import SECTIONS
from scopekeeper.clients.known import built_in
from scopekeeper.clients.parse import KEYS
from scopekeeper.clients.parse import parse as parse_clients
from scopekeeper.clients.table import TABLE
from scopekeeper.hook import detached
from scopekeeper.hosts import groups as hosts
from scopekeeper.keeper.command_input import given
from scopekeeper.keeper.command_sample import sample
from scopekeeper.launch import shell_prefix
from scopekeeper.launch.arguments import parse
from scopekeeper.policy import command_rules, rules
from scopekeeper.python_api import public
from tests.docs import commands, python
from tests.docs.blocks import NEEDS_MCP, PAGES, ROOT, blocks, fenced, is_as_shown, shown
from tests.docs.how_to import section
from tests.docs.shell import Shell
from tests.formats import FORMATS
from tests.machine import eventually
from tests.systemd.manager import Units

KINDS = {"", "bash", "console", "ini", "json", "python", "sh", "shell", "shell-session", "toml",
         "yaml"}  # fmt: skip
DOCS = PAGES[1:]


def each(pages=DOCS):
    return pytest.mark.parametrize("page", pages, ids=lambda path: path.name)


def test_the_commands_are_those_that_there_are():
    assert commands.text() == commands.PAGE.read_text(encoding="utf-8"), "make docs writes it"


def test_the_python_api_is_that_of_its_docstrings():
    text = python.PAGE.read_text(encoding="utf-8")
    assert python.text() == text, "make docs writes it"
    for name in public.PUBLIC:
        assert f"scopekeeper.{name}" in text or f"### {name}" in text or name == "__version__", name


@each(PAGES)
def test_its_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    assert {kind for kind, _ in fenced(text)} <= KINDS


@each(PAGES)
def test_every_command_and_option_that_it_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`scopekeeper ([^`]*)`", text)
    for _, block in fenced(text):
        named += re.findall(r"^(?:\$ |.*\$\()?scopekeeper ([^&;|]*)", block, flags=re.MULTILINE)
    for words in named:
        path, options = re.match(r"((?:[a-z]+ ?)*)(.*)", words.partition(" -- ")[0]).groups()
        told = "--help" if words.startswith("COMMAND") else ""
        names = path.split()
        while names and not told:  # `openclaw install`, but `send RUN yes`
            done = CliRunner().invoke(group, [*names, "--help"])
            told = done.output if done.exit_code == 0 else ""
            names = names[:-1]
        assert told or not path, words
        for option in re.findall(r"(?<!\S)--[a-z-]+|(?<!\S)-[a-z]\b", options):
            assert re.search(rf"(^|\s|,|/){option}\b", told), (words, option)


@each()
def test_its_samples_can_be_read(page):
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, "toml"):
        if page.name == "many-machines.md":
            assert hosts.parse(page.name, block)
            continue
        of_page = parse_clients if page.name == "clients.md" else rules.parse
        of_page([(page.name, block)])
    for block in blocks(text, "json"):
        document = json.loads(block)
        prefix = document.get("env", {}).get("CLAUDE_CODE_SHELL_PREFIX")
        assert (prefix is None) is ("mcpServers" in document)
        assert prefix is None or prefix == f"/usr/bin/{shell_prefix.NAME}"
        for server in document.get("mcpServers", {}).values():
            assert server["args"][0] == "run"
            assert parse(server["args"][1:]) is not None
    for block in blocks(text, "ini"):
        for line in re.findall(r"^ExecStart=scopekeeper run (.*)$", block, flags=re.MULTILINE):
            assert parse(shlex.split(line)) is not None


def test_every_client_is_named_with_its_variables():
    text = section("clients.md", "How a session gets its name")
    for _, _, variables, _, prefix, *_ in TABLE:
        assert all(f"`{variable}`" in text for variable in variables)
        assert (f"`{prefix}:ID`" in text) is bool(variables)


def test_every_key_of_a_client_is_in_a_table():
    text = section("clients.md", "Add a client")
    rows = [key for line in text.splitlines() if line.startswith("| `")
            for key in re.findall("`([a-z_]+)`", line.split(" | ")[0])]  # fmt: skip
    sections = [key for keys in SECTIONS.values() for key in keys]
    assert set(rows) == {*KEYS, *hooks.Hooks.__dataclass_fields__, *sections}
    for client in built_in():
        assert client.short == client.name or f"`{client.short}` is `{client.name}`" in text


def test_the_clients_with_titles_are_listed():
    text = section("clients.md", "The title of a session")
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")]
    titled = [client.title for client in built_in() if module(client.name, "title")]
    assert rows[1:-1] == [title.removesuffix(" CLI") for title in titled]


def test_the_clients_that_take_a_bash_are_listed():
    text = section("clients.md", "A bash for agents")
    for client in built_in():
        assert not client.bash or f"{client.title.removesuffix(' CLI')}" in text


def test_every_hook_is_named_with_its_command_and_its_times():
    text = section("clients.md", "When a session ends")
    for client in built_in():
        for event in client.hooks.end if client.hooks else ():
            assert f"| `scopekeeper hook {client.short} {event}` |" in text
    assert f"at most {detached.PATIENCE:.0f} seconds" in text
    assert (detached.SETTLING, "Two seconds after" in text) == (2.0, True)
    keys = section("clients.md", "Add a client")
    assert all(f"| `{key}` |" in keys for key in hooks.Hooks.__dataclass_fields__)


def test_every_rule_is_in_the_table_of_rules():
    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    table = "".join(line for line in text.splitlines() if line.startswith("|"))
    listed = [key for row in re.findall(r"\| (`[a-z_`, ]+`) \|", table)
              for key in re.findall(r"`(\w+)`", row)]  # fmt: skip
    for key in rules.Rules.__dataclass_fields__:
        assert listed.count(key) == 1 or key in table, key


def test_every_setting_variable_and_event_of_a_command_is_in_its_section():
    text = section("policy.md", "Commands for ends and events")
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", " ".join(rows))
    keys = {key for keys in command_rules._KEYS.values() for key in keys}
    prefix = f"{command_rules.VARIABLE}_"
    variables = {each.removeprefix(prefix) for each in named if each.startswith(prefix)}
    variables |= {each[1:] for each in named if each.startswith("_")}
    assert variables == set(command_rules.DETAILS)
    assert keys == {each for each in named if each.islower() and each[0] != "_"}
    assert all(f"`{event}`" in text for event in command_rules.EVENTS)


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_recipes_with_curl_post_the_event_of_a_rule():
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/hook"
    text = "".join(blocks(section("alerts.md", "By a webhook"), "toml"))
    found = rules.parse([("alerts.md", text.replace("https://example.org/hook", address))]).commands
    try:
        for rule in found:
            made = given(rule, sample(rule))
            assert address in " ".join(made.argv)
            environment = {**os.environ, **made.variables, "no_proxy": "127.0.0.1"}
            subprocess.run(made.argv, input=made.stdin, env=environment, check=True, timeout=60)
    finally:
        server.shutdown()
        server.server_close()
    whole, short = map(json.loads, got)
    assert whole["event"] == "MemberEnded"
    assert short["text"].startswith("example of agent:main:main ended: oom-killed")


_FILES = {
    "claude-code": ".claude.json",
    "codex": ".codex/config.toml",
    "cursor": ".cursor/mcp.json",
    "vscode": ".config/Code/User/mcp.json",
    "gemini": ".gemini/settings.json",
    "hermes": ".hermes/config.yaml",
    "goose": ".config/goose/config.yaml",
    "continue": ".continue/config.yaml",
    "opencode": ".config/opencode/opencode.json",
}


@pytest.mark.parametrize(
    ("title", "clients"),
    [
        ("Claude Code", ["claude-code"]),
        ("Codex", ["codex"]),
        ("Cursor and VS Code", ["cursor", "vscode"]),
        ("Gemini CLI", ["gemini"]),
        ("hermes-agent, goose and Continue", ["hermes", "goose", "continue"]),
        ("OpenCode", ["opencode"]),
    ],
)
def test_a_client_is_contained_checked_and_released_by_its_section(tmp_path, title, clients):
    """Its commands alone, in a home with all clients: the files of the others stay."""
    samples = {}
    for client, name in _FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples_of = (ROOT / "tests" / "clients").glob(f"{client}.*")
        (sample,) = (each for each in samples_of if ".wrapped" not in each.name)
        samples[client] = (path, sample.read_bytes())
        path.write_bytes(sample.read_bytes())
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    seen = []
    for lines in blocks(section("clients.md", title), "bash"):
        statuses = set()
        for line in lines.splitlines():
            words = [sys.executable, "-m", *shlex.split(line)]
            statuses.add(subprocess.run(words, env=environment, capture_output=True).returncode)
        rewritten = [name for name, (path, was) in samples.items() if path.read_bytes() != was]
        seen.append((statuses, rewritten))
    assert seen == [({0}, clients), ({0}, clients), ({0}, [])]


def test_every_client_is_in_the_table_with_its_files():
    lines = section("clients.md", "The name and the files of every client").splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in lines if line.startswith("| `")]  # fmt: skip
    known = {each.name: each for each in FORMATS.values() if each.name != "openclaw"}
    assert [row[0].strip("`") for row in rows] == list(known)
    for name, title, own, project in rows:
        client = known[name.strip("`")]
        assert title == client.title
        listed = re.findall("`([^`]*)`", own)
        homes = {"$HOME": "~", "$XDG_CONFIG_HOME": "~/.config"}
        paths = [path.replace(start, home) for path in client.files for start, home in homes.items()
                 if path.startswith(start)]  # fmt: skip
        assert set(listed) <= set(paths), name
        assert bool(listed) == bool(client.files)
        assert set(listed) == set(paths) or "relatives" in own, name
        assert tuple(re.findall("`([^`]*)`", project)) == client.projects


def test_hooks_are_registered_checked_and_removed_by_their_section(tmp_path):
    text = section("clients.md", "Clients that report the end of a session")
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in text.splitlines() if line.startswith("| `") and "~" in line]  # fmt: skip
    listed = {name.strip("`"): (file.strip("`"), tuple(re.findall("`([^`]*)`", events)))
              for name, file, events, *_ in rows}  # fmt: skip
    known = {each.name: each.hooks for each in FORMATS.values() if each.hooks}
    assert listed == {
        name: (f"{kind.folders[-1]}/{kind.file}".replace("$HOME", "~"), kind.events)
        for name, kind in known.items()
    }
    for name, kind in known.items():
        assert all(f"`{'.'.join(path)}`" in text for path, _ in kind.off[:1]), name
        folder = tmp_path / kind.folders[-1].removeprefix("$HOME/")
        folder.mkdir()
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    seen = []
    for line in blocks(text, "bash"):
        words = [sys.executable, "-m", *shlex.split(line)]
        status = subprocess.run(words, env=environment, capture_output=True).returncode
        seen.append((status, {path for path in tmp_path.rglob("*") if path.is_file()}))
    there = {tmp_path / file.removeprefix("~/") for file, _ in listed.values()}
    assert seen == [(0, there), (0, there), (0, set())]


@pytest.fixture
def my_gateway():
    """A service that stands for a gateway, and afterwards nothing installed beside it."""
    units = Units()
    units.write("my-gateway.service", "[Service]\nExecStart=sleep infinity\n")
    yield
    subprocess.run(["scopekeeper", "uninstall", "--force"], check=True, capture_output=True)
    units.close()


@pytest.mark.systemd
@pytest.mark.usefixtures("my_gateway")
@each([page for page in DOCS if shown(page.read_text(encoding="utf-8"))])
def test_what_it_shows_is_what_is_printed(page, tmp_path):
    shell = Shell(tmp_path)
    try:
        for line, expected in shown(page.read_text(encoding="utf-8")):
            deadline = time.monotonic() + 20
            while True:
                status, printed = shell.do(line)
                if is_as_shown(printed, expected) or time.monotonic() > deadline:
                    break  # what was begun with & may not be there at once
                looks = ("scopekeeper ls", "scopekeeper logs", "scopekeeper ports", "ss ")
                assert line.startswith(looks), (line, printed)
                time.sleep(0.1)
            assert status == 0, (line, printed)
            assert is_as_shown(printed, expected), (line, printed, expected)
    finally:
        shell.end()
        scope = [] if os.geteuid() == 0 else ["--user"]
        subprocess.run(["systemctl", *scope, "stop", "scopekeeper.service"], check=False)


@pytest.mark.systemd
def test_its_handler_of_sigterm_leaves_the_block():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (program,) = [each for each in blocks(page, "python") if "SIGTERM" in each]
    longer = program.replace('["sleep", "1"]', '["sleep", "1000"]')
    assert longer != program
    gateway = subprocess.Popen([sys.executable, "-c", longer])

    def listed() -> bool:
        ran = subprocess.run(["scopekeeper", "ls"], capture_output=True, text=True, check=True)
        return "agent:main" in ran.stdout

    try:
        eventually(listed)
        gateway.terminate()
        assert gateway.wait() == 143
        eventually(lambda: not listed())
    finally:
        gateway.kill()
        gateway.wait()


@pytest.mark.systemd
@each([page for page in DOCS if blocks(page.read_text(encoding="utf-8"), "python")])
def test_its_python_runs_and_leaves_nothing(page):
    for program in blocks(page.read_text(encoding="utf-8"), "python"):
        if NEEDS_MCP in program:
            continue  # test_readme runs it
        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=300)

    def is_gone() -> bool:  # the holder of a place that was removed looks every 0.1 s
        ran = subprocess.run(["scopekeeper", "ls"], capture_output=True, text=True, check=True)
        return "agent:main" not in ran.stdout

    eventually(is_gone)
