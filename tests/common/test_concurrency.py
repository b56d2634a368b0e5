"""Threads are taken when needed, bounded, and given back."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext

from app.common.concurrency import RequestThread, ThreadBank, in_thread
from app.common.errors import Overloaded


async def as_request[T](bank: ThreadBank, work: Callable[[], T], calls: int = 1) -> T:
    thread = RequestThread(bank, asyncio.get_running_loop())
    try:
        async with ThreadSensitiveContext(executor=thread):
            for _ in range(calls - 1):
                await in_thread(work)
            return await in_thread(work)
    finally:
        thread.release()


def test_a_request_that_never_leaves_the_loop_takes_no_thread() -> None:
    async def go() -> tuple[int, bool]:
        bank = ThreadBank(2)
        thread = RequestThread(bank, asyncio.get_running_loop())
        async with ThreadSensitiveContext(executor=thread):
            await asyncio.sleep(0)
        thread.release()
        return bank.busy, thread.used

    assert asyncio.run(go()) == (0, False)


def test_a_request_keeps_its_thread() -> None:
    names: list[str] = []

    async def go() -> None:
        bank = ThreadBank(4)
        await as_request(bank, lambda: names.append(threading.current_thread().name), calls=3)
        assert bank.busy == 0

    asyncio.run(go())
    assert len(names) == 3
    assert len(set(names)) == 1


def test_never_more_threads_than_the_bank_has() -> None:
    running: set[int] = set()
    most = 0
    lock = threading.Lock()
    barrier = threading.Barrier(3)

    def work() -> None:
        nonlocal most
        with lock:
            running.add(threading.get_ident())
            most = max(most, len(running))
        barrier.wait(5)
        with lock:
            running.discard(threading.get_ident())

    async def go() -> ThreadBank:
        bank = ThreadBank(3)
        await asyncio.gather(*(as_request(bank, work) for _ in range(30)))
        return bank

    bank = asyncio.run(go())
    assert most == 3
    assert (bank.busy, len(bank.waiting)) == (0, 0)


def test_a_full_line_is_refused_at_once() -> None:
    release = threading.Event()

    async def go() -> list[Any]:
        bank = ThreadBank(1, max_waiting=1)
        first = asyncio.ensure_future(as_request(bank, lambda: release.wait(5)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(as_request(bank, lambda: "second"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await as_request(bank, lambda: "third")
        release.set()
        return [await first, await second]

    assert asyncio.run(go()) == [True, "second"]


def test_a_thread_whose_client_left_is_lent_again_only_when_it_is_free() -> None:
    release, entered = threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        entered.set()
        release.wait(5)
        order.append("slow")

    async def go() -> None:
        bank = ThreadBank(1)
        first = asyncio.ensure_future(as_request(bank, slow))
        await asyncio.to_thread(entered.wait, 5)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.ensure_future(as_request(bank, lambda: order.append("second")))
        await asyncio.sleep(0)
        assert order == []
        release.set()
        await second

    asyncio.run(go())
    assert order == ["slow", "second"]


def test_exceptions_come_back_from_a_waiting_call() -> None:
    release = threading.Event()

    def fail() -> None:
        raise LookupError("no")

    async def go() -> None:
        bank = ThreadBank(1)
        first = asyncio.ensure_future(as_request(bank, lambda: release.wait(5)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(as_request(bank, fail))
        await asyncio.sleep(0)
        release.set()
        await first
        with pytest.raises(LookupError):
            await second

    asyncio.run(go())


def test_clients_that_left_do_not_fill_the_line() -> None:
    release = threading.Event()

    async def go() -> str:
        bank = ThreadBank(1, max_waiting=1)
        first = asyncio.ensure_future(as_request(bank, lambda: release.wait(5)))
        await asyncio.sleep(0)
        gone = asyncio.ensure_future(as_request(bank, lambda: "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        third = asyncio.ensure_future(as_request(bank, lambda: "third"))
        await asyncio.sleep(0)
        release.set()
        await first
        return await third

    assert asyncio.run(go()) == "third"
