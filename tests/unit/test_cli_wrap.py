"""``scopekeeper wrap`` and ``unwrap``, called as a user calls them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scopekeeper.cli import run, wrap
from scopekeeper.doctor.finding import Finding, Status
from scopekeeper.errors import StateError
from scopekeeper.launch.arguments import parse
from scopekeeper.mcp_configs.formats import found, recognise
from tests.formats import FORMATS
from tests.machine import eventually, text_of
from tests.unit.terminals import printed

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "clients"
HOMES = {
    ".openclaw/openclaw.json": "openclaw.json",
    ".config/Claude/claude_desktop_config.json": "claude-desktop.json",
    ".claude.json": "claude-code.json",
    ".cursor/mcp.json": "cursor.json",
    ".config/Code/User/mcp.json": "vscode.json",
    ".config/Code - Insiders/User/profiles/-1a2b/mcp.json": "vscode.json",
    ".codex/config.toml": "codex.toml",
    ".gemini/settings.json": "gemini.json",
    ".config/Code - OSS/User/mcp.json": "vscode.json",
    ".vscode-server/data/User/mcp.json": "vscode.json",
    ".local/share/code-server/User/mcp.json": "vscode.json",
    ".hermes/config.yaml": "hermes.yaml",
    ".config/goose/config.yaml": "goose.yaml",
    ".continue/config.yaml": "continue.yaml",
    ".config/opencode/opencode.json": "opencode.json",
    ".copilot/mcp-config.json": "copilot.json",
    ".config/zed/settings.json": "zed.json",
    ".cline/data/settings/cline_mcp_settings.json": "cline.json",
    ".config/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json":
        "roo.json",
    ".codeium/windsurf/mcp_config.json": "windsurf.json",
    ".lmstudio/mcp.json": "lm-studio.json",
    ".kiro/settings/mcp.json": "kiro.json",
    ".config/amp/settings.json": "amp.json",
    ".config/crush/crush.json": "crush.json",
    ".qwen/settings.json": "qwen.json",
    ".gemini/antigravity/mcp_config.json": "antigravity.json",
}  # fmt: skip
GIT_APPLY = ["git", "apply", "-p1", "--unsafe-paths"]
SIMPLE = '{"mcpServers": {"a": {"command": "x"}, "b": {"command": "y", "args": []}}}'


@pytest.fixture
def home(tmp_path):
    """A user's home with the configuration of every client."""
    for name, sample in HOMES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLES / sample, path)
    return tmp_path


@pytest.fixture
def simple(tmp_path):
    path = tmp_path / ".mcp.json"
    path.write_text(SIMPLE)
    return path


def call(folder, *words, **environment):
    """Return exit status, standard output and standard error."""
    mine = {"HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
            "SCOPEKEEPER_STATE": str(folder / "state")}  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "scopekeeper", *map(str, words)],
        cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=mine | environment,
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


