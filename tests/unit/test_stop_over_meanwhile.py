"""A stop of another process that is over when it is asked about is no stop that nothing proves."""

from scopekeeper.lifecycle import reconcile
from scopekeeper.lifecycle.plan import Action, Step, Verdict
from scopekeeper.scope.model import Scope


def kept(directory):
    scope = Scope(
        unit="scopekeeper-s-main.scope", directory=str(directory), cgroup="/x", uid=0,
        session="s", lane="main", stopping=True, stopper=7,
    )  # fmt: skip
    return Action(Step.KEEP, Verdict.STOPPING, scope, None, "its record says so")


def test_a_scope_that_is_gone_meanwhile_has_ended(tmp_path):
    done = reconcile.untouched(kept(tmp_path / "gone"))
    assert (done.outcome, done.change) == ("changed meanwhile", "it has ended meanwhile")
    assert done.is_settled


def test_a_scope_that_is_there_is_not_settled_by_its_record_alone(tmp_path):
    done = reconcile.untouched(kept(tmp_path))
    assert (done.outcome, done.change) == ("kept", "")
    assert not done.is_settled
