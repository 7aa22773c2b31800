"""A file with hooks is made only where there is none, and removed only as it was read."""

import os

import pytest

from scopekeeper.errors import ConfigError
from scopekeeper.mcp_configs import files, hook_files


@pytest.fixture
def file(tmp_path):
    """Return the file of Copilot CLI in a home that has its folder."""
    (tmp_path / ".copilot").mkdir()
    (file,) = hook_files.hook_files({"HOME": str(tmp_path)}, "copilot")
    return file


def test_it_is_made_for_its_user_only_and_nothing_else_is_in_its_folder(file):
    hook_files.make(file, "{}\n")
    folder = os.path.dirname(file.path)
    assert (os.listdir(folder), os.stat(file.path).st_mode & 0o777) == (["scopekeeper.json"], 0o600)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    hook_files.remove(file, files.read(file.path))
    assert os.listdir(file.folder) == []


@pytest.mark.parametrize("other", ["file", "link"])
def test_what_has_its_name_by_now_stays(file, other):
    os.mkdir(os.path.dirname(file.path))
    if other == "link":
        os.symlink("/nonexistent", file.path)
    else:
        with open(file.path, "w", encoding="utf-8") as made:
            made.write("mine")
    with pytest.raises(ConfigError, match="was not made: is there by now"):
        hook_files.make(file, "{}\n")
    assert os.listdir(os.path.dirname(file.path)) == ["scopekeeper.json"]
    assert other == "link" or files.read(file.path).raw == b"mine"


def test_a_file_that_changed_since_it_was_read_is_not_removed(file):
    hook_files.make(file, "{}\n")
    original = files.read(file.path)
    with open(file.path, "a", encoding="utf-8") as made:
        made.write("mine")
    with pytest.raises(ConfigError, match="changed while it was worked on"):
        hook_files.remove(file, original)
    assert files.read(file.path).raw == b"{}\nmine"


def test_other_files_in_its_folder_stay(file):
    hook_files.make(file, "{}\n")
    other = os.path.join(os.path.dirname(file.path), "other.json")
    with open(other, "w", encoding="utf-8"):
        pass
    hook_files.remove(file, files.read(file.path))
    assert os.listdir(os.path.dirname(file.path)) == ["other.json"]
