"""What `why` tells of an end: all that the history has, and nothing twice."""

import pytest
from ends import an_end

from scopekeeper.cli.why import sentence
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
