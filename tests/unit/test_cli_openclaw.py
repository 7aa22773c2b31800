"""``scopekeeper openclaw``, called as a user calls it, on a home that has an OpenClaw."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper.cli import openclaw_status
from scopekeeper.cli.table import lay_out
from scopekeeper.install import origin
from tests.unit.terminals import printed

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "tests" / "clients" / "openclaw.json").read_text()
PLUGIN = ".openclaw/extensions/scopekeeper"
DROP_IN = ".config/systemd/user/openclaw-gateway.service.d/10-scopekeeper.conf"
UNIT = ".config/systemd/user/openclaw-gateway.service"


def package(home, version, *, knows):
    """Make what npm would have installed, as far as it is looked at."""
    folder = home / "node" / version / "openclaw"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "openclaw", "version": version}))
    schema = "hooks: { allowPromptInjection" + (", allowConversationAccess }" if knows else " }")
    (folder / "dist" / "zod-schema-A1.js").write_text(schema)
    (folder / "dist" / "index.js").write_text("")
    return folder / "dist" / "index.js"


@pytest.fixture
def home(tmp_path):
    """A user's home with an OpenClaw in it, and with its unit."""
    config = tmp_path / ".openclaw" / "openclaw.json"
    config.parent.mkdir()
    config.write_text(SAMPLE)
    unit = tmp_path / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    return tmp_path


def call(home, *words, **environment):
    """Return exit status, standard output and standard error."""
    mine = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", "openclaw", *map(str, words)],
        env=mine | environment, cwd=home, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


def files(home):
    """Return every file below a home, and what is in it."""
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


def entry(home):
    _, out, _ = call(home, "status", "--json")
    assert json.loads(out)["version"] == 1
    from scopekeeper.mcp_configs import json5

    data = json5.parse((home / ".openclaw/openclaw.json").read_text(), json5.JSON5).data
    return data["plugins"]["entries"]["scopekeeper"]


def test_install_puts_all_of_it_in_place_and_uninstall_leaves_nothing(home):
    before = files(home)
    status, out, _ = call(home, "install")
    assert status == 0
    assert "systemctl --user restart openclaw-gateway.service" in out
    made = files(home)
    assert {f"{PLUGIN}/index.js", f"{PLUGIN}/openclaw.plugin.json", DROP_IN} <= made.keys()
    assert b'"--real-shell"' in made[".openclaw/openclaw.json"].replace(b"'", b'"')
    status, out, _ = call(home, "uninstall")
    assert status == 0
    assert f"{PLUGIN}: removed" in out
    assert files(home) == before
    assert not (home / PLUGIN).parent.exists()
    assert not (home / DROP_IN).parent.exists()


def test_nobody_else_may_write_what_is_put_there_whatever_the_umask(home):
    """OpenClaw 2026.9 refuses what a group may write."""
    mask = os.umask(0o002)
    try:
        assert call(home, "install")[0] == 0
    finally:
        os.umask(mask)
    made = [home / PLUGIN, *(home / PLUGIN).iterdir(), home / DROP_IN, (home / DROP_IN).parent]
    assert len(made) > 8
    assert [path for path in made if path.stat().st_mode & 0o022] == []


def test_what_is_edited_between_install_and_uninstall_stays(home):
    assert call(home, "install")[0] == 0
    config = home / ".openclaw/openclaw.json"
    config.write_text(config.read_text() + "// mine\n")
    (home / DROP_IN).with_name("20-mine.conf").write_text("")
    (home / ".openclaw/extensions/mine").mkdir()
    status, _, err = call(home, "uninstall")
    assert status == 0
    assert config.read_text() == SAMPLE + "// mine\n"
    assert "openclaw.json.before-scopekeeper: kept" in err
    assert (home / DROP_IN).with_name("20-mine.conf").exists()
    assert (home / ".openclaw/extensions/mine").exists()


def test_there_is_one_backup_of_the_configuration(home):
    """OpenClaw writes its file anew; a backup is replaced once all its servers are in the file."""
    config = home / ".openclaw/openclaw.json"
    backup = config.with_name("openclaw.json.before-scopekeeper")
    for added in ("// first\n", "// second\n"):
        before = config.read_text()
        assert f"{backup}: holds {config} as it was before\n" in call(home, "install")[1]
        assert backup.read_text() == before
        config.write_text(config.read_text() + added)
        assert call(home, "uninstall")[0] == 0
    config.write_text("{}")
    before = backup.read_bytes()
    assert f"{backup}: kept: it is of an earlier installation" in call(home, "install")[2]
    assert backup.read_bytes() == before
    assert not list(config.parent.glob("*-2"))


