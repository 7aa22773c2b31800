"""What doctor finds about the environment of its caller."""

import json
from pathlib import Path

import pytest

from scopekeeper.cli import doctor
from scopekeeper.doctor import machine, mcp_servers, parts
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.policy import files
from scopekeeper.scope.placement import Place


def test_a_shell_of_ours_that_is_not_there_is_told_and_any_other_shell_is_not(
    tmp_path: Path, monkeypatch
) -> None:
    shell = tmp_path / "scopekeeper-shell"
    monkeypatch.setenv("SHELL", str(shell))
    (found,) = parts.shell()
    assert (found.status, str(shell) in found.detail) == (Status.LIMIT, True)
    shell.touch(mode=0o755)
    (found,) = parts.shell()
    assert found.status is Status.OK
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert not list(parts.shell())


@pytest.mark.parametrize(("options", "words"), [
    ("rw,nsdelegate,favordynmods,memory_recursiveprot", "at once: /mnt is mounted with"),
    ("rw,nsdelegate", "mount -o remount,favordynmods /mnt"),
])  # fmt: skip
def test_it_reports_whether_moves_between_cgroups_wait(
    options: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.proc, "mount_point", lambda: "/mnt")
    monkeypatch.setattr(machine.mounts, "options_of", lambda _: options)
    monkeypatch.setattr(machine.containers, "in_container", lambda: False)
    (found,) = machine.moves()
    assert (found.status, words in found.detail) == (Status.OK, True)
    monkeypatch.setattr(machine.containers, "in_container", lambda: True)
    assert not list(machine.moves())


def test_a_table_of_clients_is_checked_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(tmp_path).encode())
    assert not list(parts.clients())
    table = tmp_path / "clients.toml"
    table.write_text('[mine]\nprograms = ["mine"]\n')
    (found,) = parts.clients()
    assert (found.status, found.detail) == (Status.OK, str(table))
    table.write_text("[mine]\n")
    (found,) = parts.clients()
    assert (found.status, "[mine]: name its programs" in found.detail) == (Status.LIMIT, True)
    table.chmod(0o666)
    (found,) = parts.clients()
    assert (found.status, "others can write to it" in found.detail) == (Status.LIMIT, True)


def test_groups_of_hosts_are_checked_if_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(tmp_path).encode())
    assert not list(parts.hosts())
    table = tmp_path / "hosts.toml"
    table.write_text('[groups]\nbuild = ["build1", "build2"]\n')
    (found,) = parts.hosts()
    assert (found.status, found.detail) == (Status.OK, "groups for -H: @build")
    wrong = {
        "[groups\n": "hosts.toml: ", "[group]\n": "unknown table 'group'",
        '[groups]\nbuild = "build1"\n': "build: it is a list of hosts",
        '[groups]\nbuild = ["-oProxyCommand=x"]\n': "is no host",
    }  # fmt: skip
    for text, words in wrong.items():
        table.write_text(text)
        (found,) = parts.hosts()
        assert (found.status, words in found.detail) == (Status.LIMIT, True), found
        assert found.fix
    table.chmod(0o666)
    (found,) = parts.hosts()
    assert (found.status, "others can write to it" in found.detail) == (Status.LIMIT, True)
    table.unlink()
    table.mkdir()
    (found,) = parts.hosts()
    assert found.status is Status.LIMIT


def test_commands_whose_program_cannot_be_executed_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(tmp_path).encode())
    assert not list(parts.commands())
    tool, policy = tmp_path / "tool", tmp_path / "config.toml"
    tool.touch(mode=0o644)
    policy.write_text(
        f'[on_end.one]\ncommand = ["{tool}"]\n[on_event.two]\nevents = ["OrphanFound"]\n'
        'command = ["no-such-program"]\n[on_end.off]\nenabled = false\ncommand = ["neither"]\n'
    )
    one, two = parts.commands()
    assert (one.status, two.status) == (Status.LIMIT, Status.LIMIT)
    assert one.detail == f"on_end.one ({policy}:2): {tool} is not executable"
    assert two.detail.startswith(f"on_event.two ({policy}:5): there is no program no-such-program ")
    policy.write_text(f'[on_end.one]\ncommand = ["{tool}"]\n')
    tool.chmod(0o755)
    (found,) = parts.commands()
    assert found.status is Status.OK
    policy.write_text("[on_end.one\n")
    assert not list(parts.commands()), "that is what the check of the policy reports"


def test_a_slice_that_is_not_installed_is_said_to_be_no_lack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before `scopekeeper install` it stands among the first lines that anybody sees."""
    where = Place("/sys/fs/cgroup", "/sys/fs/cgroup/x", "user", "/user.slice")
    monkeypatch.setattr(parts, "UNIT_FOLDERS", {"user": [str(tmp_path)]})
    (found,) = parts.slice_(where)
    assert found.status is Status.NOTE
    assert "need not be: systemd creates it with the first scope" in found.detail
    assert found.fix == "scopekeeper install --user"
    (tmp_path / "scopekeeper.slice").touch()
    (found,) = parts.slice_(where)
    assert found.status is Status.OK


def test_a_program_in_claude_codes_settings_that_is_gone_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    assert not list(mcp_servers.in_settings())
    program = tmp_path / "scopekeeper-prefix"
    (tmp_path / ".claude").mkdir()
    settings = {"env": {"CLAUDE_CODE_SHELL_PREFIX": str(program)}}
    (tmp_path / ".claude/settings.json").write_text(json.dumps(settings))
    (found,) = mcp_servers.in_settings()
    assert (found.status, f"there is no {program}" in found.detail) == (Status.LIMIT, True)
    program.touch(mode=0o755)
    (found,) = mcp_servers.in_settings()
    assert found.status is Status.OK


def test_a_state_folder_that_cannot_be_made_is_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOPEKEEPER_STATE", str(tmp_path / "file/state"))
    assert parts.state_folder().status is Status.OK
    (tmp_path / "file").touch()
    found = parts.state_folder()
    assert (found.status, str(tmp_path / "file") in found.detail) == (Status.LIMIT, True)


@pytest.mark.parametrize("width", [40, 80])
def test_on_a_terminal_a_finding_fits_and_a_command_stays_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    found = Finding("slice", Status.NOTE, "a word, " * 20 + "the last", "mend " * 30 + "it")
    monkeypatch.setattr(doctor, "examine", lambda: [found])
    monkeypatch.setattr(doctor, "terminal_width", lambda: width)
    with pytest.raises(SystemExit):
        doctor.command.main([], standalone_mode=False)
    *lines, command, _ = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(line[20:] for line in lines) == found.detail
    assert command == f"{'':20}→ {found.fix}"
