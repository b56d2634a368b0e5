"""The arithmetic of `make bench`, and both load generators against a small server."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import bare, generator, summary
from tests.proofs.fake_shop import FakeShop, serving


def test_a_ratio_compares_slices_of_the_same_round() -> None:
    """The second round was twice as slow for everybody: the ratio stays what it was."""
    bare_slices = [summary.Slice(rps, 100, 1, 2) for rps in (1000, 500, 1000)]
    ours = [summary.Slice(rps, 250, 1, 2) for rps in (400, 200, 300)]
    row = summary.summarise("list", "ours", ours, bare_slices)
    assert (row.ratio, row.ratio_min, row.ratio_max) == (0.4, 0.3, 0.4)
    assert (row.rps, row.cpu_ratio) == (300, 0.4)


def test_unequal_rounds_are_refused() -> None:
    one = summary.Slice(1000, 100, 1, 2)
    with pytest.raises(ValueError, match="longer"):
        summary.summarise("list", "ours", [one], [one, one])


def test_the_bare_application_spells_identifiers_as_the_product_does() -> None:
    from app.common import ids

    for _ in range(100):
        value = ids.uuid7()
        assert bare.typeid("prd", value) == ids.encode("prd", value)
        assert bare.uuid_of(ids.encode("prd", value)) == value


@pytest.mark.parametrize("kind", [generator.Wrk, generator.PythonClient])
def test_generators_count_requests_and_errors(
    tmp_path: Path, kind: type[generator.Generator]
) -> None:
    if kind is generator.Wrk and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    paths = tmp_path / "paths"
    paths.write_text("/api/v1/products/a\n/api/v1/products/b\n")
    shop = FakeShop(fail_on=5)
    with serving(shop) as host:
        load = kind(2, []).run(host, paths, 1)
    assert load.errors == 1
    assert 10 < load.requests <= shop.requests
    assert 0 < load.p50_ms <= load.p99_ms


def test_contestants_must_give_the_same_answer(tmp_path: Path) -> None:
    """Else they do not do the same work, and no ratio means anything."""
    same = bench.Endpoint("list", ["/api/v1/products?limit=2"], tmp_path / "paths")
    different = bench.Endpoint("order", ["/api/v1/orders/ord_0"], tmp_path / "paths")
    shop, forgetful = FakeShop(), FakeShop()
    shop.orders["ord_0"], forgetful.orders["ord_0"] = {"id": "ord_0"}, {"id": "ord_1"}
    with serving(shop) as one, serving(forgetful) as other:
        contestants: Any = {
            bench.BARE: SimpleNamespace(url=one),
            "ours": SimpleNamespace(url=other),
        }
        bench._verify(contestants, [same])
        with pytest.raises(bench.BenchError, match="different_answers: /api/v1/orders/ord_0"):
            bench._verify(contestants, [same, different])