def test_a_second_install_changes_nothing(home):
    call(home, "install")
    made = files(home)
    status, out, _ = call(home, "install")
    assert (status, out) == (0, "Nothing to change.\n")
    assert files(home) == made


@pytest.mark.parametrize("knows", [True, False])
def test_the_plugin_is_allowed_to_hear_of_the_end_of_runs_only_where_openclaw_knows_that(
    home, knows
):
    index = package(home, "2026.9.6", knows=knows)
    unit = home / UNIT
    unit.write_text(f"[Service]\nExecStart=/usr/bin/node {index} gateway --port 18789\n")
    call(home, "install")
    assert entry(home).get("hooks") == ({"allowConversationAccess": True} if knows else None)


def test_another_openclaw_is_told_by_status_and_mended_by_another_install(home):
    program = home / "bin" / "openclaw"
    program.parent.mkdir()
    path = f"{program.parent}:{os.environ['PATH']}"
    program.symlink_to(package(home, "2026.4.15", knows=False))
    call(home, "install", PATH=path)
    program.unlink()
    program.symlink_to(package(home, "2026.9.6", knows=True))
    for link in program.parent.iterdir():
        link.resolve().chmod(0o755)
    status, out, _ = call(home, "status", PATH=path)
    assert status == 1
    assert "does not report the end of runs to it; install it again" in out
    call(home, "install", PATH=path)
    assert "does not report" not in call(home, "status", PATH=path)[1]


def test_the_drop_in_has_whole_paths_and_the_units_own_name(home):
    (home / UNIT).rename((home / UNIT).with_name("openclaw-gateway-work.service"))
    call(home, "install", "--profile", "work", "--config", home / ".openclaw/openclaw.json")
    folder = home / ".config/systemd/user/openclaw-gateway-work.service.d"
    text = (folder / "10-scopekeeper.conf").read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    program = lines["ExecStartPre"].removeprefix("-").split()[0]
    assert os.access(program, os.X_OK)
    assert lines["Environment"] == f"SHELL={program}-shell"
    assert lines["ExecStartPre"] == f"-{program} reconcile --owner %n"
    note = '"%n has ended: ${SERVICE_RESULT}"'
    assert lines["ExecStopPost"] == f"-{program} stop --owner %n --lifetime gateway --note {note}"


@pytest.mark.parametrize(("text", "words"), [
    ('{"mcp": ', "openclaw.json:1:9: "),
    ('{"plugins": []}', "plugins is not an object"),
    ("{x:1,x:2}", "openclaw.json:1:6: "),
])  # fmt: skip
def test_a_configuration_that_cannot_be_read_leaves_everything_as_it_was(home, text, words):
    (home / ".openclaw/openclaw.json").write_text(text)
    before = files(home)
    status, _, err = call(home, "install")
    assert (status, err.count("\n")) == (1, 1)
    assert words in err
    assert files(home) == before


def test_where_the_configuration_may_not_be_rewritten_nothing_else_is_left_either(home):
    config = home / ".openclaw/openclaw.json"
    os.link(config, home / "another-name")
    before = files(home)
    status, _, err = call(home, "install")
    assert (status, "hard links" in err) == (1, True)
    assert files(home) == before
    assert not (home / PLUGIN).parent.exists()
    assert not (home / DROP_IN).parent.exists()


def test_without_an_openclaw_there_is_nothing_to_contain(tmp_path):
    status, _, err = call(tmp_path, "install")
    assert status == 1
    assert "openclaw.json: No such file" in err
    assert files(tmp_path) == {}


def test_before_there_is_a_unit_nothing_is_put_beside_it(home):
    """OpenClaw 2026.9 does not install its unit where there is a drop-in for it already."""
    (home / UNIT).unlink()
    status, _, err = call(home, "install")
    assert status == 0
    assert "run this again after `openclaw gateway install`" in err
    assert not (home / DROP_IN).parent.exists()
    assert call(home, "status")[0] == 0
    (home / UNIT).write_text("[Service]\nExecStart=/bin/true\n")
    assert "has no drop-in" in call(home, "status")[1]
    assert call(home, "install")[1].startswith(str(home / DROP_IN))


def test_a_plugin_of_the_same_name_that_is_not_ours_is_left_alone(home):
    (home / PLUGIN).mkdir(parents=True)
    (home / PLUGIN / "index.js").write_text("mine")
    before = files(home)
    for force in ((), ("--force",)):
        status, _, err = call(home, "install", *force)
        assert status == 1
        assert "this is another plugin" in err
        assert files(home) == before
        status, _, err = call(home, "uninstall", *force)
        assert status == 0
        assert f"{home / PLUGIN}/index.js: kept: somebody else wrote it" in err
        assert files(home) == before


