"""Task ids: `<n>-<uuid7>`, n = crc32(unique key or uuid) modulo the number of shards.

The shard is part of the id, so a result is found without a search and the number of shards can
grow; tasks with the same unique key meet in one shard, where one script can compare them.
"""

from zlib import crc32

import uuid_utils


def new_id(shards: int, unique_key: str | None = None) -> str:
    """A new task id for a queue of `shards` shards."""
    uuid = str(uuid_utils.uuid7())
    return f"{crc32((unique_key or uuid).encode()) % shards}-{uuid}"


def shard_of(task_id: str) -> int:
    """The shard a task id names. ValueError when the id has not this form."""
    shard, dash, uuid = task_id.partition("-")
    if not dash or not shard.isdecimal() or len(uuid) != 36:
        raise ValueError(f"not a task id: {task_id!r} (expected '<shard>-<uuid>')")
    return int(shard)


def tag(prefix: str, queue: str, shard: int) -> str:
    """The hash tag of one shard of one queue; every key of the shard starts with it."""
    return f"{{{prefix}:t:{queue}:{shard}}}"
