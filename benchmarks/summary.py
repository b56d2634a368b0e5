"""Slices into medians and ratios: pure arithmetic, tested without servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Slice:
    """One contestant in one round on one endpoint; `cpu_us` is the server's time per request."""

    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """A contestant on an endpoint: medians over the rounds, and its ratio to the bare application.

    A ratio compares slices of the same round, so that a noisy minute hits both sides.
    """

    endpoint: str
    contestant: str
    rps: float
    rps_min: float
    rps_max: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    ratio: float
    ratio_min: float
    ratio_max: float
    cpu_ratio: float

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def summarise(
    endpoint: str, contestant: str, slices: Sequence[Slice], bare: Sequence[Slice]
) -> Row:
    """One row of the table from equally many slices of a contestant and of the bare application."""
    pairs = list(zip(slices, bare, strict=True))
    ratios = [ours.rps / theirs.rps for ours, theirs in pairs]
    speeds = [each.rps for each in slices]
    return Row(
        endpoint=endpoint,
        contestant=contestant,
        rps=median(speeds),
        rps_min=min(speeds),
        rps_max=max(speeds),
        cpu_us=median(each.cpu_us for each in slices),
        p50_ms=median(each.p50_ms for each in slices),
        p99_ms=median(each.p99_ms for each in slices),
        ratio=median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        cpu_ratio=median(theirs.cpu_us / ours.cpu_us for ours, theirs in pairs),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    head = f"{'endpoint':<9}{'server':<22}{'rps':>7}{'min-max':>13}{'cpu us':>8}{'p50 ms':>8}"
    lines = [head + f"{'p99 ms':>8}{'ratio':>7}{'min-max':>12}{'cpu ratio':>11}"]
    lines += [
        f"{row.endpoint:<9}{row.contestant:<22}{row.rps:>7.0f}"
        f"{f'{row.rps_min:.0f}-{row.rps_max:.0f}':>13}{row.cpu_us:>8.0f}{row.p50_ms:>8.1f}"
        f"{row.p99_ms:>8.1f}{row.ratio:>7.2f}"
        f"{f'{row.ratio_min:.2f}-{row.ratio_max:.2f}':>12}{row.cpu_ratio:>11.2f}"
        for row in rows
    ]
    return "\n".join(lines)
