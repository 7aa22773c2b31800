"""Claims come back as they were written, and what is due follows from them alone."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scopekeeper.kernel.mounts import is_within
from scopekeeper.owned import claim as claims
from scopekeeper.owned.claim import Claim, Holder, Kind, Thing, are_related
from scopekeeper.owned.plan import HolderState, judge
from scopekeeper.scope import records

NAMES = st.one_of(
    st.sampled_from("ab"),
    st.binary(min_size=1, max_size=8)
    .filter(lambda b: not {0, 47}.intersection(b) and b not in (b".", b".."))
    .map(lambda b: b.decode("utf-8", "surrogateescape")),
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
NUMBERS = st.integers(0, 2**64 - 1)
THINGS = st.builds(Thing, NUMBERS, NUMBERS, NUMBERS, PATHS)
HOLDERS = st.builds(
    Holder,
    st.sampled_from(Kind),
    st.sampled_from(["boot1", "boot2"]),
    st.sampled_from(["", "1/2"]),
    PATHS,
    NUMBERS,
    st.integers(0, 2**31 - 1),
    st.sampled_from(["", "77"]),
    st.booleans(),
)
CLAIMS = st.builds(
    Claim,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    PATHS,
    THINGS,
    HOLDERS,
    NUMBERS,
    st.integers(0, 99),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=20),
)


@given(CLAIMS)
def test_a_claim_comes_back(claim):
    assert claims.loads(claim.claim_id, claims.dumps(claim)) == claim


ONE = Claim("0" * 16, "/x/y", Thing(1, 2, 0, "/"), Holder(Kind.NOBODY, "boot"), 1)
HOSTILE = st.one_of(
    st.sampled_from([b"--5", b"9" * 400, b"9" * 5000, b"\xd9\xa3", b"1e9", b"NaN", b"0x1f", b" 7"]),
    st.sampled_from([b"/a\0b", b"/../x", b"/", b"//", b"member", b"\xed\xa0\x80", b"[" * 100_000]),
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
)
KEYS = ["V", "PATH", "DEVICE", "INODE", "GENERATION", "MOUNT", "HOLDER", "BOOT", "NAMESPACES",
        "CGROUP", "CGROUP_ID", "PID", "START", "WHOLE", "MADE", "ATTEMPTS", "PROBLEM"]  # fmt: skip


@example(ONE, {"MADE": b"9" * 5000})
@example(ONE, {"PID": b"9" * 400})
@example(ONE, {"PATH": b"/a\0b"})
@given(CLAIMS, st.dictionaries(st.sampled_from(KEYS), HOSTILE, min_size=1, max_size=4))
def test_whatever_a_field_is_made_it_is_in_range_or_the_claim_is_damaged(claim, changes):
    said = dict(line.split(b"=", 1) for line in claims.dumps(claim).splitlines())
    said |= {key.encode(): value for key, value in changes.items()}
    raw = b"".join(key + b"=" + value + b"\n" for key, value in said.items())
    with contextlib.suppress(records.RecordError):
        read = claims.loads(claim.claim_id, raw)
        assert 0 <= read.holder.pid < 2**31
        assert max(read.made, read.thing.inode, read.thing.device, read.holder.cgroup_id) < 2**64
        assert read.path.startswith("/")
        assert not {"", ".", ".."}.intersection(read.path[1:].split("/"))
        assert "\0" not in read.path + read.holder.cgroup
        assert read.holder.cgroup[:1] in ("", "/")


@pytest.mark.parametrize("name", ["", "0" * 15, "0" * 17, "G" * 16, "../../../../../x"])
def test_a_claim_has_an_id_for_its_name(name):
    with pytest.raises(records.RecordError, match="no claim's name"):
        claims.loads(name, claims.dumps(ONE))


@given(st.binary(max_size=300))
def test_no_bytes_at_all_do_worse_than_say_so(raw):
    with contextlib.suppress(records.RecordError):
        claims.loads("0" * 16, raw)


@given(CLAIMS, st.data())
def test_a_claim_cut_short_never_passes_for_a_whole_one_of_another_path(claim, data):
    raw = claims.dumps(claim)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with contextlib.suppress(records.RecordError):
        read = claims.loads(claim.claim_id, cut)
        assert (read.path, read.thing.inode) == (claim.path, claim.thing.inode)


@pytest.mark.parametrize("path", ["", "x", "/", "//x", "/x/", "/x/../y", "/./x"])
def test_a_claim_of_a_path_that_is_no_whole_one_is_damaged(path):
    claim = Claim("0" * 16, path, Thing(1, 2, 0, "/"), Holder(Kind.NOBODY, "boot"), 1)
    with pytest.raises(records.RecordError):
        claims.loads(claim.claim_id, claims.dumps(claim))


@given(THINGS, THINGS)
def test_another_inode_or_generation_is_another_thing(one, other):
    assert one.is_same(one, same_boot=True)
    if one.inode != other.inode:
        assert not one.is_same(other, same_boot=False)
    if one.generation and other.generation and one.generation != other.generation:
        assert not one.is_same(other, same_boot=False)


def test_a_device_may_be_numbered_anew_by_a_boot():
    assert Thing(1, 5, 7).is_same(Thing(2, 5, 7), same_boot=False)
    assert not Thing(1, 5, 7).is_same(Thing(2, 5, 7), same_boot=True)


def test_a_path_is_not_within_its_namesake():
    assert is_within("/tmp/x/y", "/tmp/x")
    assert not is_within("/tmp/xy", "/tmp/x")
    assert not are_related("/tmp/xy", "/tmp/x")


@given(st.lists(st.tuples(CLAIMS, st.booleans()), max_size=6))
def test_a_path_is_due_exactly_when_nobody_has_it_or_anything_of_it_any_more(drawn):
    judged = judge([(claim, HolderState(gone=gone, evidence="seen")) for claim, gone in drawn])
    held = [claim.path for claim, gone in drawn if not gone]
    assert [verdict.claim for verdict in judged] == [claim for claim, _ in drawn]
    for verdict, (claim, gone) in zip(judged, drawn, strict=True):
        inside = any(claim.path == path or claim.path.startswith(path + "/") for path in held)
        outside = any(path.startswith(claim.path + "/") for path in held)
        assert verdict.due == (gone and not inside and not outside)
        assert verdict.evidence
        assert (verdict.state == "held") == (not verdict.due)


def test_the_unit_and_the_leaf_of_a_holder_are_read_from_its_cgroup():
    scope = "/x/scopekeeper.slice/scopekeeper-s-main.scope"
    member = Holder(Kind.MEMBER, "boot", cgroup=f"{scope}/m-it.0123abcd")
    assert (member.unit, member.leaf) == ("scopekeeper-s-main.scope", "m-it.0123abcd")
    whole = Holder(Kind.SCOPE, "boot", cgroup=scope)
    assert (whole.unit, whole.leaf) == ("scopekeeper-s-main.scope", "")