def write(path, servers):
    """Write a project's file, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_finds_every_client_of_a_user_and_undoes_all_of_it(home):
    before = tree(home)
    assert call(home, "wrap", "--check")[0] == 1
    program = installed(home / "bin")
    status, out, err = call(home, "wrap", "--program", program, "--memory-max", "2G")
    assert (status, err) == (0, "")
    for name, sample in HOMES.items():
        path, wrapped = home / name, SAMPLES / sample
        golden = wrapped.with_suffix(f".wrapped{wrapped.suffix}").read_text()
        golden = golden.replace("/opt/sk/bin/scopekeeper", "scopekeeper")
        assert path.read_text().replace(str(program), "scopekeeper") == golden
        backup = path.with_name(f"{path.name}.before-scopekeeper")
        assert backup.read_bytes() == before[path]
        assert f"{path}: rewritten; backup: {backup}\n" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["db", "wrapped", "${HOME}/.local/bin/toolbox", str(home / ".claude.json"),
            "/home/ann/src/shop"] in rows  # fmt: skip
    assert ["off", "disabled", "-", str(home / ".codex/config.toml")] in rows
    assert call(home, "wrap", "--check")[0] == 0
    wrapped = tree(home)
    status, out, _ = call(home, "wrap")
    assert (status, tree(home)) == (0, wrapped)
    assert "already wrapped" in out
    assert call(home, "unwrap")[0] == 0
    assert tree(home) == {**before, program: program.read_bytes()}


def test_a_client_or_files_are_chosen_and_variables_say_where_they_are(home):
    moved = home / "elsewhere"
    shutil.move(home / ".codex", moved)
    before = tree(home)
    assert call(home, "wrap", "--client", "codex", CODEX_HOME=str(moved))[0] == 0
    assert call(home, "wrap", home / ".claude.json", "--except", "github")[0] == 0
    changed = {
        path.relative_to(home).as_posix() for path, raw in tree(home).items()
        if before.get(path, b"") != raw and "before-scopekeeper" not in path.name
    }  # fmt: skip
    assert changed == {"elsewhere/config.toml", ".claude.json"}
    servers = json.loads((home / ".claude.json").read_text())["mcpServers"]
    assert servers["github"]["command"] == "docker"


def test_a_diff_is_one_that_patch_takes_and_nothing_is_written(home):
    (home / ".claude.json").write_text(SIMPLE)  # without an end of its line
    before = tree(home)
    status, diff, said = call(home, "wrap", "--dry-run")
    assert (status, tree(home)) == (0, before)
    assert f"--- {home}/.config/Code - Insiders/User/profiles/-1a2b/mcp.json\t\n" in diff
    assert f"{home}/.cursor/mcp.json: 'later': disabled\n" in said
    assert f"{home}/.cursor/mcp.json: 'figma': remote: it has url\n" in said
    patch = ["patch", "-s", "-p1", "-d", "/"] if shutil.which("patch") else GIT_APPLY
    subprocess.run(patch, cwd="/", input=diff.encode(), check=True)
    by_patch = tree(home)
    for path, raw in before.items():
        path.write_bytes(raw)
    assert call(home, "wrap")[0] == 0
    assert {path: raw for path, raw in tree(home).items() if path in before} == by_patch
    status, diff, _ = call(home, "unwrap", "--dry-run")
    assert diff.count("\n--- ") == len(HOMES) - 1


def shown(folder, *words, cols=80):
    """Return the lines of a call on a terminal."""
    mine = {"HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "scopekeeper", *map(str, words)]
    return printed(command, cols, env=mine, cwd=folder)


def test_its_table_fits_80_columns_and_is_whole_in_a_pipe(tmp_path):
    folder = tmp_path / "a folder with a long name" / "and another one in it"
    folder.mkdir(parents=True)
    path = folder / "mcp.json"
    name = "a-server-whose-name-is-much-longer-than-is-usual"
    gone = "/opt/scopekeeper-of-another-day/bin/scopekeeper"
    servers = {name: {"command": gone, "args": ["run", "--", "x"]}, "b": {"url": "http://x"}}
    path.write_text(json.dumps({"mcpServers": servers}))
    words = ("wrap", "--check", path, "--format", "cursor")
    whole = call(tmp_path, *words)[1].splitlines()
    assert whole[0].split() == ["SERVER", "STATE", "DETAIL", "FILE"]
    assert all(part in whole[1] for part in (name, gone, "wrap --update", str(path)))
    lines = shown(tmp_path, *words)
    assert lines[-1] == "(cut to fit; --no-trunc shows all)"
    assert max(map(len, lines)) <= 80
    # reasons and commands are wrapped, not cut
    at = lines[0].index("DETAIL"), lines[0].index("FILE")
    detail = "".join(line[slice(*at)].strip() for line in lines[1:-1])
    assert f"there is no {gone}".replace(" ", "") in detail.replace(" ", "")
    assert "mcp.json" in lines[1]
    assert shown(tmp_path, *words, "--no-trunc") == whole
    narrow = shown(tmp_path, *words, cols=40)
    assert max(map(len, narrow)) <= 40
    assert "not shown: DETAIL, FILE" in " ".join(narrow)


def test_check_says_each_server_and_its_status_is_for_scripts(simple, tmp_path):
    status, out, err = call(tmp_path, "wrap", "--check", simple)
    assert (status, err) == (1, "")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["a", "not", "wrapped"], ["b", "not", "wrapped"],
    ]  # fmt: skip
    assert call(tmp_path, "wrap", simple, "--only", "a")[0] == 0
    assert call(tmp_path, "wrap", "--check", simple)[0] == 1
    assert call(tmp_path, "wrap", "--check", simple, "--except", "b")[0] == 0
    (tmp_path / "broken.json").write_text("{")
    files = (simple, tmp_path / "broken.json")
    status, out, err = call(tmp_path, "wrap", "--check", *files, "--format", "cursor")
    assert status == 2
    assert err.startswith(f"scopekeeper: {tmp_path}/broken.json:1:2: ")
    simple.unlink()
    assert call(tmp_path, "wrap", "--check") == (
        0, "No configuration of a known client was found in its usual place.\n", "",
    )  # fmt: skip


def test_what_is_broken_is_one_line_with_its_place_and_the_others_are_done(home):
    before = tree(home)
    cursor = home / ".cursor/mcp.json"
    cursor.write_text('{\n  "mcpServers": {\n    "a": 1,\n    "a": 2}}')
    desktop = home / ".config/Claude/claude_desktop_config.json"
    desktop.write_text('{"mcpServers": {}, // no\n}')
    codex = home / ".codex/config.toml"
    codex.write_bytes(b"a = '\xff'")
    status, _, err = call(home, "wrap")
    assert status == 1
    assert err.splitlines() == [
        f"scopekeeper: {desktop}:1:20: a comment, which JSON does not allow",
        f"scopekeeper: {cursor}:4:5: duplicate key 'a'",
        f"scopekeeper: {codex}:1:6: this is not UTF-8",
    ]
    assert not list(home.rglob("cursor/*before*"))
    gemini = home / ".gemini/settings.json"
    assert gemini.read_bytes() != before[gemini]


def test_json_says_all_of_it(simple, tmp_path):
    status, out, _ = call(tmp_path, "wrap", simple, tmp_path / "none.json", "--json")
    document = json.loads(out)
    assert (status, document["version"]) == (1, 1)
    done, missing = document["files"]
    assert done["path"] == str(simple)
    assert done["format"] == "claude-code"
    assert done["backup"] == f"{simple}.before-scopekeeper"
    assert done["servers"][1] == {
        "name": "b", "place": ["mcpServers"], "state": "wrapped", "detail": "y", "changed": True,
        "updated": False, "dropped": [], "added": [],
    }  # fmt: skip
    assert missing["problem"] == f"{tmp_path}/none.json: No such file or directory"
    dry = json.loads(call(tmp_path, "unwrap", simple, "--json", "--dry-run")[1])["files"][0]
    assert dry["diff"].startswith(f"--- {simple}\n")
    assert json.loads(call(tmp_path, "wrap", "--json")[1])["files"] == []


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("openclaw.json", "{}", "openclaw"),
        ("claude_desktop_config.json", "{}", "claude-desktop"),
        (".claude.json", "{}", "claude-code"),
        (".mcp.json", "{}", "claude-code"),
        (".cursor/mcp.json", "{}", "cursor"),
        (".vscode/mcp.json", "{}", "vscode"),
        (".codex/config.toml", "", "codex"),
        (".gemini/settings.json", "{}", "gemini"),
        ("other.toml", "", "codex"),
        ("copy.json", "{mcp: {servers: {}}}", "openclaw"),
        ("copy.json", '{"servers": {}} // c', "vscode"),
        ("copy.json", '{"mcpServers": {}}', "cursor"),
        ("copy.json", '{"projects": {}, "mcpServers": {}}', "claude-code"),
        ("copy.json", '{"else": {}}', None),
        ("copy.json", "[1]", None),
        ("copy.json", "{", None),
        ("librechat.yaml", "", "librechat"),
        ("opencode.jsonc", "{}", "opencode"),
        ("shop.code-workspace", "{}", "vscode"),
        (".devcontainer/devcontainer.json", "{}", "vscode"),
        (".roo/mcp.json", "{}", "roo"),
        (".zed/settings.json", "{}", "zed"),
        (".continue/mcpServers/time.yaml", "", "continue"),
        (".gemini/config/mcp_config.json", "{}", "antigravity"),
        (".agents/mcp_config.json", "{}", "antigravity"),
        (".continue/mcpServers/copied.json", '{"mcpServers": {}}', "cursor"),
        ("copy.json", '{"mcp": {"a": {"command": ["npx"]}}}', "opencode"),
        ("copy.json", '{"mcp": {"servers": {"a": {"command": ["npx"]}}}}', "opencode"),
        ("copy.json", '{"mcp": {"servers": {"a": {"command": "npx"}}}}', "openclaw"),
        ("copy.json", '{"mcp": {"a": {"type": "stdio", "command": "npx"}}}', "crush"),
        ("copy.json", '{"mcp": {"a": 1}}', None),
        ("copy.json", '{"context_servers": {}}', "zed"),
        ("copy.json", '{"amp.mcpServers": {}}', "amp"),
        ("copy.yaml", "mcp_servers: {}", "hermes"),
        ("copy.yml", "extensions: {}", "goose"),
        ("copy.yaml", "mcpServers: []", "continue"),
        ("copy.yaml", "mcpServers: {}", "librechat"),
        ("copy.yaml", "else: 1", None),
        ("copy.yaml", "a: [", None),
    ],
)
def test_a_file_is_recognised_by_its_name_or_by_what_is_in_it(tmp_path, name, text, kind):
    known = recognise(str(tmp_path / name), text)
    assert (known and known.name) == kind


def test_every_option_of_run_is_written_before_the_command(simple, tmp_path):
    given = ["--owner", "1", "--replace", "--no-bus", "--own", "/tmp/a", "--own", "/tmp/b",
             "--own-scope", "--run", "r", "--session-id", "i", "--placement", "user",
             "--real-shell", "--require", "/etc"]  # fmt: skip
    known = {param.opts[-1] for param in run.command.params if param.name not in wrap._NOT_WRITTEN}
    assert known <= {word for param in wrap.command.params for word in param.opts}
    status, _, err = call(tmp_path, "wrap", simple, *given)
    assert (status, err) == (0, "")
    for server in json.loads(simple.read_text())["mcpServers"].values():
        options, command = parse(server["args"][1:])
        assert command
        assert options["own"] == "/tmp/a\0/tmp/b"
        assert options["kind"] == "mcp"
        assert {"owner", "replace", "no_bus", "own_scope", "run", "session_id", "placement",
                "real_shell", "require"} <= options.keys()  # fmt: skip


def test_what_cannot_be_meant_is_refused(simple, tmp_path):
    for words, told in [
        (["--client", "codex"], "--client looks for files itself"),
        (["--client", "notepad"], "'notepad' is not one of"),
        (["--client", "claud"], "'claud' is none. Did you mean 'claude-code'? All: openclaw, "),
        (["--format", "vscod"], "Did you mean 'vscode'?"),
        (["--memory-max", "lots"], "memory"),
        (["--lifetime", "long"], "unknown lifetime 'long'"),
        (["--session", ""], "session is empty"),
        (["--session", b"\xff".decode(errors="surrogateescape")], "is not UTF-8"),
        (["--program", "/usr/bin/other"], "is not called scopekeeper"),
        (["--program", "/nonexistent/scopekeeper"], "/nonexistent/scopekeeper: there is no such"),
        (["--program", str(ROOT / "scopekeeper")], "there is no such program"),
        (["--check", "--dry-run"], "--check never changes"),
    ]:
        status, _, err = call(tmp_path, "wrap", simple, *words)
        assert (status, err.count("\n")) == (2, 1), words
        assert told in err
    assert simple.read_text() == SIMPLE
    assert os.listdir(tmp_path) == [".mcp.json"]
    for verb in ("wrap", "unwrap"):
        status, out, err = call(tmp_path, verb, "")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("scopekeeper: the path of a FILE is empty; ")
    assert call(tmp_path, "wrap", "--format", "codex")[0] == 2
    (tmp_path / "what.json").write_text("{}")
    status, _, err = call(tmp_path, "wrap", tmp_path / "what.json")
    assert (status, "; give --format CLIENT of a client that has them there (mcp.ser" in err) == (
        1, True)  # fmt: skip
    for shape in ("mcpServers (JSON): claude-desktop, cursor, gemini", "mcp_servers (TOML): codex",
                  "mcp or mcp.servers with command as a list (JSON): opencode",
                  "mcpServers (YAML): continue, librechat"):  # fmt: skip
        assert shape in err
    status, _, err = call(tmp_path, "wrap", simple, "--only", "z")
    assert (status, err) == (4, "scopekeeper: warning: no server is called z\n")
    assert simple.read_text() == SIMPLE


def test_a_server_that_cannot_be_wrapped_is_told_and_the_others_are(tmp_path):
    path = tmp_path / ".mcp.json"
    path.write_text('{"mcpServers": {"a": {"command": "~/x"}, "b": {"command": "y"}}}')
    for words in ([], [], ["--json"]):
        status, out, err = call(tmp_path, "wrap", path, *words)
        assert (status, '"~/x"}' in path.read_text()) == (1, True)
        assert "its client may not expand ~ in args" in out
        assert f"scopekeeper: {path}: 'a' cannot be wrapped: its client may not expand ~" in err
        assert err.endswith("; to leave it out: --except a\n")
    assert call(tmp_path, "wrap", path, "--except", "a")[::2] == (0, "")
    assert json.loads(path.read_text())["mcpServers"]["b"]["args"][-1] == "y"
    assert call(tmp_path, "wrap", "--check", path)[0] == 1


def installed(folder):
    """Put a launcher into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "scopekeeper"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from scopekeeper.main import main\nmain()\n"
    )
    program.chmod(0o755)
    return program


