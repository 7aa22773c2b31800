"""The keeper's rule ``rewrap``: real folders, inotify and commands, in a home of its own."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper.keeper.jobs import Jobs
from scopekeeper.keeper.rewrap import Rewrap
from scopekeeper.kernel.inotify import IN_ONLYDIR, Inotify

ROOT = Path(__file__).parents[2]
QUIET = 0.2
LIMIT = 60.0
STRANGER = {"command": "cat", "args": ["-u"]}


class Kept:
    """A home, and what of the keeper follows the rule there."""

    def __init__(self, home: Path, records) -> None:
        self.home, self.is_on = home, True
        self._records = records

    def contain(self, profile=""):
        """Have OpenClaw's configuration contained; return its path."""
        config = self.home / f".openclaw{'-' if profile else ''}{profile}" / "openclaw.json"
        config.parent.mkdir(mode=0o700)
        config.write_text('{"mcp": {"servers": {}}}')
        config.chmod(0o600)
        options = ["--profile", profile] if profile else []
        done = subprocess.run(
            [sys.executable, "-m", "scopekeeper", "openclaw", "install", "--no-keeper", *options],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return config

    def play(self, *acts):
        """Follow the rule; act, with a condition to wait for after each act."""
        asyncio.run(self._play(acts))

    async def _play(self, acts):
        loop = asyncio.get_running_loop()
        jobs = Jobs(loop, lambda: None)
        inotify = Inotify(lambda: None, _fail)
        loop.add_reader(inotify.fileno(), inotify.dispatch)
        added = []

        def watch(path, mask, notify):
            added.append(path)
            return inotify.add(path, mask | IN_ONLYDIR, notify) is not None

        try:
            self.rewrap = Rewrap(jobs, watch, lambda: self.is_on, home=str(self.home), quiet=QUIET)
            self.rewrap.follow()
            for act, condition in acts:
                act()
                async with asyncio.timeout(LIMIT):
                    await _until(condition)
            self.watched = added
        finally:
            await jobs.finish(LIMIT)
            loop.remove_reader(inotify.fileno())
            inotify.close()

    @property
    def lines(self):
        return [each.getMessage() for each in self._records.records]


async def _until(condition):
    while not condition():  # noqa: ASYNC110  files and lines set no event
        await asyncio.sleep(0.02)


def _fail(error):
    raise error


@pytest.fixture
def kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    caplog.set_level(logging.INFO, "scopekeeper")
    tmp_path.chmod(0o700)
    return Kept(tmp_path, caplog)


def servers(config):
    data = json.loads(config.read_text())
    return (data.get("mcp", {}).get("servers") or {}) if "mcp" in data else data["mcpServers"]


def add(config, name, server=STRANGER):
    """Write a server as OpenClaw does: into a new file, which replaces the old one."""
    data = json.loads(config.read_text())
    data.setdefault("mcp", {}).setdefault("servers", {})[name] = server
    new = config.with_name("openclaw.json.tmp")
    new.write_text(json.dumps(data))
    new.chmod(0o600)
    new.rename(config)


def is_wrapped(config, name):
    server = servers(config).get(name, {})
    return server.get("args", [])[:1] == ["run"] and server["args"][-2:] == ["cat", "-u"]


def quiet(seconds=4 * QUIET):
    """Return a condition that holds after so long."""
    until = []

    def over():
        loop = asyncio.get_running_loop()
        until[:] = until or [loop.time() + seconds]
        return loop.time() > until[0]

    return over


def nothing():
    pass


def test_a_server_that_appears_is_wrapped_once_with_one_line(kept):
    config = kept.contain()
    kept.play(
        (lambda: add(config, "one"), lambda: is_wrapped(config, "one")),
        (nothing, quiet()),
    )
    assert kept.lines == [f"{config}: server one has appeared, and was wrapped"]
    assert "--real-shell" in servers(config)["one"]["args"]


def test_what_was_there_before_is_wrapped_too_and_again_after_a_change(kept):
    config = kept.contain("work")
    add(config, "one")
    kept.play(
        (nothing, lambda: is_wrapped(config, "one")),
        (lambda: add(config, "two"), lambda: is_wrapped(config, "two")),
    )
    assert len(kept.lines) == 2


def test_nothing_is_watched_and_nothing_done_while_the_rule_is_off(kept):
    config = kept.contain()
    kept.is_on = False
    kept.play((lambda: add(config, "one"), quiet()))
    assert servers(config)["one"] == STRANGER
    assert kept.watched == []
    assert not kept.rewrap


def test_a_gateway_that_comes_later_is_followed(kept):
    kept.play(
        (nothing, quiet()),
        (lambda: add(kept.contain(), "one"),
         lambda: is_wrapped(kept.home / ".openclaw/openclaw.json", "one")),
    )  # fmt: skip


def test_a_gateway_that_is_not_contained_stays_so(kept):
    config = kept.home / ".openclaw/openclaw.json"
    config.parent.mkdir(mode=0o700)
    config.write_text(json.dumps({"mcp": {"servers": {"one": STRANGER}}}))
    kept.play((nothing, lambda: bool(kept.lines)))
    assert servers(config)["one"] == STRANGER
    (line,) = kept.lines
    assert "this gateway is not contained" in line


def test_a_file_that_is_half_written_is_left_until_it_is_whole(kept):
    config = kept.contain()
    half = config.read_text()[:-5]
    whole = config.read_text()

    def mend():
        config.write_text(whole)
        add(config, "one")

    kept.play(
        (lambda: config.write_text(half), lambda: bool(kept.lines)),
        (lambda: config.write_text(half + " "), quiet()),
        (mend, lambda: is_wrapped(config, "one")),
    )
    assert "openclaw.json:" in kept.lines[0]
    assert config.with_name("openclaw.json.before-scopekeeper").exists()


def test_a_server_that_is_unwrapped_at_once_is_left_alone(kept):
    config = kept.contain()
    kept.play(
        (lambda: add(config, "one"), lambda: is_wrapped(config, "one")),
        (nothing, quiet()),
        (lambda: add(config, "one"), lambda: "left as it is" in kept.lines[-1]),
        (lambda: add(config, "two"), lambda: is_wrapped(config, "two")),
        (nothing, quiet()),
    )
    assert servers(config)["one"] == STRANGER
    left = "was unwrapped just after it was wrapped, and is left as it is"
    said = [line for line in kept.lines if "server one" in line]
    assert said[1:] == [f"{config}: server one {left} until the keeper starts again"]


def test_the_servers_of_a_plugin_that_is_installed_are_wrapped(kept):
    config = kept.contain()
    file = config.parent / "extensions/notes/.mcp.json"

    def install():
        (file.parent / ".claude-plugin").mkdir(parents=True)
        (file.parent / ".claude-plugin/plugin.json").write_text('{"name": "notes"}')
        file.write_text(json.dumps({"mcpServers": {"notes": STRANGER}}))
        file.chmod(0o600)
        file.parent.chmod(0o700)

    kept.play((install, lambda: file.exists() and is_wrapped(file, "notes")))
    assert kept.lines == [f"{file}: server notes has appeared, and was wrapped"]
