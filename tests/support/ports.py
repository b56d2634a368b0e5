"""Ports for a whole devstack in a test."""

from __future__ import annotations

from devstack.ports import find_free, is_free

_BELOW = 31_990
"""Above begins the range from which the kernel takes the ports of outgoing connections."""


def three_free(bus: int = 0) -> int:
    """The first of three free ports side by side; those `bus` above them are free, too."""
    wanted = [n + more for n in range(3) for more in (0, bus)]
    return next(
        port
        for port in find_free(4000)
        if port + bus < _BELOW and all(is_free(port + more) for more in wanted)
    )
