"""The web process over real sockets: limits, hang-ups, shutdown."""

import http.client
import json
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from devstack.process import Process
from tests.support.session import Lane
from tests.support.waiting import wait_until

HEAD = "POST /api/v1/checkout HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def talk(url: str, text: str) -> tuple[int, dict[str, str], Any]:
    """Send raw bytes, read one answer."""
    method = text.partition(" ")[0]
    with connect(url) as raw, closing(http.client.HTTPResponse(raw, method=method)) as answer:
        raw.sendall(text.encode())
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
    is_json = body and "json" in headers.get("content-type", "")
    return answer.status, headers, json.loads(body) if is_json else body


def test_50_megabytes_are_refused_before_they_are_read(server: str) -> None:
    status, headers, body = talk(server, f"{HEAD}Content-Length: 52428800\r\n\r\n")

    assert (status, body["code"]) == (413, "body_too_large")
    assert headers["connection"] == "close"


def test_an_endless_chunked_body_is_cut(server: str) -> None:
    chunk = "10000\r\n" + "x" * 0x10000 + "\r\n"
    status, _, body = talk(server, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)

    assert (status, body["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "line",
    [
        "traceparent: 00-zz-zz-01",
        "traceparent: " + "0" * 9000,
        "x-request-id: " + "x" * 10_000,
        "baggage: user.email=a@example.com",
        "x-forwarded-for: 203.0.113.9, garbage",
        "if-none-match: " + ",".join(['"x"'] * 500),
    ],
)
def test_hostile_headers_do_no_harm(server: str, line: str) -> None:
    status, headers, _ = talk(
        server, f"GET /api/v1/products HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}\r\n\r\n"
    )

    assert status == 200
    assert len(headers["x-request-id"]) <= 64
    assert "baggage" not in headers


def test_head_has_the_headers_of_get_and_no_body(server: str) -> None:
    status, headers, body = talk(
        server, "HEAD /api/v1/products HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )

    assert (status, body) == (200, b"")
    assert headers["etag"]
    assert int(headers["content-length"]) > 0


def test_probes_answer_any_host_and_a_foreign_host_is_refused(server: str) -> None:
    assert talk(server, "GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8000\r\n\r\n")[0] == 200
    status, _, body = talk(server, "GET /api/v1/products HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (status, body["code"]) == (400, "bad_request")


def test_a_websocket_is_refused(server: str) -> None:
    status, _, _ = talk(
        server,
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )

    assert status in {400, 403, 404}


@pytest.fixture
def web(django_db_setup: None, committed_db: None, lane: Lane) -> Iterator[Process]:
    """A server of one's own, to be ended."""
    process = lane.stack.spawn(["serve", "--port", "0"], env=lane.env(GRACEFUL_SECONDS="10"))
    process.wait_for("/readyz")
    yield process
    process.stop()


@pytest.fixture
def locked_orders(lane: Lane, committed_db: None) -> Iterator[psycopg.Connection[Any]]:
    """Nobody can read orders until this connection is closed."""
    with psycopg.connect(lane.stack.address.dsn(lane.database)) as conn:
        conn.execute("LOCK TABLE orders_order IN ACCESS EXCLUSIVE MODE")
        yield conn


def blocked(lane: Lane) -> int:
    with psycopg.connect(lane.stack.superuser_dsn(), autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            [lane.database],
        ).fetchone()
    assert row is not None
    return int(row[0])


ORDER = (
    "GET /api/v1/orders/ord_01h455vb4pex5vsknk084sn02q HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    "Order-Token: x\r\n\r\n"
)


def test_sigterm_finishes_what_is_in_flight(
    web: Process, lane: Lane, locked_orders: psycopg.Connection[Any]
) -> None:
    answers: list[int] = []
    buyer = threading.Thread(target=lambda: answers.append(talk(web.url, ORDER)[0]))
    buyer.start()
    wait_until(lambda: blocked(lane) == 1, what="the request waits for the lock")

    web.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: "Waiting for connections" in web.output, what="the server drains")
    locked_orders.rollback()
    buyer.join(10)

    assert answers == [404]
    assert web.wait(10) == 0


def test_a_hang_up_is_logged_as_499_and_costs_nothing_else(
    web: Process, lane: Lane, locked_orders: psycopg.Connection[Any]
) -> None:
    raw = connect(web.url)
    raw.sendall(ORDER.encode())
    wait_until(lambda: blocked(lane) == 1, what="the request waits for the lock")
    raw.close()

    wait_until(lambda: '"http.response.status_code":499' in web.output, what="the log line")
    locked_orders.rollback()
    assert talk(web.url, ORDER)[0] == 404


def test_a_taken_port_is_one_sentence(web: Process, lane: Lane) -> None:
    port = str(urlsplit(web.url).port)
    second = lane.stack.spawn(["serve", "--port", port], env=lane.env())

    assert second.wait(20) == 1
    assert "choose another --port" in second.output
    assert "Traceback" not in second.output


def test_a_pool_whose_connections_all_died_recovers_within_one_request(
    web: Process, lane: Lane, locked_orders: psycopg.Connection[Any]
) -> None:
    with ThreadPoolExecutor(8) as buyers:
        answers = [buyers.submit(talk, web.url, ORDER) for _ in range(8)]
        wait_until(lambda: blocked(lane) == 8, what="eight connections in use")
        locked_orders.rollback()
        assert [answer.result()[0] for answer in answers] == [404] * 8
    terminate_backends(lane)

    assert talk(web.url, ORDER)[0] == 404


def terminate_backends(lane: Lane) -> None:
    """As a restart of PostgreSQL does it, for every client of this lane's database."""
    with psycopg.connect(lane.stack.superuser_dsn(), autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [lane.database],
        )
    connection.close_pool()  # type: ignore[attr-defined]  # those of this process died, too


def test_a_postgres_that_went_away_is_503_and_comes_back(web: Process, lane: Lane) -> None:
    path = "GET /api/v1/products HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert talk(web.url, path)[0] == 200
    terminate_backends(lane)

    assert talk(web.url, path)[0] == 200  # dead connections are replaced behind the request