def test_a_drop_in_of_the_same_name_that_is_not_ours_is_left_alone(home):
    (home / DROP_IN).parent.mkdir(parents=True)
    (home / DROP_IN).write_text("[Service]\nEnvironment=MINE=1\n")
    before = files(home)
    for force in ((), ("--force",)):
        status, _, err = call(home, "install", *force)
        assert status == 0
        assert f"{home / DROP_IN}: kept: somebody else wrote it" in err
        assert files(home)[DROP_IN] == before[DROP_IN]
        out = call(home, "status")[1]
        assert "edited, or written by somebody else" in out
        status, _, err = call(home, "uninstall", *force)
        assert status == 0
        assert f"{home / DROP_IN}: kept: somebody else wrote it" in err
        assert files(home) == before


@pytest.mark.parametrize("edited", [f"{PLUGIN}/index.js", f"{PLUGIN}/package.json",
                                    f"{PLUGIN}/scopekeeper.sums", DROP_IN])  # fmt: skip
def test_what_was_edited_of_ours_is_left_alone_unless_it_is_forced(home, edited):
    before = files(home)
    call(home, "install")
    ours = files(home)
    path = home / edited
    path.write_text(path.read_text() + "\n")
    mine = files(home)
    status, _, err = call(home, "install")
    assert status == 0
    assert f"{path}: kept: it was edited" in err
    assert files(home) == mine
    assert "edited" in call(home, "status")[1]
    assert call(home, "install", "--force")[0] == 0
    assert files(home) == ours
    path.write_text(mine[edited].decode())
    status, _, err = call(home, "uninstall")
    assert f"{path}: kept: it was edited" in err
    assert path.read_bytes() == mine[edited]
    assert call(home, "uninstall", "--force")[0] == 0
    assert files(home) == before


def test_what_another_version_installed_is_brought_up_to_date_and_removed(home):
    before = files(home)
    call(home, "install")
    ours = files(home)
    folder = home / PLUGIN
    texts = {path.name: path.read_bytes() for path in folder.iterdir()}
    del texts[origin.SUMS], texts["life.js"]
    texts |= {"index.js": b"// older\n", "former.js": b"// no more\n"}
    for path in folder.iterdir():
        path.unlink()
    for name, raw in (texts | {origin.SUMS: origin.sums(texts)}).items():
        (folder / name).write_bytes(raw)
    (home / DROP_IN).write_bytes(origin.marked("[Service]\n# older\n", "10-scopekeeper.conf"))
    older = files(home)
    out = call(home, "status")[1]
    assert out.count("of another version; install it again") == 2
    (folder / "mine.txt").write_text("mine")
    assert call(home, "install")[0] == 0
    assert files(home) == ours | {f"{PLUGIN}/mine.txt": b"mine"}
    for name, raw in older.items():
        (home / name).write_bytes(raw)
    (folder / "life.js").unlink()
    assert call(home, "uninstall")[0] == 0
    assert files(home) == before | {f"{PLUGIN}/mine.txt": b"mine"}


def test_what_was_copied_by_hand_from_what_is_shipped_is_ours(home):
    before = files(home)
    (home / PLUGIN).parent.mkdir()
    shutil.copytree(ROOT / "scopekeeper/openclaw/plugin", home / PLUGIN)
    (home / DROP_IN).parent.mkdir()
    shutil.copy(ROOT / "units/openclaw-gateway.service.d/10-scopekeeper.conf", home / DROP_IN)
    assert call(home, "install")[0] == 0
    assert (home / PLUGIN / origin.SUMS).exists()
    assert call(home, "uninstall")[0] == 0
    assert files(home) == before


def test_nothing_is_written_through_a_link_in_the_place_of_the_plugin(home):
    (home / "elsewhere").mkdir()
    (home / PLUGIN).parent.mkdir()
    (home / PLUGIN).symlink_to(home / "elsewhere")
    before = files(home)
    status, _, err = call(home, "install")
    assert (status, "is a link" in err) == (1, True)
    assert call(home, "uninstall")[0] == 0
    assert files(home) == before
    assert (home / PLUGIN).is_symlink()


def test_the_sums_are_what_sha256sum_checks(home):
    call(home, "install")
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", origin.SUMS],
                          cwd=home / PLUGIN, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_list_of_allowed_plugins_has_ours_too(home):
    config = home / ".openclaw/openclaw.json"
    config.write_text('{plugins: {allow: ["voice"], deny: []}}')
    call(home, "install")
    assert '["scopekeeper", "voice"]' in config.read_text()
    call(home, "uninstall")
    assert config.read_text() == '{plugins: {allow: ["voice"], deny: []}}'


