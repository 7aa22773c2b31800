"""The plugin for Claude Code: its files are those that the client reads, its hook harms nobody."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from scopekeeper.version import __version__
from tests.machine import eventually, text_of

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "scopekeeper/clients/claude_code"
PLUGIN = CLIENT / "plugin"
HOOK = PLUGIN / "hooks/session-end.sh"
KEBAB = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
END = {"session_id": "5e0c21ab", "hook_event_name": "SessionEnd", "reason": "prompt_input_exit"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


# the files


def test_the_manifest_has_the_fields_that_the_client_reads():
    manifest = load(PLUGIN / ".claude-plugin/plugin.json")
    assert re.fullmatch(KEBAB, manifest["name"])
    assert manifest["version"] == __version__, "clients update when it changes"
    assert set(manifest) <= {"name", "version", "description", "author", "homepage", "repository",
                             "license", "keywords"}  # fmt: skip
    assert set(manifest["author"]) == {"name"}
    assert all(isinstance(each, str) for each in manifest["keywords"])
    assert len({type(manifest[key]) for key in ("name", "description", "license")}) == 1


@pytest.mark.parametrize("folder", [ROOT, CLIENT], ids=["repository", "package"])
def test_a_marketplace_leads_to_the_plugin(folder):
    market = load(folder / ".claude-plugin/marketplace.json")
    assert set(market) == {"name", "description", "owner", "plugins"}
    assert re.fullmatch(KEBAB, market["name"])
    assert market["owner"] == load(PLUGIN / ".claude-plugin/plugin.json")["author"]
    (entry,) = market["plugins"]
    source = entry.pop("source")
    assert source.startswith("./"), "else it is not a folder of the marketplace"
    assert ".." not in source
    assert (folder / source).samefile(PLUGIN)
    manifest = load(PLUGIN / ".claude-plugin/plugin.json")
    assert entry == {key: manifest[key] for key in ("name", "description")}


def test_both_marketplaces_are_the_same_one():
    one, other = (load(each / ".claude-plugin/marketplace.json") for each in (ROOT, CLIENT))
    for market in (one, other):
        market["plugins"][0].pop("source")
    assert one == other


def test_the_only_hook_is_the_end_of_a_session():
    assert sorted(each.name for each in (PLUGIN / ".claude-plugin").iterdir()) == ["plugin.json"]
    hooks = load(PLUGIN / "hooks/hooks.json")
    assert set(hooks) == {"description", "hooks"}
    ((event, (group,)),) = hooks["hooks"].items()
    assert (event, set(group)) == ("SessionEnd", {"hooks"})
    ((hook,)) = group["hooks"]
    assert set(hook) == {"type", "command"}
    assert hook["type"] == "command"
    script = re.fullmatch(r'exec sh "\$\{CLAUDE_PLUGIN_ROOT\}/(\S+)"', hook["command"])[1]
    assert PLUGIN / script == HOOK


def test_no_file_has_an_address():
    for path in (*CLIENT.rglob("*"), ROOT / ".claude-plugin/marketplace.json"):
        assert not path.is_file() or "://" not in path.read_text(encoding="utf-8"), path


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    assert subprocess.run(["shellcheck", HOOK], capture_output=True).stdout == b""


# the hook


class Client:
    """What Claude Code does at its end: it calls the hook, waits for it, and ends."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(["sleep", "600"])
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name in ("sh", "tr", "sleep", "setsid"):
            (bin_folder / name).symlink_to(shutil.which(name))
        self.program = bin_folder / "scopekeeper"
        self.script(f'echo "$*" >> {folder}/calls')

    def script(self, body):
        self.program.write_text(f"#!/bin/sh\n{body}\n")
        self.program.chmod(0o755)

    def end_session(self, event, pid=None):
        """Run the hook from a folder with a space in its path, as the client's cache may have."""
        root = self.folder / "the plugin"
        if not root.exists():
            shutil.copytree(PLUGIN, root, copy_function=shutil.copyfile)  # no executable bits
        (command,) = [each["command"] for group in load(root / "hooks/hooks.json")["hooks"].values()
                      for each in group[0]["hooks"]]  # fmt: skip
        environment = {"PATH": str(self.folder / "bin"), "CLAUDE_PLUGIN_ROOT": str(root),
                       "CLAUDE_PID": str(self.process.pid) if pid is None else pid}  # fmt: skip
        return subprocess.run(
            ["/bin/sh", "-c", command], input=event, env=environment, capture_output=True,
            text=True, timeout=300, start_new_session=True,
        )  # fmt: skip

    def end(self):
        self.process.kill()
        self.process.wait()

    @property
    def calls(self):
        return text_of(self.folder / "calls").splitlines()

    def processes(self, words):
        """Return the pids of the processes with these words in their command line."""
        return [int(each) for each in os.listdir("/proc")
                if each.isdecimal() and words in text_of(f"/proc/{each}/cmdline")]  # fmt: skip

    @property
    def waiting(self):
        """Return the pids of the hook's processes that wait: leaders of a session, as setsid does.

        Their children have the same command line until they execute ``sleep``.
        """
        script = f"{self.folder}/the plugin/hooks/session-end.sh"
        return [pid for pid in self.processes(f"{script}\0--wait\0") if _leads(pid)]

    @property
    def has_left_nothing(self):
        """Whether the hook forked no process: at its end, one would have its command line still."""
        return not self.processes(f"{self.folder}/the plugin/hooks")


