"""``scopekeeper openclaw rewrap``, and what ``status`` and ``uninstall`` make of bundles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = {"command": "cat", "args": ["-u"]}


def call(home, *words):
    """Return exit status, standard output and standard error."""
    mine = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "openclaw", *map(str, words)],
        env=mine, cwd=home, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def config(tmp_path):
    """A contained gateway's configuration, to which a server was added since."""
    made = tmp_path / ".openclaw/openclaw.json"
    made.parent.mkdir(mode=0o700)
    made.write_text('{"mcp": {"servers": {}}}')
    made.chmod(0o600)
    status, _, err = call(tmp_path, "install", "--no-keeper")
    assert status == 0, err
    write(made, {"fresh": SERVER})
    return made


def write(config, servers):
    data = json.loads(config.read_text())
    data["mcp"] = {"servers": servers}
    config.write_text(json.dumps(data))


def bundle(config, name="notes", manifest=".claude-plugin/plugin.json", file=".mcp.json", **more):
    """Make the bundle of another plugin; return its file of servers."""
    folder = config.parent / "extensions" / name
    (folder / manifest).parent.mkdir(parents=True, exist_ok=True)
    (folder / manifest).write_text(json.dumps({"name": name, **more}))
    folder.chmod(0o700)
    (folder / file).write_text('{"mcpServers": {"its": {"command": "cat", "args": ["-u"]}}}\n')
    (folder / file).chmod(0o600)
    return folder / file


def home_of(config):
    return config.parents[1]


def is_bare(config):
    return json.loads(config.read_text())["mcp"]["servers"]["fresh"] == SERVER


def test_it_wraps_what_has_appeared_and_then_finds_nothing(config):
    home = home_of(config)
    assert call(home, "rewrap", "--dry-run")[1] == f"{config}: server fresh would be wrapped\n"
    assert is_bare(config)
    assert call(home, "rewrap") == (0, f"{config}: server fresh wrapped\n", "")
    assert not is_bare(config)
    before = config.read_bytes()
    assert call(home, "rewrap") == (0, "Nothing to change.\n", "")
    assert config.read_bytes() == before


def test_a_server_can_be_left_out(config):
    write(config, {"fresh": SERVER, "other": SERVER})
    status, out, _ = call(home_of(config), "rewrap", "--json", "--except", "fresh")
    assert (status, json.loads(out)["wrapped"]) == (0, [{"file": str(config), "server": "other"}])
    assert is_bare(config)


def linked(config):
    real = config.with_name("real.json")
    config.rename(real)
    config.symlink_to(real)


def hard_linked(config):
    config.with_name("other.json").hardlink_to(config)


def writable(config):
    config.chmod(0o666)


def in_a_writable_folder(config):
    config.parent.chmod(0o777)


def unclear(config):
    write(config, {"fresh": SERVER, "odd": {"command": ["a", "b"]}})


def not_one_word(config):
    write(config, {"fresh": SERVER, "odd": {"command": "npx -y it"}})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (linked, "it is reached through a link"),
        (hard_linked, "hard links"),
        (writable, "others can write to it"),
        (in_a_writable_folder, "others can write to its folder"),
        (unclear, "server odd is not clear"),
        (not_one_word, "server odd: there is no program 'npx -y it'"),
    ],
)
def test_a_doubtful_file_is_left_as_it_is_with_one_line(config, make, why):
    make(config)
    before = config.read_bytes()
    status, out, err = call(home_of(config), "rewrap")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"scopekeeper: warning: {config}: left as it is: ")
    assert why in line
    assert config.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"mcp": {"servers": {"fresh": {"command": "cat"', "\xff", "[]", '{"plugins": 3}'],
)
def test_a_file_that_is_none_is_refused_in_one_line(config, text):
    config.write_bytes(text.encode("latin-1"))
    status, out, err = call(home_of(config), "rewrap")
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert config.read_bytes() == text.encode("latin-1")


ENTRIES = [
    {"enabled": False}, {"config": {"program": "/no/scopekeeper"}}, {"config": {"program": 3}},
    {"config": {"program": "/bin/sh"}},
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_a_launcher_that_install_has_written_nothing_is_done(config, entry):
    data = json.loads(config.read_text())
    data["plugins"]["entries"]["scopekeeper"] = entry
    config.write_text(json.dumps(data))
    status, _, err = call(home_of(config), "rewrap")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "scopekeeper openclaw install" in err
    assert is_bare(config)


BUNDLES = [
    {}, {"manifest": ".codex-plugin/plugin.json"}, {"manifest": ".cursor-plugin/plugin.json"},
    {"manifest": "plugin.json", "file": "mcp.json"},
    {"file": "servers.json", "mcpServers": "./servers.json"},
    {"file": "servers.json", "mcpServers": ["./servers.json"]},
]  # fmt: skip


@pytest.mark.parametrize("how", BUNDLES)
def test_the_servers_of_bundles_are_named_wrapped_and_restored_to_the_byte(config, how):
    file, home = bundle(config, **how), home_of(config)
    before = file.read_bytes()
    _, out, _ = call(home, "status", "--json")
    (part,) = [each for each in json.loads(out)["parts"] if each["part"] == "bundles"]
    assert part["verdict"] == "lacks"
    assert f"its ({file})" in part["detail"]
    assert part["fix"] == "scopekeeper openclaw rewrap"
    assert f"{file}: server its wrapped\n" in call(home, "rewrap")[1]
    _, out, _ = call(home, "status", "--json")
    (part,) = [each for each in json.loads(out)["parts"] if each["part"] == "bundles"]
    assert part["verdict"] == "ok"
    status, out, _ = call(home, "uninstall")
    assert (status, f"{file}: changed" in out) == (0, True)
    assert file.read_bytes() == before
    assert not file.with_name(f"{file.name}.before-scopekeeper").exists()


def test_plugins_that_are_off_or_no_bundles_are_not_looked_at(config):
    off, native = bundle(config, "off"), bundle(config, "native", manifest="openclaw.plugin.json")
    outside = config.parent / "outside.json"
    outside.write_text(off.read_text())
    bundle(config, "leaving", file="none.json", mcpServers="../../outside.json")
    data = json.loads(config.read_text())
    data["plugins"]["entries"]["off"] = {"enabled": False}
    config.write_text(json.dumps(data))
    before = [off.read_bytes(), native.read_bytes(), outside.read_bytes()]
    assert call(home_of(config), "rewrap") == (0, f"{config}: server fresh wrapped\n", "")
    assert [off.read_bytes(), native.read_bytes(), outside.read_bytes()] == before


def test_a_folder_that_the_configuration_names_is_looked_at(config, tmp_path):
    elsewhere = bundle(config, "elsewhere")
    folder = tmp_path / "plugins-of-mine"
    elsewhere.parent.rename(folder)
    data = json.loads(config.read_text())
    data["plugins"]["load"] = {"paths": [str(folder), 3, "relative"]}
    config.write_text(json.dumps(data))
    assert f"{folder}/.mcp.json: server its wrapped\n" in call(tmp_path, "rewrap")[1]