def test_the_launcher_is_written_as_its_users_have_it(simple, tmp_path):
    """By its whole path, since it is in no folder that every client has in its PATH."""
    program = installed(tmp_path / "venv" / "bin")
    link = tmp_path / "bin" / "scopekeeper"
    link.parent.mkdir()
    link.symlink_to(program)
    for path, expected in [("/usr/bin:/bin", program), (f"{link.parent}:/usr/bin:/bin", link)]:
        environment = {"PATH": path, "HOME": str(tmp_path)}
        subprocess.run([program, "wrap", simple], env=environment, check=True, capture_output=True)
        servers = json.loads(simple.read_text())["mcpServers"]
        assert servers["a"]["command"] == str(expected)
        simple.write_text(SIMPLE)


def test_where_every_client_finds_it_its_name_is_enough(tmp_path, monkeypatch):
    """The folders of every PATH are the machine's: another one stands for them here."""
    from scopekeeper.mcp_configs import program as launcher

    program, other = installed(tmp_path / "usual"), installed(tmp_path / "other")
    monkeypatch.setattr(launcher, "USUAL_PATH", str(program.parent))
    for called, expected in [(program, ("scopekeeper", str(program))), (other, (str(other),) * 2)]:
        monkeypatch.setattr(sys, "argv", [str(called)])
        monkeypatch.setenv("PATH", f"{called.parent}:/usr/bin:/bin")
        assert launcher.installed() == expected