def _leads(pid):
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


@pytest.fixture
def client(tmp_path):
    made = Client(tmp_path)
    yield made
    made.end()
    for pid in made.waiting:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not made.waiting)


def test_it_calls_reconcile_for_the_client_once_that_has_ended(client):
    done = client.end_session(json.dumps(END))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "it waits for nothing"
    (pid,) = eventually(lambda: client.waiting)
    assert os.getsid(pid) == pid, "it outlives the hook's process group"
    assert client.calls == []
    client.end()
    eventually(lambda: client.calls)
    eventually(lambda: not client.waiting)
    assert client.calls == [f"reconcile --owner {client.process.pid}"]


def test_a_client_that_nobody_has_reaped_yet_has_ended(client):
    client.end_session(json.dumps(END))
    client.process.kill()
    eventually(lambda: client.calls)


@pytest.mark.parametrize("text", [
    json.dumps(END | {"reason": "clear"}),
    json.dumps(END | {"reason": "clear"}, indent=2),
    json.dumps(END | {"reason": "clear"}, separators=(",", ":")),
])  # fmt: skip
def test_after_clear_nothing_waits(client, text):
    done = client.end_session(text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert client.has_left_nothing
    client.end()
    assert client.calls == []


def test_a_path_that_looks_like_the_reason_is_none(client):
    client.end_session(json.dumps(END | {"cwd": '/a "reason":"clear"'}))
    client.end()
    eventually(lambda: client.calls)


@pytest.mark.parametrize("body", [None, "echo loud; echo louder >&2; exit 1", "kill -9 $$"])
def test_a_missing_or_broken_scopekeeper_is_silent(client, body):
    client.program.unlink() if body is None else client.script(f": > {client.folder}/ran; {body}")
    done = client.end_session(json.dumps(END))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert body or client.has_left_nothing
    client.end()
    eventually((client.folder / "ran").exists if body else lambda: not client.waiting)


@pytest.mark.parametrize("event", ["", "no JSON", "{}", '{"reason": 7}', "\0\n", "{" * 100_000])
def test_any_input_is_an_end(client, event):
    done = client.end_session(event)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    client.end()
    eventually(lambda: client.calls)


@pytest.mark.parametrize("pid", ["-1", "1; touch x", "self", "0x1", "$(id)", " 1"])
def test_what_is_no_pid_is_ignored(client, pid):
    done = client.end_session(json.dumps(END), pid)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert client.has_left_nothing
    assert client.calls == []


def test_without_the_clients_pid_it_is_the_hooks_parent(client):
    """`exec` in the command leaves no shell between them."""
    done = client.end_session(json.dumps(END), "")
    assert done.returncode == 0
    (pid,) = eventually(lambda: client.waiting)
    words = text_of(f"/proc/{pid}/cmdline").split("\0")
    assert words[-2] == str(os.getpid())
