"""The keeper's work beside its loop: what fails or takes for ever holds up nothing else."""

import asyncio
import logging
import threading

import pytest

from scopekeeper.errors import ScopekeeperError
from scopekeeper.keeper.faults import Faults
from scopekeeper.keeper.history_thread import HistoryThread
from scopekeeper.keeper.jobs import Jobs, in_thread


def test_work_in_a_thread_returns_and_raises_as_if_it_were_called_here():
    async def main():
        assert await in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    asyncio.run(main())


def test_work_that_takes_for_ever_keeps_neither_other_work_nor_the_end():
    for_ever = threading.Event()

    async def main():
        jobs = Jobs(asyncio.get_running_loop(), lambda: None)

        async def wait():
            await in_thread(for_ever.wait)

        for _ in range(50):
            jobs.begin(wait)
        assert await in_thread(lambda: 1) == 1
        assert await HistoryThread(asyncio.get_running_loop()).do(lambda: 2) == 2
        await jobs.finish(0.01)

    try:
        asyncio.run(main())
    finally:
        for_ever.set()


def test_what_goes_wrong_is_logged_once_and_with_its_place_where_it_is_a_fault_of_ours(caplog):
    faults = Faults()
    caplog.set_level(logging.ERROR)
    for _ in range(3):
        for error in (ValueError("no number"), ScopekeeperError("refused"), OSError(5, "bad")):
            with faults.contained("a scope"):
                raise error
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False]
    assert [record.message for record in caplog.records] == [
        "a scope: internal error: ValueError: no number", "a scope: refused", "a scope: bad"
    ]  # fmt: skip


def test_what_is_remembered_of_messages_is_bounded(caplog):
    faults = Faults()
    caplog.set_level(logging.CRITICAL)
    for number in range(5_000):
        faults.log(f"{number}")
    assert len(faults._logged) <= 1_000