def test_every_client_has_a_place_where_it_is_looked_for_or_a_name(home):
    where = dict(found({"HOME": str(home)}))
    assert set(where) == {str(home / name) for name in HOMES}
    nowhere = {name for name, kind in FORMATS.items() if not kind.files}
    assert {kind.name for kind in where.values()} | nowhere == set(FORMATS)
    assert nowhere == {"librechat"}
    for path, kind in where.items():  # a file that is named is the same client's
        assert recognise(path, Path(path).read_text()).name == kind.name or "profiles" in path


def servers_in(path):
    return json.loads(path.read_text())["mcpServers"]


def test_where_the_stderr_of_servers_goes_is_passed_on(tmp_path):
    simple = tmp_path / "simple.json"
    simple.write_text(SIMPLE)
    status, _, _ = call(tmp_path, "wrap", simple, "--stderr", "journal")
    assert status == 0
    for name, server in json.loads(simple.read_text())["mcpServers"].items():
        options, _ = parse(server["args"][1:])
        assert options == {"name": name, "kind": "mcp", "stderr": "journal"}
    refused, _, err = call(tmp_path, "wrap", "--update", simple, "--stderr", "nowhere")
    assert refused == 2
    assert "unknown stderr 'nowhere'; use inherit, journal or file" in err


def test_other_options_for_a_wrapped_server_are_named_and_written_only_on_request(simple, tmp_path):
    call(tmp_path, "wrap", simple, "--memory-max", "2G")
    wrapped = simple.read_bytes()
    status, out, err = call(tmp_path, "wrap", simple, "--member-memory-max", "4G")
    assert (status, simple.read_bytes()) == (0, wrapped)
    assert "its options are not: --member-memory-max 4G" in out
    assert f"{simple}: a, b: wrapped already, with other options, which stay" in err
    assert call(tmp_path, "wrap", simple, "--memory-max=2G")[2] == ""
    status, out, err = call(tmp_path, "wrap", "--update", simple, "--member-memory-max", "4G")
    assert (status, err) == (0, "")
    for name, server in servers_in(simple).items():
        options, _ = parse(server["args"][1:])
        assert options == {"name": name, "kind": "mcp", "member_memory_max": "4G"}
    assert call(tmp_path, "unwrap", simple)[0] == 0
    assert (simple.read_text(), os.listdir(tmp_path)) == (SIMPLE, [".mcp.json"])


