"""What doctor finds about the environment of its caller."""

from pathlib import Path

from scopekeeper.doctor import parts
from scopekeeper.doctor.finding import Status


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
