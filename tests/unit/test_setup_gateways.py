"""Which services are gateways, by what their units start."""

import os
import shlex

import pytest

from scopekeeper.setup import gateways as step
from scopekeeper.setup import unit_files
from scopekeeper.setup.exec_start import OURS, commands, gateway_of, in_scope
from scopekeeper.setup.gateways import gateways, is_inside
from scopekeeper.setup.servers_outside import is_server
from scopekeeper.systemd.lingering import user_name

HERMES = "/usr/local/lib/hermes-agent/venv/bin/python -m hermes_cli.main gateway run --replace"
STARTS = {
    "/usr/bin/scopekeeper run -n gateway -- /opt/x": OURS,
    "-/usr/bin/hermes gateway": "hermes",
    HERMES: "hermes",
    "/usr/bin/node \\\n  /node_modules/@openai/codex/c.js": "codex",
    "/bin/bash -lc 'cd /srv && PORT=1 exec codex app-server'": "codex",
    '/bin/sh -c "sleep 1; opencode serve --port 4096"': "opencode",
    "/usr/bin/env -u A B=1 hermes gateway run": "hermes",
    "@/usr/bin/claude claude-agent remote-control": "claude-code",
    "/usr/bin/timeout 60 claude -p x": "claude-code",
    "/usr/bin/npx -y @anthropic-ai/claude-code@2.1.332 -p x": "claude-code",
    "/usr/bin/uvx --from hermes-agent hermes gateway": "hermes",
    "/usr/bin/sudo -u me /usr/bin/opencode serve": "opencode",
    "/usr/bin/nginx": "",
    "/usr/bin/scopekeeper ls": "",
    "/usr/bin/python3 -m http.server": "",
    "/usr/bin/rsync -a /home/me/code /srv/zed": "",
    "/usr/bin/npm run code": "",
    "/bin/sh /opt/start.sh": "",
    "/bin/sh -c 'unclosed": "",
    "/bin/sh -c": "",
    "": "",
}


@pytest.mark.parametrize(("start", "client"), STARTS.items(), ids=STARTS)
def test_a_gateway_is_known_by_its_command(start, client):
    found = commands(f"[Service]\nExecStart={start}\n")
    assert next((gateway_of(each) for each in found), "") == client


def test_an_empty_line_resets_the_commands_before_it():
    text = "ExecStart=/usr/bin/claude\n[Service]\nExecStart=\n ExecStart = /bin/true\n"
    assert commands(text) == [["/bin/true"]]


def test_a_shell_in_a_shell_without_end_is_not_followed():
    line = "claude"
    for _ in range(6):
        line = f"sh -c {shlex.quote(line)}"
    assert gateway_of(shlex.split(line)) == ""


def write(folder, **units):
    for name, start in units.items():
        path = folder / f"{name.replace('_', '-')}.service"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[Service]\nExecStart={start}\n")


def test_services_are_read_where_a_manager_looks_for_them(tmp_path):
    first, last = tmp_path / "config", tmp_path / "lib"
    write(first, one="/usr/bin/claude", changed="/bin/true", openclaw_gateway="/usr/bin/openclaw",
          scopekeeper="/usr/bin/scopekeeper run -- x")  # fmt: skip
    write(last, one="/bin/true", two="/usr/bin/opencode serve", masked="/usr/bin/claude",
          plain="/bin/true", changed="/usr/bin/claude")  # fmt: skip
    (first / "many@.service").write_text("[Service]\nExecStart=/usr/bin/hermes\n")
    (first / "masked.service").symlink_to("/dev/null")
    (first / "alias.service").symlink_to(last / "two.service")
    (first / "plain.service.d").mkdir()
    (first / "plain.service.d/own.conf").write_text(
        "[Service]\nExecStart=\nExecStart=/usr/bin/scopekeeper run -- /opt/x\n"
    )
    (first / "plain.service.d/10-scopekeeper.conf").write_text("[Service]\nExecStart=\n")
    os.mkfifo(first / "fifo.service")
    (tmp_path / "link").symlink_to(last)
    folders = [str(first), str(last), str(tmp_path / "link"), str(tmp_path / "none")]
    assert [*gateways(folders)] == ["one.service", "plain.service", "two.service"]


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        ("User={name}", "sudo scopekeeper install --system --gateway {unit}"),
        ("User={uid}", "sudo scopekeeper install --system --gateway {unit}"),
        ("User={name}\nDelegate=yes", ""),
        ("User=somebody", None),
        ("", None),
    ],
)
def test_a_service_of_the_system_that_runs_as_this_user_is_roots(
    tmp_path, monkeypatch, lines, command
):
    monkeypatch.setattr(step, "UNIT_FOLDERS", {"system": [str(tmp_path)]})
    who = {"name": user_name(os.getuid()), "uid": os.getuid()}
    text = f"[Service]\n{lines.format(**who)}\nExecStart=/usr/bin/hermes gateway\n"
    (tmp_path / "my-hermes.service").write_text(text)
    found = [each.command for each in step.Gateways()._of_system()]
    assert found == ([] if command is None else [command.format(unit="my-hermes.service")])
    (tmp_path / "my-hermes.service.d").mkdir()
    (tmp_path / "my-hermes.service.d/10-scopekeeper.conf").write_text("[Service]\n")
    assert not any(each.command for each in step.Gateways()._of_system())