def test_an_update_gives_exactly_these_options_and_lists_what_it_changes(simple, tmp_path):
    call(tmp_path, "wrap", simple, "--member-memory-max", "4G", "--own", "/a b", "--replace")
    words = ("wrap", "--update", simple, "--json")
    done = json.loads(call(tmp_path, *words, "--grace", "10", "--replace")[1])["files"][0]
    for server in done["servers"]:
        assert (server["updated"], server["added"]) == (True, ["--grace 10"])
        assert server["dropped"] == ["--member-memory-max 4G", "--own '/a b'"]
    status, out, _ = call(tmp_path, "wrap", "--update", simple)
    rows = [line.split() for line in out.splitlines()]
    assert ["a", "updated", "x;", "dropped:", "--grace", "10", "--replace", str(simple)] in rows
    assert (status, servers_in(simple)["a"]["args"]) == (
        0, ["run", "--name", "a", "--kind", "mcp", "--", "x"],
    )  # fmt: skip
    assert "already wrapped" in call(tmp_path, "wrap", "--update", simple)[1]
    assert call(tmp_path, "unwrap", simple)[0] == 0
    assert (simple.read_text(), os.listdir(tmp_path)) == (SIMPLE, [".mcp.json"])


def test_the_command_that_mends_a_missing_launcher_keeps_the_options(simple, tmp_path):
    program, here = installed(tmp_path / "gone"), installed(tmp_path / "here")
    path = {"PATH": f"{here.parent}:{os.environ['PATH']}"}
    call(tmp_path, "wrap", simple, "--program", program, "--memory-max", "2G")
    program.unlink()
    status, out, _ = call(tmp_path, "wrap", "--check", simple)
    command = f"scopekeeper wrap --update {simple} --memory-max 2G"
    assert (status, out.count(f"there is no {program}: `{command}`")) == (1, 2)
    status, _, err = call(tmp_path, "wrap", simple)
    assert (status, f"{simple}: 'a' cannot start: there is no {program}: `" in err) == (1, True)
    subprocess.run(shlex.split(command), check=True, capture_output=True,
                   env={"HOME": str(tmp_path)} | path, executable=here)  # fmt: skip
    assert servers_in(simple)["a"] == {
        "command": str(here),
        "args": ["run", "--name", "a", "--kind", "mcp", "--memory-max", "2G", "--", "x"],
    }
    # with different options, one command for each server
    program = installed(program.parent)
    call(tmp_path, "wrap", simple, "--update", "--only", "b", "--ttl", "4h", "--program", program)
    call(tmp_path, "wrap", simple, "--update", "--only", "a", "--program", program)
    program.unlink(missing_ok=True)
    _, out, _ = call(tmp_path, "wrap", "--check", simple)
    assert f"`scopekeeper wrap --update --only b {simple} --ttl 4h`" in out
    assert f"`scopekeeper wrap --update --only a {simple}`" in out


def test_there_is_one_backup_and_unwrap_removes_it_once_nothing_needs_it(simple, tmp_path):
    backup = Path(f"{simple}.before-scopekeeper")
    call(tmp_path, "wrap", simple, "--only", "a")
    document = json.loads(call(tmp_path, "wrap", simple, "--json")[1])
    assert document["files"][0]["backup"] == str(backup)
    assert backup.read_text() == SIMPLE
    assert call(tmp_path, "unwrap", simple, "--only", "a")[0] == 0
    assert sorted(os.listdir(tmp_path)) == [".mcp.json", backup.name]
    out = call(tmp_path, "unwrap", simple)[1]
    assert f"{backup}: removed" in out
    assert os.listdir(tmp_path) == [".mcp.json"]
    # a client writes its file anew, with a server more, while it is wrapped
    call(tmp_path, "wrap", simple)
    data = json.loads(simple.read_text())
    data["mcpServers"]["c"] = {"command": "z"}
    simple.write_text(json.dumps({"numStartups": 2, **data}, indent=1))
    assert f"{backup}: removed, since {simple} has its" in call(tmp_path, "unwrap", simple)[1]
    assert os.listdir(tmp_path) == [".mcp.json"]


def test_a_backup_with_what_nothing_else_has_stays_and_there_is_no_second_one(simple, tmp_path):
    backup = Path(f"{simple}.before-scopekeeper")
    call(tmp_path, "wrap", simple)
    data = json.loads(simple.read_text())
    del data["mcpServers"]["a"]
    simple.write_text(json.dumps(data))
    out = call(tmp_path, "unwrap", simple)[1]
    assert f"{backup}: kept, since {simple} lacks servers that are in it" in out
    out = call(tmp_path, "wrap", simple)[1]
    assert f"backup: {backup}, of an earlier wrap: it has servers that the file lacks" in out
    assert (backup.read_text(), sorted(os.listdir(tmp_path))) == (
        SIMPLE,
        [".mcp.json", backup.name],
    )
    # the server is there again: nothing needs it any more, and the next wrap replaces it
    call(tmp_path, "unwrap", simple)
    restored = SIMPLE.replace("}}}", '}}, "more": 1}')
    simple.write_text(restored)
    assert f"backup: {backup}\n" in call(tmp_path, "wrap", simple)[1]
    assert backup.read_text() == restored


