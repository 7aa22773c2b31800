"""What `why` tells of an end: all that the history has, and nothing twice."""

import os
import subprocess

import pytest
from ends import an_end

from scopekeeper.cli.still_running import client
from scopekeeper.cli.why import sentence
from scopekeeper.scope.model import Member
from scopekeeper.scope.reason import Reason


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"reason": Reason.EXITED, "exit_status": 3, "evidence": "exit status 3"},
         "exited with status 3, "),
        ({"reason": Reason.EXITED, "evidence": "its command was not started"},
         ": its command was not started"),
        ({"reason": Reason.SIGNALLED, "signal": 15, "evidence": "killed by SIGTERM"},
         "was ended by SIGTERM, "),
        ({"reason": Reason.SIGNALLED, "signal": 15,
          "evidence": "killed by SIGTERM, as the user's manager stopped with all that it ran"},
         ": killed by SIGTERM, as the user's manager stopped with all that it ran"),
        ({"reason": Reason.STOPPED, "evidence": "asked for by bash"}, ": asked for by bash"),
    ],
)  # fmt: skip
def test_a_sentence_has_the_evidence_unless_it_says_so_already(known, said):
    text = sentence(an_end(**known))
    assert said in text
    assert text.count(known["evidence"]) <= 1


def test_the_client_of_a_running_server_is_named_until_it_lets_go():
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.PIPE) as server:
        try:
            member = Member("x", "01234567", "/m", "/m", pid=server.pid, leader_lives=True)
            assert client(member).startswith("the other end of its stdin is held by ")
            assert client(member).endswith(f" (pid {os.getpid()})")
            server.stdin.close()
            assert client(member) == "nobody holds the other end of its stdin"
        finally:
            server.kill()
    assert client(member) == ""
