"""``bugreport`` where there is no systemd."""

import json

import pytest

from .container import Container

pytestmark = pytest.mark.systemd  # the lab's machine has the cgroup to delegate


def test_it_has_what_there_is_and_the_log_of_a_keeper_that_was_started_by_a_run(
    container: Container, session: str
) -> None:
    before = json.loads(container.call("bugreport", "-o", "-").stdout)
    assert before["keeper"] == {"runs": False}
    assert before["log"]["lines"] == []
    run = container.call(
        "exec", "-d", "-s", session, "-n", "waits", "--", "tail", "-f", "/dev/null"
    )
    assert run.returncode == 0, run.stderr
    with open(f"{before['log']['from']}", "a", encoding="utf-8") as log:
        log.write(f"the last line of {session}\n")
    done = container.call("bugreport", "-o", "-", "--hide-names")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["keeper"] == {"runs": True}
    assert found["versions"]["systemd"] == "does not run here"
    assert found["journal"]["problem"] == "systemd does not run here"
    (scope,) = found["ls"]["scopes"]
    assert found["log"]["lines"][-1] == f"the last line of {scope['session']}"
    assert session not in done.stdout
    assert [each["program"] for each in scope["members"]] == ["tail"]