def test_status_says_what_is_lost_without_each_part(home):
    status, out, _ = call(home, "status")
    assert status == 1
    assert "sessions share one name" in out
    assert "commands are not contained" in out
    assert "not contained:" in out
    call(home, "install")
    config = home / ".openclaw/openclaw.json"
    config.write_text(config.read_text().replace('"plugins": {', '"plugins": {"enabled": false,'))
    assert "OpenClaw does not load it: plugins.enabled is false" in call(home, "status")[1]
    (home / PLUGIN / "index.js").write_text("// mine")
    (home / DROP_IN).write_text("[Service]\n")
    config.write_text(config.read_text().replace('"enabled": false,', ""))
    out = call(home, "status")[1]
    assert out.count("edited, or written by somebody else") == 2


def test_what_status_says_fits_80_columns_and_is_whole_in_a_pipe(home):
    whole = call(home, "status")[1].splitlines()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "scopekeeper", "openclaw", "status"]
    lines = printed(command, env=environment, cwd=home)
    # a command is one line, to be copied
    table = [line for line in lines if not line.startswith("    to mend it: ")]
    assert max(map(len, table)) <= 80
    assert [line for line in whole if line not in lines], "some reason is longer"

    def words(printed):
        return " ".join(" ".join(printed).split())

    for line in whole[1:]:
        *_, detail = re.split(r"  +", line)
        assert detail in words(lines), detail
    assert printed([*command, "--no-trunc"], env=environment, cwd=home) == whole


def test_the_sessions_fit_80_columns():
    session = "agent:main:telegram:group:-1001234567890:thread:1234567890"
    lost = "pid 7: /usr/bin/node /srv/servers/one/index.js (server one is not wrapped)"
    rows = [("main", session, "main", "running", "3", "5", "fetch, git, time"),
            ("-", "-", "-", "not contained", "0", "1", lost)]  # fmt: skip
    drawn = lay_out(openclaw_status.SESSIONS, rows, 80)
    lines = [drawn.header, *(line for row in drawn.rows for line in row)]
    assert max(map(len, lines)) <= 80
    assert {"SESSION", "STATE", "WHAT"} <= set(drawn.header.split())
    assert "pid 7: " in lines[2]
    assert "not wrapped)" in lines[2]


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(home):
    before = files(home)
    config = home / ".openclaw/openclaw.json"
    status, out, _ = call(home, "install", "--dry-run")
    assert (status, files(home)) == (0, before)
    for path, verb in ((home / PLUGIN, "written"), (home / DROP_IN, "written"),
                       (config, "changed")):  # fmt: skip
        assert f"{path}: would be {verb}\n" in out
    assert f"--- {config}\n" in out
    assert not (home / PLUGIN).parent.exists()
    document = json.loads(call(home, "install", "--dry-run", "--json")[1])
    assert (document["dry_run"], document["backup"]) == (True, None)
    status, out, _ = call(home, "install")
    made = files(home)
    assert f"{config}: changed\n" in out
    assert f"{config}.before-scopekeeper: holds {config} as it was before\n" in out
    status, out, _ = call(home, "uninstall", "--dry-run")
    assert (status, files(home)) == (0, made)
    assert f"{home / PLUGIN}: would be removed\n" in out


def test_install_warns_of_the_restart_and_of_what_openclaw_warns_of(home):
    out = call(home, "install")[1]
    assert re.search(r"The restart may take (some minutes|up to [0-9.]+[ms].*): ", out)
    assert "loaded without install/load-path provenance" in out
    (home / PLUGIN / "life.js").unlink()
    assert "restart" in call(home, "uninstall")[1]


def test_status_gives_the_command_that_mends_each_gap(home):
    status, out, _ = call(home, "status")
    assert status == 1
    restart = "systemctl --user restart openclaw-gateway.service"
    assert out.count(f"    to mend it: scopekeeper openclaw install && {restart}\n") == 3
    assert "    to mend it: systemctl --user start openclaw-gateway.service\n" in out
    parts = json.loads(call(home, "status", "--json", "--profile", "a b", "--config",
                            home / ".openclaw/openclaw.json")[1])["parts"]  # fmt: skip
    assert parts[0]["fix"].startswith("scopekeeper openclaw install --profile 'a b' --config ")


def test_a_launcher_that_is_gone_is_named_and_mended(home):
    config = home / ".openclaw/openclaw.json"
    config.write_text(
        """{mcp: {servers: {a: {command: '/gone/scopekeeper',
        args: ['run', '-n', 'a', '--memory-max', '1G', '--', 'x']}}}}"""
    )
    assert "there is no /gone/scopekeeper: `scopekeeper openclaw install" in call(home, "status")[1]
    assert call(home, "install")[0] == 0
    assert "/gone/" not in config.read_text()
    assert "'--memory-max', '1G', '--', 'x'" in config.read_text()
    assert "1 of 1 contained" in call(home, "status")[1]
