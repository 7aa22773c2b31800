"""``scopekeeper status`` in homes full of samples, on one screen; without systemd."""

import json
import os
import shutil
import sys
import time

import pytest

from scopekeeper.cli import status
from scopekeeper.cli.main import group
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import HistoryError, UnavailableError
from scopekeeper.history.end import End
from scopekeeper.history.store import HistoryStore
from scopekeeper.openclaw.status import Containment, GatewayFinding, Session
from scopekeeper.scope.reason import Reason
from scopekeeper.setup import gateways, running_now, step
from scopekeeper.setup.running_now import Load
from tests.unit.terminals import printed
from tests.unit.test_cli_wrap import HOMES, ROOT, SAMPLES, SIMPLE

WRAPPED = '{"mcpServers": {"a": {"command": "scopekeeper", "args": ["run", "-n", "a", "--", "x"]}}}'


def no_manager(*_):
    raise UnavailableError("systemd does not run here")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home on a machine on which a keeper runs, and nothing else."""
    for name in list(os.environ):
        if name.startswith(("XDG_", "OPENCLAW_", "CLAUDE_", "CODEX_", "SCOPEKEEPER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    launcher = tmp_path / "scopekeeper"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(step, "Systemctl", no_manager)
    monkeypatch.setattr(gateways.parts, "gateways", lambda _: ())
    monkeypatch.setattr(status.choose_placement, "find", lambda *_: None)
    monkeypatch.setattr(status.unseen, "collect", str)
    keeper(monkeypatch, Status.OK, "runs; learns how processes ended by: pidfd")
    runs(monkeypatch)
    return tmp_path


def keeper(monkeypatch, state, detail, fix=""):
    monkeypatch.setattr(status.parts, "keeper", lambda _: Finding("keeper", state, detail, fix))


def runs(monkeypatch, whole=None, **loads):
    monkeypatch.setattr(running_now, "by_owner", lambda _: (whole or Load(), loads))


@pytest.fixture
def cursor(home):
    path = home / ".cursor/mcp.json"
    path.parent.mkdir()
    path.write_text(WRAPPED)
    return path


@pytest.fixture
def call(capsys):
    """Return exit status and standard output of a call."""

    def do(*words):
        with pytest.raises(SystemExit) as ended:
            status.command.main(words, standalone_mode=False, **group.context_settings)
        return ended.value.code, capsys.readouterr().out

    return do


def test_everything_is_contained(cursor, call, monkeypatch):
    runs(monkeypatch, Load(2, 5, 3 << 20), Cursor=Load(1, 3, 2 << 20), others=Load(1, 2, 1 << 20))
    code, out = call()
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[0] == ["WHAT", "STATE", "SCOPES", "PROCS", "MEMORY", "DETAIL"]
    assert lines[1] == ["Cursor", "contained", "1", "3", "2M", "1", "server", "wrapped"]
    assert lines[2][:5] == ["others", "contained", "1", "2", "1M"]
    assert "keeper  runs\n" in out
    assert "runs    2 scopes, 5 processes, 3M\n" in out
    assert "today   0 ended\n" in out
    assert out.endswith("Nothing needs a hand.\n")
    document = json.loads(call("--json")[1])
    assert document["contained"] is True
    assert document["found"] == [
        {"what": "Cursor", "state": "contained", "detail": "1 server wrapped", "scopes": 1,
         "processes": 3, "memory_bytes": 2 << 20},
        {"what": "others", "state": "contained", "detail": "owned by no known client",
         "scopes": 1, "processes": 2, "memory_bytes": 1 << 20},
    ]  # fmt: skip
    assert document["runs"] == {"scopes": 2, "processes": 5, "memory_bytes": 3 << 20}


def test_each_thing_that_needs_a_hand_has_its_command(cursor, home, call, monkeypatch):
    cursor.write_text(SIMPLE)
    (home / ".gemini").mkdir()
    (home / ".gemini/settings.json").write_text("{ not JSON")
    keeper(monkeypatch, Status.NOTE, "does not run", "scopekeeper install --user")
    lost = Load(2, 2, None, lost=2)
    runs(monkeypatch, lost)
    code, out = call()
    assert code == 1
    assert "  Cursor: 2 servers are not wrapped\n    scopekeeper setup\n" in out
    assert "  Gemini CLI: its file cannot be read: " in out
    gemini = f"{home}/.gemini/settings.json"
    assert f"    correct {gemini}, then: scopekeeper wrap {gemini}\n" in out
    assert "  keeper: does not run\n    scopekeeper install --user\n" in out
    assert "  leftovers: 2 scopes have lost their owner\n    scopekeeper reconcile\n" in out
    document = json.loads(call("--json")[1])
    assert document["contained"] is False
    assert [each["command"] for each in document["needs_a_hand"]] == [
        "scopekeeper reconcile", "scopekeeper setup",
        f"correct {gemini}, then: scopekeeper wrap {gemini}", "scopekeeper install --user",
    ]  # fmt: skip


def test_leftovers_are_left_to_a_keeper_that_runs(cursor, call, monkeypatch):
    runs(monkeypatch, Load(2, 2, None, lost=2))
    assert call()[0] == 0


def test_a_launcher_that_is_gone_needs_a_hand(cursor, call):
    cursor.write_text(WRAPPED.replace('"scopekeeper"', '"/gone/scopekeeper"'))
    code, out = call()
    assert code == 1
    assert "a: there is no /gone/scopekeeper" in out
    assert "scopekeeper wrap --update" in out


def end(ended, reason, member, processes):
    return End(member, 1, int(ended * 1e6), "s", "main", "n", reason, processes=processes)


def test_today_is_what_ended_since_midnight(cursor, home, call):
    (home / "state").mkdir(mode=0o700)
    now = time.time()
    midnight = time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    HistoryStore(home / "state").write([
        end(midnight - 1, Reason.OWNER_GONE, "00000001", 9),
        end(midnight, Reason.OWNER_GONE, "00000002", 2),
        end(now, Reason.ABANDONED, "00000003", 3),
        end(now, Reason.EXITED, "00000004", 1),
        end(now, Reason.STOPPED, "00000005", 1),
    ])  # fmt: skip
    _, out = call()
    cleaned = "2 of them cleaned up: 1 owner gone, 1 abandoned; 5 processes"
    assert f"today   4 ended, {cleaned}\n" in out
    document = json.loads(call("--json")[1])
    assert document["today"] == {"ended": 4, "cleaned_up": 2, "processes": 5,
                                 "reasons": {"owner gone": 1, "abandoned": 1}}  # fmt: skip


def test_a_history_that_cannot_be_read_is_a_warning(cursor, call, monkeypatch, capsys):
    def read():
        raise HistoryError("it is damaged")

    monkeypatch.setattr(status.today, "read", read)
    with pytest.raises(SystemExit) as ended:
        status.command.main([], standalone_mode=False, **group.context_settings)
    assert ended.value.code == 0
    assert "scopekeeper: warning: the history cannot be read: it is damaged\n" in (
        capsys.readouterr().err
    )


def test_what_ended_is_unknown_where_the_history_cannot_be_read(cursor, monkeypatch, capsys):
    def read():
        raise HistoryError("the history cannot be read: history.db: Permission denied")

    monkeypatch.setattr(status.today, "read", read)
    with pytest.raises(SystemExit):
        status.command.main([], standalone_mode=False, **group.context_settings)
    printed = capsys.readouterr()
    assert "today   unknown\n" in printed.out
    assert printed.err == (
        "scopekeeper: warning: the history cannot be read: history.db: Permission denied\n"
    )
    with pytest.raises(SystemExit):
        status.command.main(["--json"], standalone_mode=False, **group.context_settings)
    assert json.loads(capsys.readouterr().out)["today"] is None


def test_rules_that_are_not_in_force_need_a_hand(cursor, home, call, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(home / "config"))
    (home / "config").mkdir()
    file = home / "config/config.toml"
    file.write_text('[lanes.cron]\nttl = "2h"\n')
    assert call()[0] == 0
    file.write_text("[lanes.cron\n")
    code, out = call("--no-trunc")
    assert code == 1
    assert f"  rules: {file}:1: Expected ']'" in out
    assert "\n    scopekeeper policy check\n" in out
    file.write_text("")
    file.chmod(0o666)
    code, out = call("--no-trunc")
    assert code == 1
    assert "is ignored: others can write to it" in out


def test_a_service_without_a_home_is_shown_what_runs(call, home, monkeypatch):
    runs(monkeypatch, Load(2, 5, None))
    monkeypatch.delenv("HOME")
    code, out = call()
    assert code == 0
    assert "runs    2 scopes, 5 processes\n" in out


def test_openclaw_is_judged_as_its_own_status_does(home, call, monkeypatch):
    path = home / ".openclaw/openclaw.json"
    path.parent.mkdir()
    shutil.copyfile(SAMPLES / "openclaw.json", path)
    findings = [
        GatewayFinding("servers", Containment.OK, "2 of 2 contained"),
        GatewayFinding("gateway 7", Containment.LACKS, "it started before", "restart it"),
        GatewayFinding("gateway 8", Containment.LACKS, "it started earlier", "restart it"),
    ]
    sessions = [Session("-", "-", "-", "", "not contained", 0, 1, "pid 7: x", "wrap it")]
    judged = status.openclaw_status.Judged(findings, sessions, None)
    monkeypatch.setattr(status.openclaw_status, "judge", lambda: judged)
    code, out = call()
    assert code == 1
    assert "  OpenClaw: it started before\n    restart it\n" in out
    assert "  OpenClaw: pid 7: x\n    wrap it\n" in out
    install = "scopekeeper openclaw install && restart it"
    findings.append(GatewayFinding("plugin", Containment.OFF, "not installed", install))
    code, out = call()
    assert code == 1
    assert out.endswith(f"Needs a hand:\n  OpenClaw: not installed\n    {install}\n")
    findings[1:] = [GatewayFinding("gateway 7", Containment.STARTING, "it starts")]
    sessions.clear()
    code, out = call()
    assert code == 1
    assert "  OpenClaw: it starts\n    scopekeeper openclaw status\n" in out
    del findings[1:], sessions[:]
    findings.append(GatewayFinding("gateway 7", Containment.OK, "OpenClaw 1, with the plugin"))
    code, out = call()
    assert code == 0
    assert "OpenClaw 1, with the plugin" in out


def test_where_nothing_is_found_setup_is_named(home, call):
    code, out = call()
    assert code == 0
    assert "`scopekeeper setup` prints what to do" in out


def test_without_a_place_for_scopes_doctor_is_named(cursor, call, monkeypatch):
    def find(_):
        raise UnavailableError("no cgroup2 is mounted")

    monkeypatch.setattr(status.choose_placement, "find", find)
    code, out = call()
    assert code == 1
    assert "  this machine: no cgroup2 is mounted\n    scopekeeper doctor\n" in out


def test_a_home_with_every_client_fits_one_screen(home):
    for name, sample in HOMES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLES / sample, path)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
                   "SCOPEKEEPER_STATE": str(home / "state")}  # fmt: skip
    lines = printed([sys.executable, "-m", "scopekeeper", "status"], env=environment, cwd=home)
    assert len(lines) <= 24
    # where a manager of another home answers, its folder is named, as long as it is
    cut = [line for line in lines if str(home) not in line]
    assert max(map(len, cut)) <= 80, "\n".join(lines)
    assert any("more, " in line and "--no-trunc shows them" in line for line in lines)
    assert "    scopekeeper setup" in lines


def test_a_table_of_clients_that_does_not_count_needs_a_hand(cursor, home, call, monkeypatch):
    monkeypatch.setenv("SCOPEKEEPER_CONFIG", str(home / "config"))
    assert call()[0] == 0
    (home / "config").mkdir()
    (home / "config/clients.toml").write_text("[mine.servers]\nbogus = 1\n")
    code, out = call("--no-trunc")
    assert code == 1
    assert f"  clients.toml: {home}/config/clients.toml: [mine]: " in out
    assert "\n    scopekeeper doctor\n" in out
    (hand,) = json.loads(call("--json")[1])["needs_a_hand"]
    assert (hand["what"], hand["command"]) == ("clients.toml", "scopekeeper doctor")
