"""The real OpenClaw: what its sessions leave, what a restart takes, what a server sees."""

import pytest

from .conftest import Proof
from .openclaw import NAMES
from .scenario import LEAKS, MAIN, NO_LEAKS, SPARK, STEPS

HELPERS = ("group", "setsid")
pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(1500)]


def test_without_scopekeeper_the_script_leaves_servers_or_helpers(proof: Proof) -> None:
    if proof.version not in LEAKS:
        pytest.skip(f"what {proof.version} leaks is not known: {proof.without.counts}")
    assert proof.without.counts == LEAKS[proof.version]


def test_after_each_step_the_cohorts_of_live_sessions_run_and_no_more(proof: Proof) -> None:
    assert proof.contained.counts == NO_LEAKS


def test_every_server_and_helper_is_in_a_scope_of_its_session(proof: Proof) -> None:
    sessions = [[MAIN], *[sorted([MAIN, SPARK])] * (len(STEPS) - 1)]
    assert proof.contained.sessions == sessions


def test_the_tools_of_a_live_session_are_the_same_processes_all_along(proof: Proof) -> None:
    first, last, *_ = proof.contained.pings
    assert first.isdigit()
    assert last == first


def test_the_tools_of_a_session_work_after_restarts(proof: Proof) -> None:
    *_, last = proof.contained.pings
    assert last.isdigit()
    assert last not in proof.contained.pings[:-1]


@pytest.mark.parametrize("how", ["SIGKILL", "restart"])
def test_nothing_of_an_old_gateway_is_left_when_a_new_one_has_started(
    proof: Proof, how: str
) -> None:
    restart = proof.contained.restarts[how]
    assert restart.old >= len(NAMES) + len(HELPERS)
    assert not restart.left


def test_background_commands_outlive_a_killed_gateway_only_with_scopekeeper(proof: Proof) -> None:
    assert proof.without.restarts["SIGKILL"].workers == []
    assert proof.contained.restarts["SIGKILL"].workers == ["backend", "run", "terminal"]


def test_runs_of_exec_outlive_a_gateway_that_ends_its_own_commands(proof: Proof) -> None:
    # told to stop, OpenClaw sends its own background commands a SIGTERM before it leaves
    assert proof.without.restarts["restart"].workers == []
    assert "run" in proof.contained.restarts["restart"].workers


def test_a_run_that_outlived_its_gateway_is_listed_with_its_session(proof: Proof) -> None:
    runs = {scope["run"] for scope in proof.live.listed if scope["kind"] == "pty"}
    assert proof.live.run in runs
    assert proof.live.worker_session == MAIN


def test_a_run_that_outlived_its_gateway_can_be_attached(proof: Proof) -> None:
    assert "at work" in proof.live.screen


def test_a_worker_that_ignores_a_hangup_is_ended_by_its_policy(proof: Proof) -> None:
    assert proof.live.left == []
    reasons = {end["reason"] for end in proof.live.ended if end["kind"] == "pty"}
    assert "owner gone" in reasons


def test_a_folder_goes_with_the_process_that_names_it_and_not_with_the_gateway(
    proof: Proof,
) -> None:
    assert proof.live.folder == [True, False]


@pytest.mark.parametrize("server", NAMES)
def test_a_server_sees_what_it_would_see_unwrapped(proof: Proof, server: str) -> None:
    bare, ours = proof.without.servers[server], proof.contained.servers[server]
    assert not bare.ours
    assert ours.ours
    assert ours.words == bare.words
    assert ours.without_ours == bare.without_ours
    assert "SHELL" in bare.environment
    assert ours.descriptors == bare.descriptors
    assert ours.signals == bare.signals
    assert (ours.folder, ours.others) == (bare.folder, bare.others)


def test_status_says_that_everything_is_contained(proof: Proof) -> None:
    parts = {part["part"]: part["verdict"] for part in proof.live.status["parts"]}
    assert set(parts.values()) == {"ok"}, proof.live.status
