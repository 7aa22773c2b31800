"""A user's table of clients is taken as it stands, or a file and a table are named."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekeeper.clients import cached, keys
from scopekeeper.clients import compile as compiler
from scopekeeper.clients import format as form
from scopekeeper.clients.parse import ClientsError, parse
from scopekeeper.clients.table import TABLE
from scopekeeper.mcp_configs import formats, known_clients
from scopekeeper.mcp_configs.client_format import Format
from scopekeeper.mcp_configs.hook_format import HookFormat
from scopekeeper.policy import files

BUILT_IN = compiler.texts_of([compiler.BUILT_IN])
SETTINGS = '[mine.hook_settings]\nfolders = ["$HOME/.x"]\n'
MINE = '[mine]\nprograms = ["mine"]\nsession = ["MY_ID"]\n'


def table(*texts):
    made = parse([*BUILT_IN, *((f"/etc/{number}.toml", text) for number, text in enumerate(texts))])
    return {row[0]: row[1:] for row in made}


def test_a_client_needs_only_its_programs():
    assert table('[mine]\nprograms = ["mine"]')["mine"] == (
        ("mine",), (), (), "mine", "main", "starter",
    )  # fmt: skip


def test_a_key_overrides_that_key_of_a_built_in_client():
    made = table('[claude]\nprograms = ["claude", "my claude"]', '[claude]\nlane = "cli:x"')
    assert made["claude-code"] == (
        ("claude", "my claude"), ("CLAUDE_CODE_SESSION_ID",), ("CLAUDECODE",),
        "claude", "cli:x", "starter",
    )  # fmt: skip
    assert {name: row for name, row in made.items() if name != "claude-code"} == {
        row[0]: row[1:] for row in TABLE if row[0] != "claude-code"
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mine]\n", 'name its programs: programs = ["mine"]'),
        ("[mine]\nprograms = []\n", "name its programs"),
        ('[mine]\nprograms = "mine"\n', "programs is a list of up to 8 file names"),
        (f"[mine]\nprograms = {['x'] * 9}\n", "programs is a list of up to 8"),
        ('[mine]\nprograms = ["/bin/mine"]\n', "programs is a list"),
        ('[mine]\nprograms = ["a,b"]\n', "programs is a list"),
        (f'[mine]\nprograms = ["{"x" * 65}"]\n', "programs is a list"),
        (MINE.replace("MY_ID", "MY-ID"), "session is a list of up to 8 names of variables"),
        (MINE.replace("MY_ID", "SCOPEKEEPER_LANE"), "none of SCOPEKEEPER_"),
        (MINE.replace('["MY_ID"]', "[1]"), "session is a list"),
        (MINE + 'owner = "init"', "owner is 'starter' or 'client'"),
        (MINE + "owner = true", "owner is"),
        (MINE + 'prefix = "a:b"', "prefix is a text"),
        (MINE + 'lane = ""', "lane is a text"),
        (MINE + 'lane = "a\\tb"', "lane is a text"),
        (MINE + 'prefixes = "x"', "unknown key prefixes; did you mean prefix?"),
        ('programs = ["mine"]', "programs is in no client's table; write [NAME]"),
        ('["a b"]\nprograms = ["mine"]', "a client's name has up to 32"),
        ("[mine", "/etc/0.toml: "),
        ("a = " + "[" * 100_000, "/etc/0.toml: "),
        ("a = " + "9" * 5000, "/etc/0.toml: "),
        ('[mine.servers]\nlanguage = "xml"', "servers.language is one of json, json with comments"),
        ("[mine.servers]\nfile = []", "unknown key file; did you mean files?"),
        ("[mine]\nservers = 7", "servers is a table; write [NAME.servers]"),
        ('[mine.servers]\nfiles = ["/etc/x"]', "servers.files is a list of up to 16 paths that"),
        ('[mine.servers]\nfiles = ["$HOME//x"]', "servers.files is a list"),
        ('[mine.servers]\nfiles = ["{mars}/x"]', "no client mars has user_folders, as {mars}/x"),
        ('[mine.servers]\nfiles = ["{codex}/x"]', "no client codex has user_folders"),
        ('[mine.servers]\nplaces = ["mcp"]', "servers.places is a list of up to 16 lists of keys"),
        ("[mine.servers]\nplaces = [[]]", "servers.places is a list"),
        ('[mine.servers]\nnested = ["a"]', "servers.nested is a list of two words"),
        ('[mine.servers]\nflat = "yes"', "servers.flat is true or false"),
        ('[mine.servers]\nprojects = ["../x"]', "servers.projects is a list"),
        ("[mine.servers]\nunchanged = { a = 1 }", "servers.unchanged is a table of reasons"),
        ('[mine.servers]\nlanguage = "toml"\ncommand = "run"', "servers.command is only for json"),
        ('[mine.servers]\nlanguage = "toml"\narguments = "with"', "servers.arguments is only for"),
        ('[mine.servers]\npasses = "env"', "servers.passes is only for toml"),
        ("[mine.servers]\nnamed = true", "servers.named is only for yaml"),
        (MINE + '[mine.hook_settings]\nevents = ["a"]', "hook_settings.folders is missing"),
        (MINE + SETTINGS + 'events = ["a"]\nfile = "x"', "hook_settings needs [mine.hooks]"),
        (MINE + SETTINGS + 'events = ["a b"]', "hook_settings.events is a list of up to 16 names"),
        (MINE + SETTINGS + 'file = "/x"', "hook_settings.file is the path of a file below"),
        (MINE + SETTINGS + "off = { a = 1 }", "hook_settings.off is a table of true or false"),
        (MINE + SETTINGS + "after = { x = true }", "hook_settings.after is a table of texts and"),
        (MINE + SETTINGS + 'after = { "x y" = 1 }', "hook_settings.after is a table of texts and"),
        (MINE + '[mine.launchers]\nvariables = { a = "/b" }', "launchers.variables is a table"),
        (MINE + 'short = "codex"', "short is codex, the name of another client"),
        (MINE + 'short = "claude"', "short is claude, the name of another client"),
        (MINE + 'short = ""', "short is a text of up to 32"),
        (MINE + 'title = "a\\nb"', "title is a text of up to 400 characters, in one line"),
        ("".join(f'[c{n}]\nprograms = ["c"]\n' for n in range(60)), "more than 64 clients"),
    ],
)
def test_a_wrong_table_is_one_line_with_the_file(text, words):
    with pytest.raises(ClientsError) as caught:
        table(text)
    assert str(caught.value).startswith("/etc/0.toml: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_compiled_comes_back():
    assert form.loads([form.dumps(row) for row in TABLE]) == TABLE


@given(st.lists(st.text(st.characters(exclude_characters="\n")), max_size=3))
def test_whatever_was_made_of_the_compiled_file_a_launch_takes_only_a_table(lines):
    whole = [form.dumps(row) for row in TABLE]
    made = form.loads(whole + lines)
    assert made is None or made[: len(TABLE)] == TABLE
    assert form.loads(lines) is None or len(form.loads(lines)) == len(lines)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a user's files; no others count."""
    monkeypatch.setattr(files, "SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setitem(files.posix.environ, files.VARIABLE, str(tmp_path).encode())
    monkeypatch.setattr(cached, "runtime_path", lambda name: str(tmp_path / "run" / name))
    return tmp_path


def known(warned=()):
    warnings = []
    made = cached.table(warnings)
    assert [words for words in warned if not any(words in text for text in warnings)] == []
    assert len(warnings) == len(warned)
    return {row[0] for row in made} - {row[0] for row in TABLE}


def test_a_users_table_is_compiled_once_for_each_change(folder, monkeypatch):
    path = folder / "clients.toml"
    path.write_text(MINE)
    assert known() == {"mine"}
    with monkeypatch.context() as patch:
        patch.setattr(cached.regular_files, "read", refuse_toml(cached.regular_files.read))
        assert known() == {"mine"}
    path.write_text(MINE + MINE.replace("[mine]", "[other]"))
    assert known() == {"mine", "other"}
    path.unlink()
    assert known() == set()


def refuse_toml(read):
    def reading(path, *more, **how):
        assert not str(path).endswith(".toml")
        return read(path, *more, **how)

    return reading


def test_a_wrong_file_is_a_warning_and_the_built_in_table_applies(folder):
    (folder / "clients.toml").write_text("[mine]")
    assert known(["clients.toml: [mine]: name its programs"]) == set()


def test_a_file_that_others_can_write_does_not_count(folder):
    (folder / "clients.toml").write_text(MINE)
    (folder / "clients.toml").chmod(0o666)
    assert known(["the table of clients in"]) == set()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_strange_file_is_a_warning_and_holds_up_nothing(folder, make):
    make(folder / "clients.toml")
    assert known(["no regular file"]) == set()


def test_a_damaged_compiled_file_is_made_again(folder):
    (folder / "clients.toml").write_text(MINE)
    assert known() == {"mine"}
    compiled = folder / "run/clients"
    whole = compiled.read_text()
    compiled.write_text(whole.replace("MY_ID", "MY ID"))
    assert known() == {"mine"}
    assert compiled.read_text() == whole


def test_without_a_runtime_directory_it_is_read_each_time(folder, monkeypatch):
    (folder / "clients.toml").write_text(MINE)
    monkeypatch.setattr(cached, "runtime_path", lambda _: "")
    assert known() == known() == {"mine"}


def test_a_users_table_changes_only_its_keys_and_its_own_clients_come_first(folder):
    text = '[vscode.servers]\nfiles = ["{cursor}/mine.json"]\n[mine.servers]\nby_content = true\n'
    (folder / "clients.toml").write_text(text)
    made, before = known_clients.formats(), known_clients.built_in()
    assert [*made] == ["mine", *before]
    assert made["vscode"].files == ("$XDG_CONFIG_HOME/Cursor/User/mine.json",)
    assert replace(made["vscode"], files=before["vscode"].files) == before["vscode"]
    assert formats.recognise("/x.json", '{"mcpServers": {"a": {"command": "x"}}}').name == "mine"
    assert known_clients.client_named("claude") == before["claude-code"]


def test_each_language_and_each_key_of_a_file_is_known_to_those_who_read_it():
    assert set(known_clients._DIALECTS) == set(keys.LANGUAGES)
    servers, hooks = (set(keys.SECTIONS[name]) for name in ("servers", "hook_settings"))
    assert servers - {"language", "user_folders"} < set(Format.__dataclass_fields__)
    assert hooks - {"language"} < set(HookFormat.__dataclass_fields__)