def test_the_backup_of_a_file_in_a_git_work_tree_cannot_be_committed(tmp_path):
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", repo], check=True)
    path = write(repo / ".mcp.json", {"a": {"command": "x", "env": {"KEY": "secret"}}})
    before = path.read_text()
    _, out, _ = call(tmp_path, "wrap", path)
    backup = Path(f"{tmp_path}/state/backups{path}")
    assert f"; backup: {backup}\n" in out
    assert (backup.read_text(), backup.stat().st_mode & 0o777) == (before, 0o600)
    untracked = subprocess.check_output(["git", "status", "--short", "-uall"], cwd=repo, text=True)
    assert untracked == "?? .mcp.json\n"
    assert f"{backup}: removed" in call(tmp_path, "unwrap", path)[1]
    assert (path.read_text(), list((tmp_path / "state").iterdir())) == (before, [])


def test_unwrap_fails_only_for_what_it_was_asked_to_unwrap(tmp_path):
    odd = {"command": "scopekeeper", "args": ["run", "--nonsense", "--", "x"]}
    path = write(tmp_path / ".mcp.json", {"a": {"command": "~/x"}, "b": {"command": "y"}})
    before = path.read_bytes()
    assert call(tmp_path, "wrap", path)[0] == 1
    for _ in range(2):
        assert call(tmp_path, "unwrap", path)[::2] == (0, "")
        assert path.read_bytes() == before
    write(path, {"a": {"command": "~/x"}, "odd": odd})
    status, _, err = call(tmp_path, "unwrap", path)
    why = "cannot tell where the options end and the command begins"
    assert (status, err) == (1, f"scopekeeper: {path}: 'odd' stays wrapped: {why}\n")


def test_files_of_projects_are_named_and_not_changed(tmp_path):
    """Those of the current folder, of the git work tree around it, and of known projects."""
    repo, here = tmp_path / "repo", tmp_path / "repo" / "sub"
    (repo / ".git").mkdir(parents=True)
    a = {"a": {"command": "x"}}
    paths = [write(path, a) for path in (
        here / ".mcp.json", repo / ".cursor/mcp.json", tmp_path / "it's/.mcp.json",
        tmp_path / "codex/.mcp.json", tmp_path / "code d/.mcp.json", tmp_path / "cursor/.mcp.json",
    )]  # fmt: skip
    write(tmp_path / "elsewhere/.mcp.json", a)
    for name, text in {
        ".claude.json": json.dumps({"projects": {str(paths[2].parent): {}, str(here): {},
                                                 "/a\0b": {}, "/a\ud800": {}}}),
        ".codex/config.toml": f"[projects.'{paths[3].parent}']\ntrust_level = 'trusted'\n",
        ".config/Code/User/workspaceStorage/1/workspace.json":
            json.dumps({"folder": f"file://{tmp_path}/code%20d"}),
        ".config/Code/User/workspaceStorage/2/workspace.json": "[]",
        ".config/Cursor/User/workspaceStorage/3/workspace.json":
            json.dumps({"folder": f"file://{tmp_path}/cursor"}),
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)
    named = [f"scopekeeper: warning: {path} has servers that are not wrapped: a; run `scopekeeper "
             f"wrap {shlex.quote(str(path))}`" for path in paths]  # fmt: skip
    home = {"HOME": str(tmp_path)}
    for words, status in (([], 0), (["--dry-run"], 0), (["--check"], 1)):
        done = call(here, "wrap", *words, **home)
        assert (done[0], sorted(done[2].splitlines())) == (status, sorted(named)), words
    projects = json.loads(call(here, "wrap", "--json", **home)[1])["projects"]
    assert {each["path"] for each in projects} == {str(path) for path in paths}
    assert projects[0]["path"] == str(paths[0])
    assert projects[0]["servers"] == ["a"]
    # a choice of client or servers holds for them too
    assert call(here, "wrap", "--client", "cursor", **home)[2].splitlines() == [named[1]]
    assert call(here, "wrap", "--except", "a", **home)[2] == ""
    assert tree(tmp_path) == before
    for path in paths:
        assert call(here, "wrap", path, **home)[0] == 0
    assert "not wrapped" not in call(here, "wrap", **home)[2]
    status, _, err = call(here, "unwrap", **home)
    assert f"1 server is still wrapped in {paths[0]}; run `scopekeeper unwrap {paths[0]}`" in err
    wrapped = json.loads(call(here, "unwrap", "--json", **home)[1])["still_wrapped"]
    assert {each["path"] for each in wrapped} == {str(path) for path in paths}


def test_without_a_file_of_the_user_those_of_the_project_are_named_too(simple, tmp_path):
    status, out, err = call(tmp_path, "wrap")
    assert (status, out) == (
        0, "No configuration of a known client was found in its usual place.\n",
    )  # fmt: skip
    assert f"{simple} has servers that are not wrapped: a, b; run" in err
    assert call(tmp_path, "wrap", "--check")[0] == 1
    simple.write_text("{")
    assert f"{simple}:1:2: " in call(tmp_path, "wrap")[2]


def test_a_name_that_matches_no_server_gets_a_suggestion_and_no_table(tmp_path):
    path = write(tmp_path / ".mcp.json", {"time": {"command": "x"}, "git": {"command": "y"}})
    for verb in ("wrap", "unwrap"):
        assert call(tmp_path, verb, path, "--only", "tme") == (
            4, "", "scopekeeper: warning: no server is called tme. Did you mean 'time'?\n",
        )  # fmt: skip
        status, out, _ = call(tmp_path, verb, path, "--only", "tme", "--json")
        (document,) = json.loads(out)["files"]
        assert (status, len(document["servers"])) == (4, 2)


