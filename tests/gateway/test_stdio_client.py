"""``scopekeeper.mcp.stdio_client`` beside the SDK's own: the same answers, and nothing left."""

import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

pytest.importorskip("mcp")

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client as theirs

from scopekeeper.errors import RemainsError, UsageError
from scopekeeper.mcp import stdio_client as ours
from tests.machine import (
    ATTRIBUTE,
    PROGRAM,
    directory_of,
    environment_of,
    eventually,
    is_alive,
    record_of,
    rounds,
    scope_directory,
    text_of,
)

pytestmark = [pytest.mark.mcp, pytest.mark.systemd]

TIME = Path(sys.executable).parent / "mcp-server-time"
SERVER = f"""setsid sleep 1000 & echo $! >"$0"; echo $$ >>"$0"; exec {TIME}"""
QUESTION = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}


async def ask(client, written, **how):
    """Start a server, and tell what it answers and where it and its helper were."""
    parameters = StdioServerParameters(
        command="sh", args=["-c", SERVER, str(written)], env={"MARK": "é"}, cwd=written.parent
    )
    with (written.parent / "errors").open("w") as errors:
        async with (
            client(parameters, errlog=errors, **how) as streams,
            ClientSession(*streams) as session,
        ):
            begun = await session.initialize()
            tools = await session.list_tools()
            answer = await session.call_tool("convert_time", QUESTION)
            helper, server = map(int, written.read_text().split())
            where = [directory_of(pid) for pid in (helper, server)]
            told = environment_of(server)
            assert (os.getsid(server), os.readlink(f"/proc/{server}/cwd")) == (
                server, str(written.parent),
            )  # fmt: skip
    mine = {name: told.pop(name) for name in list(told) if name.startswith("SCOPEKEEPER_")}
    text = answer.content[0].text
    names = [tool.name for tool in tools.tools]
    return (begun.model_dump_json(), names, text, told), where, (helper, server), mine


def test_a_server_answers_the_same_and_leaves_nothing(tmp_path):
    session = f"test:client:{uuid.uuid4().hex[:8]}"
    written = tmp_path / "pids"
    expected, _, pids, told = anyio.run(lambda: ask(theirs, written))
    assert not told
    eventually(lambda: not is_alive(pids[1]))
    left_by_theirs = is_alive(pids[0])
    if left_by_theirs:
        os.kill(pids[0], signal.SIGKILL)
    assert left_by_theirs

    found, where, pids, told = anyio.run(
        lambda: ask(ours, written, session=session, lane="nested:x", name="time", ttl=3600)
    )
    assert found == expected
    assert where[0] == where[1]
    scope, _, leaf = where[0].rpartition("/")
    assert leaf.startswith("m-time.")
    assert (told["SCOPEKEEPER_SESSION"], told["SCOPEKEEPER_SCOPE"]) == (
        session, os.path.basename(scope),
    )  # fmt: skip
    assert not any(map(is_alive, pids))
    eventually(lambda: not os.path.exists(scope))


def test_a_server_that_is_wrapped_already_leaves_nothing(tmp_path):
    """``wrap`` writes such a command: it moves to a member of its own."""
    session = f"test:client:{uuid.uuid4().hex[:8]}"
    written, where = tmp_path / "pids", []
    command = ["run", "-n", "time", "--", "sh", "-c", SERVER, str(written)]
    parameters = StdioServerParameters(command=PROGRAM, args=command)

    async def use():
        async with ours(parameters, session=session) as streams, ClientSession(*streams) as client:
            await client.initialize()
            where.extend(directory_of(int(pid)) for pid in text_of(written).split())

    anyio.run(use)
    assert [os.path.basename(each)[:7] for each in where] == ["m-time."] * 2
    assert not any(is_alive(int(pid)) for pid in text_of(written).split())
    eventually(lambda: not scope_directory(session))


def test_an_exception_inside_comes_out_and_leaves_nothing(tmp_path):
    session = f"test:client:{uuid.uuid4().hex[:8]}"
    parameters = StdioServerParameters(command="sh", args=["-c", SERVER, str(tmp_path / "pids")])
    seen = []

    async def fail():
        async with ours(parameters, session=session):
            eventually(lambda: text_of(tmp_path / "pids").count("\n") == 2)
            seen.append(record_of(scope_directory(session))["LANE"])
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, BaseExceptionGroup)) as raised:
        anyio.run(fail)
    error = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ZeroDivisionError)
    assert seen == ["main"]
    assert not any(is_alive(int(word)) for word in text_of(tmp_path / "pids").split())

    async def missing():
        async with ours(StdioServerParameters(command="no-such-server"), session=session):
            raise AssertionError

    with pytest.raises(FileNotFoundError, match="no-such-server"):
        anyio.run(missing)
    eventually(lambda: not scope_directory(session))


async def enter(session, where, inside, **how):
    """Start a server with a helper, and do something when both run."""
    parameters = StdioServerParameters(command="sh", args=["-c", SERVER, str(where)])
    async with ours(parameters, session=session, **how):
        while text_of(where).count("\n") < 2:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        await inside([int(word) for word in text_of(where).split()])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_client_leaves_nothing(tmp_path, backend):
    if backend == "trio":
        pytest.importorskip("trio")
    session = f"test:client:{uuid.uuid4().hex[:8]}"
    seen = []

    async def cancelled():
        async with anyio.create_task_group() as group:

            async def inside(pids):
                seen.extend(pids)
                group.cancel_scope.cancel()
                await anyio.sleep_forever()

            group.start_soon(enter, session, tmp_path / "pids", inside)

    anyio.run(cancelled, backend=backend)
    assert len(seen) == 2
    assert not any(map(is_alive, seen))
    eventually(lambda: not scope_directory(session))


def test_a_client_that_is_cancelled_while_it_starts_leaves_nothing(tmp_path):
    """At any moment: the launcher may not run yet, or be the server already."""
    session = f"test:client:{uuid.uuid4().hex[:8]}"

    async def nothing(_pids):
        await anyio.sleep_forever()

    async def cancelled():
        for part in rounds(12, least=4):
            with anyio.move_on_after(part * 0.24):
                await enter(session, tmp_path / f"pids{part}", nothing)

    anyio.run(cancelled)
    for path in tmp_path.glob("pids*"):
        assert not any(is_alive(int(word)) for word in text_of(path).split())
    eventually(lambda: not scope_directory(session))


def test_what_cannot_be_contained_raises_before_the_block(tmp_path):
    async def refused():
        await enter("s", tmp_path / "pids", None, placement="cgroup:/sys")

    with pytest.raises(UsageError, match="not a cgroup2 directory"):
        anyio.run(refused)
    assert not (tmp_path / "pids").exists()


def test_what_remains_of_a_server_is_named(tmp_path):
    session = f"test:client:{uuid.uuid4().hex[:8]}"
    seen = []

    async def foreign(pids):
        seen.extend(pids)
        os.setxattr(directory_of(pids[0]), ATTRIBUTE, b"not ours")

    with pytest.raises(RemainsError, match="m-sh"):
        anyio.run(enter, session, tmp_path / "pids", foreign)
    assert [is_alive(pid) for pid in seen] == [True, False]
    os.kill(seen[0], signal.SIGKILL)