def test_the_last_value_of_a_key_counts():
    text = "[Service]\nUser=a\nUser = b\nDelegate=yes"
    assert [unit_files.value(text, key) for key in ("User", "Delegate", "Slice")] == [
        "b", "yes", "",
    ]  # fmt: skip


RUN = "/opt/venv/bin/scopekeeper run -n gateway --"


@pytest.mark.parametrize(
    ("lines", "living", "wanted"),
    [
        (f"Delegate=yes\nExecStart={RUN} /opt/x", None, True),
        (f"Delegate=cpu memory\nExecStart=-{RUN} /opt/x --lifetime detached", None, True),
        (f"Delegate=yes\nExecStart={RUN} /opt/x", False, False),
        ("Delegate=yes\nExecStart=/bin/sh /opt/starts-run", True, True),
        ("Delegate=yes\nExecStart=/bin/sh /opt/starts-run", None, False),
        (f"Delegate=yes\nExecStart=/usr/bin/timeout 60 {RUN} /opt/x", None, False),
        ("Delegate=yes\nExecStart=scopekeeper run --placement user -- /opt/x", None, False),
        ("Delegate=yes\nExecStart=scopekeeper run --lifetime=detached -- /opt/x", None, False),
        ("Delegate=yes\nExecStart=scopekeeper run --no-such -- /opt/x", None, False),
        (f"Delegate=yes\nEnvironment=SCOPEKEEPER_PLACEMENT=user\nExecStart={RUN} x", None, False),
        (f"Delegate=yes\nDelegate=no\nExecStart={RUN} /opt/x", None, False),
        (f"ExecStart={RUN} /opt/x", None, False),
        (f"ExecStart={RUN} /opt/x", True, False),
        ("Delegate=yes", None, False),
    ],
)
def test_scopes_lie_in_a_service_that_delegates_its_cgroup_and_is_run(lines, living, wanted):
    assert is_inside(f"[Service]\n{lines}\n", living) is wanted


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("ExecStart=/opt/x 'a b' %i", f"{RUN} /opt/x 'a b' %i"),
        ("ExecStart=-:/opt/x \\\n  y", f"-:{RUN} /opt/x    y"),
        ("ExecStart=/opt/old\nExecStart=\nExecStart=/opt/x", f"{RUN} /opt/x"),
        (f"ExecStart={RUN} /opt/x", f"{RUN} /opt/x"),
        ("ExecStart=@/opt/x name", f"{RUN} COMMAND"),
        ("ExecStart=/opt/x\nExecStart=/opt/y", f"{RUN} COMMAND"),
        (f"ExecStart=/opt/x {'y' * 600}", f"{RUN} COMMAND"),
        ("ExecStart=-", f"{RUN} COMMAND"),
        ("", f"{RUN} COMMAND"),
    ],
)
def test_the_advice_has_the_units_own_command(lines, wanted):
    assert in_scope(f"[Service]\n{lines}\n", "/opt/venv/bin/scopekeeper") == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["mcp-server-time"], True),
        (["node", "/usr/bin/mcp-server-x"], True),
        (["npm exec @modelcontextprotocol/server-git"], True),
        (["/opt/venv/bin/python", "-m", "my_mcp_server"], True),
        (["uvx", "time-mcp"], True),
        (["claude", "--mcp-config", "x.json"], False),
        (["python", "/srv/mcp/web.py"], False),
        (["/usr/bin/dmcpd"], False),
        ([], False),
    ],
)
def test_a_server_names_mcp_in_its_command(words, wanted):
    assert is_server(words) is wanted