def test_a_server_that_cannot_start_as_it_is_written_is_named(tmp_path):
    program = installed(tmp_path / "bin")
    spaced = installed(tmp_path / "a folder")
    path = write(tmp_path / ".mcp.json", {
        "line": {"command": 'bash -c "x"'}, "path": {"command": f"{program} ls"},
        "spaced": {"command": str(spaced)}, "later": {"command": "/opt/my app/run"},
        "odd": {"command": "x", "args": ["good", 3, None]},
    })  # fmt: skip
    status, _, err = call(tmp_path, "wrap", path)
    assert (status, len(err.splitlines())) == (0, 3)
    assert f"{path}: line: there is no program 'bash -c \"x\"': a command has no arguments" in err
    assert f"{path}: path: there is no program '{program} ls'" in err
    assert (
        f"{path}: odd: not a string in its args, so that its client may refuse it: 3, null" in err
    )
    assert call(tmp_path, "wrap", path)[::2] == (0, "")


def test_a_name_that_a_desktop_does_not_find_is_named_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "repo/.git").mkdir(parents=True)
    path = write(tmp_path / "repo/.mcp.json", {"a": {"command": "x"}})
    program = installed(tmp_path / "my bin")
    found = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    said = (f"{path}: scopekeeper is not in /usr/local/bin:/usr/bin:/bin: ",
            f"`sudo ln -s '{program}' /usr/local/bin/`",
            f"`scopekeeper wrap --update --program '{program}' {path} --ttl 4h`")  # fmt: skip
    for words in (["--ttl", "4h"], ["--check"]):
        ran = subprocess.run(
            [program, "wrap", path, *words], env={"HOME": str(tmp_path), **found,
            "SCOPEKEEPER_STATE": str(tmp_path / "state")}, text=True, capture_output=True,
        )  # fmt: skip
        assert ran.returncode == 0
        assert all(text in ran.stderr for text in said), ran.stderr
    # a path is found from everywhere; but the others may not have it
    other = installed(tmp_path / "other")
    _, _, err = call(tmp_path, "wrap", "--update", path, "--program", other, **found)
    assert f"{path} is in a git work tree: everybody who uses it needs {other}, or " in err
    from scopekeeper.mcp_configs import program as launcher

    assert launcher.not_usual()
    monkeypatch.setattr(launcher, "USUAL_PATH", str(program.parent))
    assert launcher.not_usual() == ""


def test_a_file_of_a_team_gets_no_path_of_this_machine(tmp_path):
    (tmp_path / "repo/.git").mkdir(parents=True)
    own_path = SIMPLE.replace('"y"', '"y", "env": {"PATH": "/x"}')
    for name in (".mcp.json", ".cursor/mcp.json", ".vscode/mcp.json"):
        path = tmp_path / "repo" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(own_path.replace("mcpServers", "servers") if "vscode" in name else own_path)
        status, _, err = call(tmp_path, "wrap", path)
        assert (status, f"{path} is in a git work tree" in err) == (0, True)
        (servers,) = json.loads(path.read_text()).values()
        assert {server["command"] for server in servers.values()} == {"scopekeeper"}
    # a user's own file is not shared, even if the home is a work tree
    (tmp_path / ".git").mkdir()
    (tmp_path / ".cursor").mkdir()
    own = tmp_path / ".cursor/mcp.json"
    own.write_text(SIMPLE)
    _, _, err = call(tmp_path, "wrap", own)
    assert ("work tree" in err, os.path.isabs(servers_in(own)["a"]["command"])) == (False, True)


def test_the_commands_that_check_prints_work_with_a_space_in_the_path(tmp_path):
    project = tmp_path / "it's a project"
    project.mkdir()
    path = project / ".mcp.json"
    servers = {"a": {"command": "x"}, "b": {"command": "/gone/scopekeeper", "args": ["run", "x"]}}
    path.write_text(json.dumps({"mcpServers": servers}))
    (tmp_path / ".claude.json").write_text(json.dumps({"projects": {str(project): {}}}))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    program = bin_folder / "scopekeeper"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m scopekeeper "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    status, out, err = call(tmp_path, "wrap", "--check", **environment)
    assert status == 1
    (adds,) = re.findall(r"; run `(scopekeeper wrap .*)`", err)
    (updates,) = re.findall(r"`(scopekeeper wrap --update .*?)`", out)
    for command in (updates, adds):
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True,
            env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip
        assert done.stderr == "", command
    assert call(tmp_path, "wrap", "--check", **environment)[0] == 0


