"""A client is one entry of the table, and one folder for what no table can say: nothing else.

A made-up client is added twice: by a user's file, and to a copy of the package. Then all that
knows clients knows it, in processes of their own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scopekeeper
from tests.machine import eventually, text_of
from tests.unit.test_cli_wrap_left import stand_in

PACKAGE = Path(scopekeeper.__file__).parent
ENTRY = """
[new-est]
title = "Newest"
short = "newest"
programs = ["newest"]
session = ["NEWEST_ID"]
bash = "set NEWEST_SHELL={bash}"
[new-est.servers]
language = "jsonc"
places = [["tools", "servers"]]
files = ["$HOME/.newest/tools.json"]
projects = ["newest.json"]
names = ["newest.json"]
folders = [".newest"]
by_content = true
command = "run"
arguments = "with"
projects_in = "opened"
plugins = { add-on = "$HOME/.newest/add-ons/*/tools.json" }
[new-est.hooks]
end = ["bye"]
keeps = ["clear"]
[new-est.hook_settings]
events = ["bye"]
folders = ["$HOME/.newest"]
file = "hooks/ours.json"
beside = { version = 1 }
[new-est.launchers]
folders = ["$HOME/.newest"]
file = "settings.json"
key = "env"
variables = { NEWEST_SHELL = "scopekeeper-shell" }
"""
FOLDER = {
    "__init__.py": '"""Newest: its titles and plugins."""\n',
    "title.py": """
from scopekeeper.clients.session_files import Files, Named, Store

STORE = Store("NEWEST_HOME", ".newest", (
    Files(lambda folder, id, _: [f"{folder}/{id}.jsonl"], (Named("title", ()),)),
))
""",
    "plugins.py": """
from scopekeeper.clients.plugin import Plugin

def plugins(environment, read):
    path = environment["HOME"] + "/.newest/bundle.json"
    if read(path):
        yield Plugin("bundle", path)
""",
}
SERVERS = {"tools": {"servers": {"a": {"run": "x", "with": ["y"]}}}}


class Newest:
    """A home with the client, and a scopekeeper that knows it."""

    def __init__(self, home, root, config):
        self.home = home
        self.environment = {
            "HOME": str(home), "PYTHONPATH": str(root), "PATH": f"{home}/bin:/usr/bin:/bin",
            "SCOPEKEEPER_CONFIG": str(config), "SCOPEKEEPER_STATE": str(home / "state"),
        }  # fmt: skip
        launcher = (
            f"import sys\nsys.path.insert(0, {str(root)!r})\nfrom scopekeeper.main import main"
        )
        self.put("bin/scopekeeper", f"#!{sys.executable}\n{launcher}\nmain()\n").chmod(0o755)

    def put(self, name, data):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data, indent=2))
        return path

    def call(self, *words):
        return subprocess.run(
            [sys.executable, "-m", "scopekeeper", *map(str, words)], cwd=self.home,
            env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def python(self, program, *arguments, **more):
        """Return what a program prints, as JSON."""
        ran = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], cwd=self.home,
            env=self.environment | more, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def of_user(folder):
    config = folder / "config"
    config.mkdir()
    (config / "clients.toml").write_text(ENTRY)
    return PACKAGE.parent, config


def of_package(folder):
    root, config = folder / "package", folder / "config"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, root / "scopekeeper", ignore=ignored)
    clients = root / "scopekeeper/clients"
    with (clients / "clients.toml").open("a") as table:
        table.write(ENTRY)
    (clients / "new_est").mkdir()
    for name, text in FOLDER.items():
        (clients / "new_est" / name).write_text(text)
    subprocess.run([sys.executable, "-m", "scopekeeper.clients.compile"], check=True,
                   cwd=folder, env={"PYTHONPATH": str(root)})  # fmt: skip
    return root, config


@pytest.fixture(params=[of_user, of_package])
def newest(request, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return Newest(home, *request.param(tmp_path))


@pytest.fixture
def packaged(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return Newest(home, *of_package(tmp_path))


def test_its_servers_are_wrapped_checked_and_unwrapped(newest):
    own = newest.put(".newest/tools.json", SERVERS | {"opened": {str(newest.home / "work"): {}}})
    project, copy = newest.put("work/newest.json", SERVERS), newest.put("copy.json", SERVERS)
    plugin = newest.put(".newest/add-ons/one/tools.json", SERVERS)
    before = own.read_bytes()
    client = stand_in(newest.home, "newest")
    try:
        done = newest.call("wrap", "--client", "new-est")
    finally:
        client.kill()
        client.wait()
    assert done.returncode == 0, done.stderr
    assert f"Restart Newest (pid {client.pid})" in done.stdout
    assert f"run `scopekeeper wrap {project}`" in done.stderr
    (wrapped,) = json.loads(own.read_text())["tools"]["servers"].values()
    assert os.path.basename(wrapped["run"]) == "scopekeeper"
    assert wrapped["with"][-3:] == ["--", "x", "y"]
    assert newest.call("wrap", copy).returncode == 0  # known by what is in it
    checked = newest.call("wrap", "--check", "--client", "newest", "--json")
    states = {each["path"]: each["servers"][0]["state"]
              for each in json.loads(checked.stdout)["files"]}  # fmt: skip
    assert states == {str(own): "wrapped", str(project): "not wrapped", str(plugin): "not wrapped"}
    assert "it belongs to Newest's add-on one" in checked.stderr
    nothing = newest.call("wrap", newest.put("no.json", {}))
    assert "tools.servers (JSON): new-est" in nothing.stderr
    assert newest.call("unwrap").returncode == 0
    assert own.read_bytes() == before


YAML = """\
mcpServers:
  block:
    command: x
    words:
      - 'y'
  flow: {command: x, words: [y]}
  none:
    command: x
