"""The model itself: it sees what it has to see, on paper and on a real systemd."""

import dataclasses
from pathlib import Path

import pytest

from tests.proof.canaries import Canaries

from . import results
from .compare import differences, for_good
from .example import Course, DifferenceError
from .running import machine_of, play
from .seen import Scope, Seen
from .shadow import GONE, STOPPED, Gateway, Member, Shadow

UNIT, LEAF, YARD = "scopekeeper-s-main.scope", "m-files.0123abcd", "/user.slice/proof-yard.scope"
INSIDE = f"/user.slice/{UNIT}/{LEAF}"
PATH = Path("/tmp/path")


def shadow_of(**how):
    """Return a model with one member of a living gateway."""
    about = {"lane": "main", "kind": "mcp", "lifetime": "gateway", "command": 7} | how
    shadow = Shadow()
    owner = Gateway("g0")
    member = Member("m1", "files", "s", owner=owner, unit=UNIT, leaf=LEAF, **about)
    shadow.gateways.append(owner)
    shadow.members.append(member)
    return shadow, member


def good(**how):
    """Return what is there beside that model."""
    shown = {"session": "s", "lane": "main", "unit": UNIT, "name": "files", "pids": [7],
             "state": "running"}  # fmt: skip
    record = {"SESSION": "s", "LANE": "main"}
    scope = Scope(record, "active", {LEAF: {"NAME": "files"}}, frozenset([LEAF]), frozenset([7]))
    seen = Seen({("m1", 7): INSIDE}, {UNIT: scope}, [], {LEAF: shown}, frozenset())
    return dataclasses.replace(seen, **how)


def compared(shadow, seen, *, settled=True, history=True):
    return differences(shadow, seen, YARD, settled=settled, history=history)


def changed(seen, **how):
    """Return the same with another scope."""
    scope = dataclasses.replace(seen.scopes[UNIT], **how)
    return dataclasses.replace(seen, scopes={UNIT: scope})


def test_what_is_as_it_must_be_is_no_difference():
    shadow, _ = shadow_of()
    assert compared(shadow, good()) == []


@pytest.mark.parametrize(
    ("word", "there"),
    [
        ("innocent", good(where={})),
        ("lost", good(where={("m1", 7): "/user.slice/elsewhere.scope"})),
        ("lost", good(where={("m1", 7): INSIDE, ("m1", 8): INSIDE})),
        ("lost", changed(good(), state="inactive")),
        ("lost", changed(good(), record={})),
        ("lost", changed(good(), record={"SESSION": "another", "LANE": "main"})),
        ("lost", changed(good(), leaves={LEAF: {}})),
        ("left", changed(good(), leaves={LEAF: {"NAME": "files"}, "m-old.1": {}})),
        ("left", changed(good(), leaves={LEAF: {"NAME": "files", "STATE": "stopping"}})),
        ("listing", good(listed={})),
        ("listing", good(listed={LEAF: good().listed[LEAF] | {"pids": [7, 8]}})),
        ("listing", good(listed={LEAF: good().listed[LEAF] | {"state": "orphan"}})),
        ("listing", good(listed={LEAF: good().listed[LEAF] | {"session": "another"}})),
        ("history", good(ends=[("0123abcd", 7, "exited")])),
    ],
)
def test_each_kind_of_difference_is_seen(word, there):
    shadow, _ = shadow_of()
    assert (
        [each.partition(":")[0] for each in compared(shadow, there)]
        == [word] * len(compared(shadow, there))
        != []
    )


def test_what_has_to_be_gone_and_lives_is_left():
    shadow, member = shadow_of()
    member.end(STOPPED)
    found = compared(shadow, good())
    assert any(each.startswith("left: pid 7 of m1 has to be gone") for each in found)
    nothing = Seen(ends=[("0123abcd", 7, STOPPED)])
    assert compared(shadow, nothing) == []
    assert "left" in compared(shadow, changed(good(where={}, listed={}), pids=frozenset()))[0]


def test_each_end_has_one_reason_that_fits():
    shadow, member = shadow_of()
    member.end(STOPPED)
    for ends, words in (
        ([], "no reason"),
        ([("0123abcd", 7, GONE)], "'owner gone', not by stopped by request"),
        ([("0123abcd", 7, STOPPED)] * 2, "more than one end"),
    ):
        (found,) = compared(shadow, Seen(ends=ends))
        assert found.startswith("history: ")
        assert words in found


def test_a_path_goes_with_its_member_and_neither_before_nor_after():
    shadow, member = shadow_of(paths=[PATH])
    assert compared(shadow, good(there=frozenset([PATH]))) == []
    (found,) = compared(shadow, good())
    assert for_good([found]) == ["early: path is removed, and m1 lives"]
    member.end(STOPPED)
    ended = Seen(ends=[("0123abcd", 7, STOPPED)], there=frozenset([PATH]))
    assert compared(shadow, ended) == ["left: path is there, and m1 has ended"]
    assert compared(shadow, ended, settled=False) == []
    shadow.kept.append(PATH)
    assert "early" in compared(shadow, dataclasses.replace(ended, there=frozenset()))[0]


def test_what_has_left_stays_where_it_is_and_alive():
    shadow, _ = shadow_of(helper=8, helps=True, is_out=True)
    where = {("m1", 7): INSIDE, ("m1", 8): YARD}
    assert compared(shadow, good(where=where)) == []
    assert compared(shadow, good())[0].startswith("innocent: pid 8")
    found = compared(shadow, good(where={**where, ("m1", 8): INSIDE}))
    assert found[0].startswith("lost: pid 8 of m1 had left")