def test_check_looks_at_projects_and_plugins_too(tmp_path):
    project, cache = tmp_path / "shop", tmp_path / ".claude/plugins/cache"
    for path, data in {
        tmp_path / ".claude.json": {"projects": {str(project): {}, "/nonexistent": {}, "rel": {}}},
        project / ".mcp.json": {"mcpServers": {"a": {"command": "x"}}},
        tmp_path / ".claude/settings.json": {"enabledPlugins": {"off@m": False}},
        tmp_path / ".claude/plugins/installed_plugins.json": {"plugins": {
            "flat@m": [{"installPath": str(cache / "flat")}],
            "one@m": {"installPath": str(cache / "one")}, "bad@m": [1, {}],
            "off@m": [{"installPath": str(cache / "off")}]}},
        cache / "flat/.mcp.json": {"f": {"command": "x"}},
        cache / "one/.claude-plugin/plugin.json": {"mcpServers": {"o": {"command": "x"}}},
        cache / "off/.mcp.json": {"z": {"command": "x"}},
        tmp_path / ".gemini/extensions/e/gemini-extension.json":
            {"mcpServers": {"g": {"command": "x"}}},
    }.items():  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
    before = tree(tmp_path)
    status, out, err = call(tmp_path, "wrap", "--check", "--json")
    found = json.loads(out)["files"]
    names = [server["name"] for each in found for server in each["servers"]]
    assert (status, sorted(names)) == (1, ["a", "f", "g", "o"])
    assert f"{project}/.mcp.json has servers that are not wrapped: a; run `scopekeeper wrap" in err
    assert (
        f"{cache}/flat/.mcp.json has servers that are not wrapped: f; it belongs to Claude" in err
    )
    assert "`scopekeeper run -n gemini -- gemini`" in err
    assert call(tmp_path, "wrap", "--check", "--client", "codex")[0] == 0
    assert tree(tmp_path) == before
    call(tmp_path, "wrap", project / ".mcp.json")
    excepted = [word for name in "fgo" for word in ("--except", name)]
    here = installed(tmp_path / "bin")
    call(tmp_path, "wrap", "--update", project / ".mcp.json", "--program", here)
    assert call(tmp_path, "wrap", "--check", *excepted)[::2] == (0, "")


def test_it_ends_with_what_is_missing_and_with_who_has_to_be_restarted(simple, tmp_path):
    sleep, mine = shutil.which("sleep"), os.environ | {"HOME": str(tmp_path)}
    client = subprocess.Popen(["claude", "1000"], executable=sleep, env=mine)
    other = subprocess.Popen(["codex", "1000"], executable=sleep, env=mine)
    try:
        for each in (client, other):  # shown by the kernel only once the program is loaded
            eventually(lambda pid=each.pid: text_of(f"/proc/{pid}/cmdline"))
        _, out, _ = call(tmp_path, "wrap", simple)
        lines = [line for line in out.splitlines() if line.startswith("Restart ")]
        assert len(lines) == 1
        assert lines[0].startswith("Restart Claude Code (pid ")
        assert str(client.pid) in lines[0]
        assert "Restart" not in call(tmp_path, "wrap", simple)[1]
        told = json.loads(call(tmp_path, "unwrap", simple, "--json")[1])
        assert client.pid in told["restart"]["Claude Code"]
    finally:
        for each in (client, other):
            each.kill()
            each.wait()


@pytest.mark.parametrize(("words", "client"), [
    (["claude"], "claude-code"),
    (["/home/a/.local/bin/codex", "app-server"], "codex"),
    (["node", "--no-warnings", "/usr/bin/gemini"], "gemini"),
    (["/venv/bin/python", "-m", "hermes_cli.main", "gateway", "run"], "hermes"),
    (["python3", "-m", "http.server"], ""),
    (["/usr/bin/node", "/x/node_modules/openclaw/dist/index.js", "gateway"], "openclaw"),
    (["openclaw-gateway"], "openclaw"),
    (["/usr/share/code/code"], "vscode"),
    (["/usr/share/code/code", "--type=renderer"], ""),
    (["node", "server.js"], ""), (["node"], ""), ([""], ""), ([], ""),
])  # fmt: skip
def test_a_client_is_recognised_by_its_command_line(words, client):
    from scopekeeper.mcp_configs.running import client_of

    assert client_of(words) == client


def test_what_is_missing_is_named_with_the_command_that_adds_it(monkeypatch):
    note = Finding("keeper", Status.NOTE, "does not run", "scopekeeper install --user")
    monkeypatch.setattr(wrap.choose_placement, "find", lambda _: None)
    monkeypatch.setattr(wrap, "keeper", lambda _: note)
    (text,) = wrap._missing()
    assert "the keeper: does not run. Until it is there, what a killed client leaves stays" in text
    assert text.endswith("To add it: scopekeeper install --user")
    monkeypatch.setattr(wrap, "keeper", lambda _: Finding("keeper", Status.OK, "runs"))
    assert wrap._missing() == []

    def nowhere(_):
        raise StateError("no cgroup2 is mounted", "mount it")

    monkeypatch.setattr(wrap.choose_placement, "find", nowhere)
    assert "a place for scopes: no cgroup2 is mounted" in wrap._missing()[0]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("mine.json", '{"mcpServers": {\n  "a": {"command": "x",,}}}', "2:24: "),
        ("mine.json", '{"mcpServers": {}, "mcpServers": {}}', "1:20: duplicate key 'mcpServers'"),
        ("mine.json", "", "1:1: the file ends where a value is expected"),
        ("mine.txt", "hello world", "1:1: 'h' where a value is expected"),
        ("mine.yaml", "a: [b", ""), ("mine.toml", "[a", "1:3: "),
    ],
)  # fmt: skip
def test_the_place_of_an_error_in_a_file_of_an_unknown_name_comes_first(
    tmp_path, name, text, place
):
    path = tmp_path / name
    path.write_text(text)
    status, out, err = call(tmp_path, "wrap", path)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"scopekeeper: {path}:{place}")
    assert ("give --format CLIENT" in err) is (path.suffix != ".toml")  # it is Codex's form
    assert path.read_text() == text
    assert call(tmp_path, "wrap", "--check", path)[0] == 2