"""


def test_the_key_of_the_arguments_counts_in_yaml_too(tmp_path):
    home, config = tmp_path / "home", tmp_path / "config"
    home.mkdir()
    config.mkdir()
    table = '[mine.servers]\nlanguage = "yaml"\narguments = "words"\nfiles = ["$HOME/mine.yaml"]\n'
    (config / "clients.toml").write_text(table)
    mine = Newest(home, PACKAGE.parent, config)
    path = mine.put("mine.yaml", YAML)
    assert mine.call("wrap", "--client", "mine").returncode == 0
    text = path.read_text()
    assert "args" not in text
    assert text.count("words") == 3
    assert mine.call("wrap", "--check", "--client", "mine").returncode == 0
    assert mine.call("unwrap").returncode == 0
    assert path.read_text() == YAML


def test_its_hooks_are_registered_and_removed(newest):
    (newest.home / ".newest").mkdir()
    assert newest.call("wrap", "--hooks", "--check").returncode == 1
    assert newest.call("wrap", "--hooks").returncode == 0
    (group,) = json.loads((newest.home / ".newest/hooks/ours.json").read_text())["hooks"]["bye"]
    assert "scopekeeper hook newest bye" in group["hooks"][0]["command"]
    assert newest.call("wrap", "--hooks", "--client", "newest", "--check").returncode == 0
    assert newest.call("unwrap", "--hooks").returncode == 0
    assert list((newest.home / ".newest").iterdir()) == []


HOOK = """
import sys
from scopekeeper.hook.front import hook
def then(words):
    with open("calls", "a") as calls:
        calls.write(" ".join(words) + "\\n")
hook(sys.argv[1:], then)
"""
CLIENT = '#!/bin/sh\nread -r line; "$PYTHON" "$HOME/driver" newest bye < event\nread -r line\n'


@pytest.mark.parametrize(("reason", "calls"), [("exit", ["reconcile --owner"]), ("clear", [])])
def test_its_hook_cleans_up_after_it(newest, reason, calls):
    where = newest.home / "calls"
    newest.put("driver", HOOK.replace('"calls"', repr(str(where))))
    newest.put("event", {"session_id": "7.a", "reason": reason})
    program = newest.put("bin/newest", CLIENT)
    program.chmod(0o755)
    client = subprocess.Popen([program], stdin=subprocess.PIPE, cwd=newest.home, text=True,
                              env=newest.environment | {"PYTHON": sys.executable})  # fmt: skip
    client.communicate("\n\n")
    wanted = [f"{each} {client.pid}" for each in calls]
    eventually(lambda: text_of(where).splitlines() == wanted and not drivers(newest.home))


def drivers(home):
    """Return the processes that the hook left behind and that still live."""
    return [pid for pid in os.listdir("/proc") if pid.isdecimal()
            and f"{home}/driver\0" in text_of(f"/proc/{pid}/cmdline")]  # fmt: skip


NAMED = """
import json, sys
from scopekeeper.clients import identity
warnings = []
named = identity.of_launch({}, {b"NEWEST_ID": b"7.a"}, sys.argv[1], warnings, configured=True,
                           scope="")
