"""A user's own client whose table is broken, or gone: its wrapped file is not forgotten in silence.

Each call is a process of its own, with real files.
"""

import json

import pytest

from tests.unit import test_cli_uninstall
from tests.unit.test_cli_wrap import call

TABLE = """
[acme-agent]
programs = ["acme"]
[acme-agent.servers]
places = [["acme", "tools"]]
files = ["$HOME/.acme/servers.json"]
[acme-agent.hooks]
end = ["bye"]
[acme-agent.hook_settings]
events = ["bye"]
folders = ["$HOME/.acme"]
file = "hooks.json"
"""
BROKEN = TABLE.replace("[acme-agent.servers]", "[acme-agent.servers]\nbogus = 1")
SERVERS = '{"acme": {"tools": {"a": {"command": "x"}}}}'


class Acme:
    """A home with the client, wrapped."""

    def __init__(self, home):
        self.home, self.config = home, home / "config"
        self.config.mkdir()
        self.table = self.config / "clients.toml"
        self.file = home / ".acme/servers.json"
        self.file.parent.mkdir()
        self.file.write_text(SERVERS)
        self.table.write_text(TABLE)
        assert self.call("wrap", "--client", "acme-agent")[0] == 0
        self.wrapped = self.file.read_text()
        assert '"scopekeeper"' in self.wrapped or "/scopekeeper" in self.wrapped

    def call(self, *words):
        return call(self.home, *words, SCOPEKEEPER_CONFIG=str(self.config))


@pytest.fixture
def acme(tmp_path):
    made = Acme(tmp_path)
    made.table.write_text(BROKEN)
    return made


@pytest.mark.parametrize(
    "words", [[], ["--json"], ["--dry-run"], ["--hooks"], ["--hooks", "--json"],
              ["--client", "cursor"]]
)  # fmt: skip
def test_unwrap_warns_and_exits_with_1(acme, words):
    status, out, err = acme.call("unwrap", *words)
    assert status == 1
    (line,) = [each for each in err.splitlines() if "clients.toml" in each]
    assert f"{acme.table}: [acme-agent]: " in line
    assert acme.file.read_text() == acme.wrapped
    if "--json" in words:
        assert json.loads(out)
    acme.table.write_text(TABLE)
    assert acme.call("unwrap")[0] == 0
    assert acme.file.read_text() == SERVERS


def test_other_files_are_unwrapped_all_the_same(acme):
    cursor = acme.home / ".cursor/mcp.json"
    cursor.parent.mkdir()
    servers = '{"mcpServers": {"a": {"command": "x"}}}'
    cursor.write_text(servers)
    assert acme.call("wrap", cursor)[0] == 0
    status, _, err = acme.call("unwrap", cursor)  # its client is known: nothing is missed
    assert (status, "clients.toml" in err) == (0, True)
    assert cursor.read_text() == servers
    assert acme.call("wrap", cursor)[0] == 0
    assert acme.call("unwrap")[0] == 1
    assert cursor.read_text() == servers


@pytest.mark.parametrize("command", ["wrap", "unwrap"])
def test_a_client_that_is_not_known_names_the_broken_table(acme, command):
    status, _, err = acme.call(command, "--client", "acme-agent")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "Invalid value for '--client': 'acme-agent' is not one of " in err
    assert f"; {acme.table}: [acme-agent]: " in err
    assert "only the built-in table of clients applies; see `scopekeeper" in err


def test_a_near_name_names_it_too(acme):
    status, _, err = acme.call("unwrap", "--client", "curser")
    assert status == 2
    assert "Did you mean 'cursor'? All: " in err
    assert f"; {acme.table}: " in err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_of_no_known_form_names_its_backup(acme, is_there):
    acme.table.unlink()
    backup = acme.file.with_name("servers.json.before-scopekeeper")
    if not is_there:
        backup.unlink()
    status, _, err = acme.call("unwrap", acme.file)
    assert status == 1
    before = f"; as it was before `wrap`: {backup}" * is_there
    start = f"{acme.file}: has no servers where a client known here or in clients.toml has them"
    assert f"{start}{before}; give --format CLIENT" in err
    assert acme.file.read_text() == acme.wrapped


home, uninstall = test_cli_uninstall.home, test_cli_uninstall.call


def test_uninstall_warns(home, uninstall, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.mkdir()
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(config))
    assert "clients.toml" not in uninstall().err
    (config / "clients.toml").write_text(BROKEN)
    (line,) = [each for each in uninstall().err.splitlines() if "clients.toml" in each]
    assert f"{config}/clients.toml: [acme-agent]: " in line
    assert "a file of a client in it may still be wrapped; correct it, and run `scope" in line
    assert "clients.toml" not in uninstall("--gateway", "x.service").err
