"""A trace store that keeps nothing: makes our server pay for real exports over HTTP.

`python -m benchmarks.otlp_sink --port 4318`; `GET /counts` tells how much arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import cast

import uvloop


class Sink(asyncio.Protocol):
    """Reads requests with a Content-Length and answers each with 200."""

    exports = 0
    size = 0

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head, length)

    def _answer(self, head: bytes, length: int) -> None:
        if head.startswith(b"GET"):
            body = json.dumps({"exports": Sink.exports, "bytes": Sink.size}).encode()
        else:
            Sink.exports += 1
            Sink.size += length
            body = b""
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
