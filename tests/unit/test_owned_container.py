"""What a call of docker or podman does is read from its argv; claims of containers are typed."""

import json

import pytest

from scopekeeper.owned import claim as claims
from scopekeeper.owned import container
from scopekeeper.owned.claim import NO_FILE, Claim, Container, Holder, Kind
from scopekeeper.owned.plan import HolderState, judge
from scopekeeper.scope import records


@pytest.mark.parametrize(
    ("argv", "at", "removes"),
    [
        ("docker run -i --rm image", 2, True),
        ("/usr/bin/podman run --rm -i image", 2, True),
        ("docker container run -it image", 3, False),
        ("docker -H tcp://x --context=y run --rm=false image", 5, False),
        ("podman --remote --root /r run --rm image --detach", 5, True),
        ("docker run -e A=-d --rm image", 2, True),
        ("docker run -e A -v /a:/b --name rm --rm image -d", 2, True),
        ("docker run --detach=false -i image --rm", 2, False),
        ("docker run --cidfile /c --cgroup-parent=x image", 2, False),
        ("docker run", 2, False),
    ],
)
def test_a_container_in_the_foreground_is_labelled(argv, at, removes):
    words = argv.split()
    call = container.read(words)
    assert (call.at, call.removes) == (at, removes)
    labelled = call.labelled(words, "0123")
    assert labelled.pop(at) == "--label=scopekeeper.claim=0123"
    assert labelled == words


@pytest.mark.parametrize(
    "argv",
    [
        "docker run -d image", "docker run -itd image", "docker run --detach image",
        "docker run --detach=true image", "docker run --new -d image",
        "docker ps", "docker", "docker --version", "podman exec -i c run", "docker compose run x",
        "docker mcp gateway run",
    ],
)  # fmt: skip
def test_any_other_call_is_left_alone(argv):
    assert container.read(argv.split()) is None


def test_an_unknown_option_before_run_leaves_it_in_doubt():
    with pytest.raises(ValueError, match="--hooks-dir"):
        container.read(["podman", "--hooks-dir", "/x", "run", "image"])


HOLDER = Holder(Kind.MEMBER, "boot", "1/2", "/x.scope/m-it.0123abcd", 7)
HOW = Container("/usr/bin/docker", ("-H", "tcp://x\n"), (("HOME", "/root"),), True)
CLAIM = Claim("0" * 16, "/usr/bin/docker", NO_FILE, HOLDER, 1, container=HOW)


def test_a_claim_of_a_container_comes_back():
    assert claims.loads(CLAIM.claim_id, claims.dumps(CLAIM)) == CLAIM


@pytest.mark.parametrize(
    "how",
    [
        "", "[", "{}", "[" * 100_000, json.dumps([1, [], {}]), json.dumps([True, [1], {}]),
        json.dumps([True, ["--runtime", "/x"], {}]), json.dumps([True, ["run"], {}]),
        json.dumps([True, [], {"LD_PRELOAD": "/x"}]), json.dumps([True, [], {"HOME": 1}]),
        json.dumps([True, [], {"HOME": "a\0b"}]), json.dumps([True, ["-H"], {}]),
    ],
)  # fmt: skip
def test_a_forged_one_is_refused(how):
    fields = records.loads(claims.dumps(CLAIM)) | {"CONTAINER": how or " "}
    with pytest.raises(records.RecordError):
        claims.loads(CLAIM.claim_id, records.dumps(fields))


def test_no_other_program_is_ever_called():
    fields = records.loads(claims.dumps(CLAIM)) | {"PATH": "/bin/sh"}
    with pytest.raises(records.RecordError):
        claims.loads(CLAIM.claim_id, records.dumps(fields))


def test_two_containers_of_one_program_do_not_hold_each_other():
    gone, held = HolderState(True, "gone"), HolderState(False, "held")
    other = Claim("1" * 16, CLAIM.path, NO_FILE, HOLDER, 1, container=HOW)
    assert [verdict.due for verdict in judge([(CLAIM, gone), (other, held)])] == [True, False]
