"""The design's invariants, by number, as far as they can be read off the servers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.taskqueue.modelworld import SETS, Published, Seen
from tests.taskqueue.reference import Leased

TTL = 86_400_000  # ms, of a tombstone: the backend's default
PLACES = {
    "ready": {"ready", "age"},
    "delayed": {"delayed"},
    "leased": {"leases"},
    "dead": {"dead"},
}


def broken(
    seen: Seen,
    published: Mapping[str, Published],
    rows: Mapping[str, Published],
    rolled_back: Sequence[str],
) -> list[str]:
    """Invariants that are read off the servers alone, without the reference."""
    found = [f"10: key outside the shard {key!r}" for key in seen.foreign]
    lost = set().union(*seen.sets.values()) - set(seen.hashes)
    found += [f"2: {task_id} stands in a set and has no hash" for task_id in lost]
    for task_id in seen.hashes:
        found += _broken_task(task_id, seen)
    for task_id, promise in published.items():
        if not promise.settled and not promise.excused:
            found += _broken_promise(task_id, promise, seen, rows)
    known = set(seen.hashes) | set(rows)
    return found + [f"8: {i} was rolled back, is there" for i in rolled_back if i in known]


def _broken_task(task_id: str, seen: Seen) -> Iterator[str]:
    stored, ttl = seen.hashes[task_id], seen.ttls[task_id]
    places = {name for name in SETS if task_id in seen.sets[name]}
    if places != PLACES.get(stored["s"], set()):
        yield f"2: {task_id} is {stored['s']} and stands in {places}"
    tombstone = stored["s"] in {"done", "cancelled", "merged"}
    if (ttl > 0) != tombstone or ttl > TTL:
        yield f"1: {task_id} is {stored['s']}, forgotten in {ttl} ms"
    if "m" in stored and int(stored["a"]) > int(stored["m"]):
        yield f"9: {task_id} was tried {stored['a']} times of {stored['m']}"


def _broken_promise(
    task_id: str, published: Published, seen: Seen, rows: Mapping[str, Published]
) -> Iterator[str]:
    if task_id not in seen.hashes and task_id not in rows:
        yield f"4: {task_id} is lost"
    if published.delivery == "until_finished" and task_id not in rows:
        yield f"4: {task_id} has not finished and has no row"


def broken_claim(
    before: Seen, after: Seen, rows: Sequence[Leased], published: Mapping[str, Published], now: int
) -> list[str]:
    """What a claim has done that it must not."""
    ids = [row.id for row in rows]
    live = {i for i, end in before.sets["leases"].items() if end > now}
    found = [f"5: a live lease of {i} was given away" for i in ids if i in live]
    found += [f"6: {i} is early" for i in ids if published[i].run_after > now]
    taken = [published[i].priority for i in ids]
    left = [published[i].priority for i in after.sets["ready"]]
    if taken != sorted(taken, reverse=True):
        found.append(f"7: {taken} came out of order")
    if taken and left and taken[-1] < max(left):
        found.append(f"7: {taken[-1]} came before {max(left)}")
    return found
