"""The hop counts of every route are exact, and the same program sees planted hops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync

from tests.proofs import hop_counter, hop_mutants, hops
from tests.proofs.shop import run_app
from tests.support.database import copy_of_template
from tests.support.session import Lane

type Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def env(lane: Lane) -> dict[str, str]:
    """The settings of a seeded database that these tests share."""
    dsn = copy_of_template(lane.stack, f"{lane.database}_hops")
    settings = lane.env(DATABASE_URL=dsn)
    run_app(["seed", "--products", "10"], settings)
    return settings


def test_every_route_costs_exactly_its_hops(env: dict[str, str], tmp_path: Path) -> None:
    rows = hops.probe(env, tmp_path)
    assert [hops.describe(row) for row in rows if not row["ok"]] == []
    hot = {row["route"]: row["counted"] for row in rows if row["case"] == "ok"}
    assert hot["/api/v1/products"] == hot["/api/v1/products/<slug:slug>"] == [0] * 5
    assert hot["/api/v1/checkout"] == [1] * 5


@pytest.mark.parametrize("mutant", [hop_mutants.STOCK_MIDDLEWARE, hop_mutants.DRF_RESPONSE])
def test_a_planted_hop_is_seen(env: dict[str, str], tmp_path: Path, mutant: str) -> None:
    wrong = [row for row in hops.probe(env, tmp_path, mutant) if not row["ok"]]
    assert "/api/v1/products" in {row["route"] for row in wrong}
    assert all(200 <= status < 500 for row in wrong for status in row["statuses"])


@pytest.fixture
def count(monkeypatch: Patch) -> Callable[[Any], hop_counter.Hops]:
    """Count what a coroutine function does; the patches are taken back afterwards."""
    for owner, name in hop_counter.PATCHED:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    hop_counter.install()

    def run(work: Any) -> hop_counter.Hops:
        found = hop_counter.Hops()

        async def counted() -> None:
            hop_counter.CURRENT.set(found)
            await work()

        asyncio.run(counted())
        return found

    return run


def _nothing() -> None:
    pass


async def _sync_to_async() -> None:
    await SyncToAsync(_nothing, thread_sensitive=False)()


async def _to_thread() -> None:
    await asyncio.to_thread(_nothing)


async def _executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, _nothing)


async def _own_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_nothing).result()


async def _thread() -> None:
    thread = threading.Thread(target=_nothing)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("work", "calls", "threads"),
    [
        (_sync_to_async, 1, 1),
        (_to_thread, 1, 1),
        (_executor, 1, 1),
        (_own_pool, 1, 1),
        (_thread, 0, 1),
    ],
)
def test_each_way_off_the_loop_is_counted_once(
    count: Callable[[Any], hop_counter.Hops], work: Any, calls: int, threads: int
) -> None:
    """One call each, plus the thread that a cold pool starts."""
    found = count(work)
    assert (found.total, found.threads) == (calls + threads, threads)


def test_background_work_is_not_counted(count: Callable[[Any], hop_counter.Hops]) -> None:
    async def work() -> None:
        hop_counter.CURRENT.set(None)
        await _to_thread()

    assert count(work).total == 0
