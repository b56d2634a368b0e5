"""`serve`: the web process. One process per pod; scale pods."""

import signal
import socket
import sys
from typing import Any

import structlog
import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from app.config import process

log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn, with one log line that says where it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            log.info("web.started", url=f"http://{host}:{port}")


class Command(BaseCommand):
    """Serve HTTP until SIGTERM, then finish what is in flight within GRACEFUL_SECONDS."""

    help = "Serve the API (uvicorn, one process)"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """`--host` and `--port` (0 = any free port, printed in the first log line)."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        """Run the server."""
        # uvicorn repeats the signal after its shutdown: an orderly end is exit code 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        process.start("web")
        from app.config.asgi import application  # noqa: PLC0415  # opens nothing until here

        proxies = settings.TRUSTED_PROXIES
        config = uvicorn.Config(
            application,
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            reset_contextvars=True,
            backlog=1024,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or None,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=settings.GRACEFUL_SECONDS,
        )
        try:
            listener = _listen(host, port)
        except OSError as error:
            raise CommandError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --port"
            ) from error
        Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.set_inheritable(True)
    return listener