print(json.dumps([named.session, named.lane, named.ignored, warnings]))
"""


def test_it_names_its_session(newest):
    client = stand_in(newest.home, "newest")
    try:
        assert newest.python(NAMED, client.pid) == ["newest:7.a", "main", "", []]
        assert newest.python(NAMED, os.getpid())[0] == ""
    finally:
        client.kill()
        client.wait()


TITLE = """
import json, os, sys
from scopekeeper.clients import titles
from scopekeeper.scope.model import Liveness, Member, Owner, OwnerState, Scope
state = OwnerState(Owner(pid=int(sys.argv[1]), start_time=1), Liveness.ALIVE, "")
member = Member("x", "00000000", "/x/m", "/x/m", pids=(1,), owner_state=state)
scope = Scope("u", "/x", "/x", os.geteuid(), "newest:7.a", "main", members=(member,))
print(json.dumps(titles.read([scope]).get("/x")))
"""


def test_its_sessions_have_a_title(newest):
    client = stand_in(newest.home, "newest")
    try:
        folder = os.path.basename(os.getcwd())
        assert newest.python(TITLE, client.pid) == folder
        newest.put(".newest/7.a.jsonl", '{"title": "The login"}\n')
        has_reader = "package" in newest.environment["PYTHONPATH"]
        assert newest.python(TITLE, client.pid) == ("The login" if has_reader else folder)
    finally:
        client.kill()
        client.wait()


FOUND = """
import json, os
from scopekeeper.clients import known
from scopekeeper.doctor import client_hooks, mcp_servers
from scopekeeper.install import locations, shell_folder
from scopekeeper.setup.exec_start import gateway_of
from scopekeeper.setup.client_hooks import ClientHooks
from scopekeeper.setup.mcp_servers import McpServers
from scopekeeper.setup.step import Machine
machine = Machine(os.environ, dict)
found = [*McpServers().find(machine), *ClientHooks().find(machine)]
checks = [*mcp_servers.launchers(), *client_hooks.launchers(), *mcp_servers.in_settings()]
print(json.dumps({
    "setup": [[each.what, each.need.value, each.will] for each in found],
    "doctor": [each.detail for each in checks if each.status.value != "ok"],
    "gateway": bool(gateway_of(["/opt/newest", "serve"])),
    "shell": dict(shell_folder.pointers(locations.find("user", os.environ)))["Newest"],
}))
"""


def test_setup_doctor_and_install_know_it(newest):
    newest.put(".newest/tools.json", SERVERS)
    newest.put(".newest/settings.json", {"env": {"NEWEST_SHELL": "/gone/scopekeeper-shell"}})
    found = newest.python(FOUND)
    assert found["setup"] == [
        ["Newest", "not contained", "wrap 1 server"],
        ["Newest hooks", "not contained", "add 1 hook"],
    ]
    assert found["gateway"]
    assert found["shell"].startswith("set NEWEST_SHELL=/")
    (gone,) = found["doctor"]
    assert gone.endswith("(NEWEST_SHELL): Newest does not start its commands through it")
    program = newest.put("other/scopekeeper", "")
    program.chmod(0o755)
    for words in (["wrap"], ["wrap", "--hooks"]):
        assert newest.call(*words, "--program", program).returncode == 0
    assert all(need == "contained" for _, need, _ in newest.python(FOUND)["setup"])
    program.unlink()
    details = newest.python(FOUND)["doctor"]
    assert [f"there is no {program}, so that they do" in each for each in details] == [
        True, True, False,
    ]  # fmt: skip


def test_its_folder_finds_plugins(packaged):
    path = packaged.put(".newest/bundle.json", SERVERS)
    checked = packaged.call("wrap", "--check")
    assert checked.returncode == 1
    assert f"{path} has servers that are not wrapped: a; it belongs to Newest's plugin bundle" in (
        checked.stderr
    )


def test_the_table_for_launches_does_not_grow_by_a_client_that_has_only_files(packaged):
    table = Path(packaged.environment["PYTHONPATH"], "scopekeeper/clients/table.py").read_text()
    assert table.count("    (") == 1 + 6
    assert "cursor" not in table


def test_a_table_that_is_wrong_is_one_warning_and_the_built_in_clients_count(newest):
    config = Path(newest.environment["SCOPEKEEPER_CONFIG"])
    config.mkdir(exist_ok=True)
    (config / "clients.toml").write_text("[mine.servers]\nfiles = ['/etc/mine.json']\n")
    path = newest.put(".cursor/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
    done = newest.call("wrap", path)
    assert done.returncode == 0
    (line,) = [each for each in done.stderr.splitlines() if "clients.toml" in each]
    assert "clients.toml: [mine]: servers.files is a list of up to 16 paths that begin" in line
    assert json.loads(path.read_text())["mcpServers"]["a"]["args"][0] == "run"