def test_what_is_due_is_allowed_to_live_until_somebody_looks():
    shadow, member = shadow_of()
    member.owner.lives = False
    assert member.due() == (GONE,)
    assert compared(shadow, good(), settled=False, history=False) == []
    assert compared(shadow, Seen(), settled=False, history=False) == []
    shadow.settle()
    assert "left" in compared(shadow, good())[0]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"lifetime": "detached"}, ()),
        ({"lifetime": "session"}, ()),
        ({"lifetime": "session", "lane": "brief"}, (GONE,)),
        ({"lane": "told"}, ()),
        ({"hung_up": True}, (GONE, "abandoned")),
        ({"leads": False, "helps": True}, (GONE, "leader exited")),
        ({"leads": False, "helps": True, "kind": "exec"}, (GONE,)),
        ({"leads": False, "helps": True, "kind": "exec", "lane": "tidy"}, (GONE, "leader exited")),
        ({"lane": "timed"}, (GONE, "ttl")),
    ],
)
def test_what_the_documentation_says_of_a_member_whose_gateway_is_gone(how, why):
    shadow, member = shadow_of(**how)
    shadow.gateway_ends(member.owner)
    assert member.due() == why


def test_an_adopted_member_stays_and_a_replaced_one_goes():
    shadow, member = shadow_of()
    new = Gateway("g1")
    shadow.gateway_ends(member.owner)
    assert shadow.adopt(member.owner, new) == [member]
    assert member.due() == ()
    later = dataclasses.replace(member, tag="m2", owner=Gateway("g2"), reasons=())
    shadow.members.append(later)
    assert shadow.replaced(later) == []  # another's that lives
    new.lives = False
    assert shadow.replaced(later) == [member]


def test_a_row_has_the_command_that_repeats_it():
    about = dict.fromkeys(("commit", "kernel", "systemd", "Python", "user"), "x") | {"seed": "7"}
    summary = {"about": about, "wants": 300, "steps": 310, "examples": 11, "canaries": 8,
               "kinds": {"run": 310}, "found": ["left: a; lost: b", "history: c"]}  # fmt: skip
    row = results.row(summary)
    assert row.endswith("| 310 | 11 | 0 | 0 | 0 | 1 | 1 | `make model STEPS=300 SEED=7` |")
    assert "310 steps in 11 examples" in results.lines(summary)


class StopsAll(Shadow):
    """Says that the stop of one member ends everything."""

    def stop(self, members):
        super().stop(self.living())


class KeepsAll(Shadow):
    """Says that what a killed gateway leaves lives on."""

    def gateway_ends(self, gateway):
        super().gateway_ends(gateway)
        for each in self.members:
            each.lifetime = "detached"


class NeverAdopts(Shadow):
    """Says that what a killed gateway leaves stays nobody's."""

    def adopt(self, former, new):
        return []


class KeepsPaths(Shadow):
    """Says that a path stays after its member."""

    def stop(self, members):
        super().stop(members)
        self.kept += [path for each in members for path in each.paths]


def _kills(rig, shadow, _):
    """Kill a member behind the model's back."""
    commands = [each.command for each in shadow.running() if each.leads]
    if len(commands) > 1:
        rig.signal(commands[0], 9, ends=True)


def _touches(rig, shadow, step):
    """Signal an innocent process, which only records it."""
    if step == 4:
        rig.signal(rig.canaries.all[0].pid, 15, ends=False)


def _moves(rig, shadow, _):
    """Move a member out of its cgroup."""
    for each in shadow.running():
        if each.leads:
            rig.move(each.command, rig.yard)


@pytest.fixture
def course(tmp_path):
    canaries = Canaries(tmp_path / "canaries")
    yield Course(tmp_path, 7, canaries, patience=8)
    canaries.close()


@pytest.mark.systemd
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("shadow", "steps", "word"),
    [
        (StopsAll, (("stop", 0, "member"),), "left"),
        (KeepsAll, (("end_gateway", 0, "kill"), ("reconcile",)), "innocent"),
        (NeverAdopts, (("end_gateway", 0, "kill"), ("adopt", 0, 0), ("reconcile",)), "left"),
        (KeepsPaths, (("stop", 0, "member"),), "early"),
    ],
)
def test_what_the_model_has_wrong_is_found(course, shadow, steps, word):
    course.shadow = shadow
    example = machine_of(course)()

    def go():
        for name, *given in steps:
            getattr(example, name)(*given)

    try:
        example.begin("main", "gateway")
        with pytest.raises(DifferenceError):
            go()
    finally:
        example.teardown()
    (found,) = course.found
    assert found.startswith(word), found


@pytest.mark.systemd
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("meddle", "word"), [(_kills, "innocent"), (_touches, "innocent"), (_moves, "lost")]
)
def test_what_is_done_behind_the_models_back_is_found(course, meddle, word):
    course.meddle = meddle
    words = play(course, 7, 40, shrinks=False)
    (found,) = course.found
    assert found.startswith(word), found
    assert "again: make model MODEL_ARGS='--blob " in words


@pytest.mark.systemd
@pytest.mark.timeout(1200)
def test_a_difference_is_shrunk(course):
    """To what each example begins with, and no more than two other steps."""
    course.meddle = _kills
    play(course, 8, 40)
    assert len(course.found) == 1
    assert len(course.trace) <= 6, course.trace
