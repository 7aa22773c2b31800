"""A storm of events starts a few commands at once, keeps a bounded number, and counts the rest."""

import asyncio
import dataclasses
import json
import logging
import threading

import pytest

from scopekeeper.keeper.command_run import Outcome
from scopekeeper.keeper.command_sample import sample
from scopekeeper.keeper.event_commands import MOST_AT_ONCE, MOST_WAITING, EventCommands
from scopekeeper.keeper.jobs import Jobs
from scopekeeper.policy.rules import parse

WELL = Outcome("", "", 0.0, "")


def rules(text):
    return parse([("/etc/0.toml", text)]).commands


FAST = rules('[on_end.x]\nrate = 600\ncommand = ["a"]')


def end(number=0, **changes):
    """Return the end of a member with this number in its name."""
    made = sample(FAST[0])
    return dataclasses.replace(made, end=dataclasses.replace(made.end, name=f"{number}", **changes))


class Commands:
    """Stands for what runs commands: each ends when the test lets it."""

    def __init__(self):
        self.started, self.dropped = [], []
        self.most = self._now = 0
        self.go_on = threading.Event()
        self.outcomes = {}
        self._lock = threading.Lock()

    def __call__(self, rule, given):
        with self._lock:
            document = json.loads(given.stdin)
            self.started.append((rule.title, int(document["member"])))
            self.dropped.append(document["dropped"])
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.go_on.wait(60)
        with self._lock:
            self._now -= 1
        return self.outcomes.get(self.started[-1][1], WELL)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  it is many conditions
            await asyncio.sleep(0.002)


def play(scene, found=FAST):
    """Run a scene in a loop, with what runs commands and what queues them."""

    async def main():
        commands = Commands()
        jobs = Jobs(asyncio.get_running_loop(), lambda: None)
        queued = EventCommands(jobs, lambda: found, commands)
        try:
            await scene(commands, queued)
        finally:
            commands.go_on.set()
            queued.close()
            await jobs.finish(60)

    asyncio.run(main())


def test_a_few_run_at_once_and_the_rest_follows_in_order():
    async def scene(commands, queued):
        for number in range(20):
            queued.take_in(end(number))
        await until(lambda: len(commands.started) == MOST_AT_ONCE)
        assert queued
        commands.go_on.set()
        await until(lambda: not queued)
        assert sorted(number for _, number in commands.started) == list(range(20))
        assert commands.most == MOST_AT_ONCE

    play(scene)


def test_what_is_too_much_is_dropped_logged_once_and_counted(caplog):
    caplog.set_level(logging.WARNING)
    too_many = 1000

    async def scene(commands, queued):
        for number in range(MOST_AT_ONCE + MOST_WAITING + too_many):
            queued.take_in(end(number))
        await until(lambda: len(commands.started) == MOST_AT_ONCE)
        assert len(caplog.records) == 1
        commands.go_on.set()
        await until(lambda: not queued)
        assert len(commands.started) == MOST_AT_ONCE + MOST_WAITING
        assert sum(commands.dropped) == too_many
        assert commands.dropped.count(too_many) == 1

    play(scene)
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith(f"on_end.x: {MOST_WAITING} events wait for its command; more are drop")
    assert second == f"on_end.x: its command was not started for {too_many} events"


def test_a_rule_starts_no_more_often_than_it_says_and_holds_up_no_other():
    found = rules('[on_end.slow]\nrate = 2\ncommand = ["a"]\n[on_end.x]\ncommand = ["a"]')

    async def scene(commands, queued):
        commands.go_on.set()
        for number in range(10):
            queued.take_in(end(number))
        await until(lambda: len(commands.started) == 12)
        names = [name for name, _ in commands.started]
        assert (names.count("on_end.slow"), names.count("on_end.x")) == (2, 10)
        left = queued._alarm.when() - asyncio.get_running_loop().time()
        assert 20 < left <= 30, "one in half a minute"
        assert queued, "a keeper with nothing else to do stays"

    play(scene, found)


def test_a_minute_later_it_may_start_as_often_again():
    async def scene(commands, queued):
        queued.take_in(end())
        (queue,) = queued._queues.values()
        queue.waiting.append((FAST[0], end()))
        queue.tokens, queue.counted = 0.0, 100.0
        assert queue.seconds_left(100.05) == pytest.approx(0.05)
        assert queue.seconds_left(100.1) == 0
        queue.seconds_left(100_000)
        assert queue.tokens == 600, "and no more: a quiet year saves up nothing"
        queue.waiting.clear()

    play(scene)


def test_without_a_rule_nothing_is_queued_and_nothing_waits():
    async def scene(commands, queued):
        queued.take_in(end())
        assert not queued
        assert queued._alarm is None

    play(scene, rules('[on_end.x]\nreasons = "ttl"\ncommand = ["a"]\n'
                      '[on_end.y]\nenabled = false\ncommand = ["a"]'))  # fmt: skip


def test_a_failure_is_logged_once_and_never_repeated(caplog):
    caplog.set_level(logging.INFO)
    fails = Outcome("exit status 7", "first\nno network\n\n", 0.1, "")

    async def scene(commands, queued):
        commands.go_on.set()
        commands.outcomes = {1: fails, 2: fails, 4: Outcome("exit status 8", "", 0.1, "")}
        for number in range(5):
            queued.take_in(end(number))
            await until(lambda: not queued)
        assert len(commands.started) == 5

    play(scene)
    assert [record.getMessage() for record in caplog.records] == [
        "on_end.x: its command failed, and is not repeated: exit status 7: no network",
        "on_end.x: its command works again",
        "on_end.x: its command failed, and is not repeated: exit status 8",
    ]


def test_what_waits_when_the_keeper_exits_is_counted(caplog):
    async def scene(commands, queued):
        for number in range(MOST_AT_ONCE + 3):
            queued.take_in(end(number))
        queued.close()
        commands.go_on.set()
        await until(lambda: not queued)
        assert len(commands.started) == MOST_AT_ONCE

    play(scene)
    (record,) = caplog.records
    assert record.getMessage() == "on_end.x: its command was not started for 3 events"
