"""One devstack per pytest run; one database, key prefix and mailbox per xdist worker.

Services are tested in transactions that roll back (`@pytest.mark.django_db` or the `db` fixture).
Whatever other processes must see is committed data: `committed_db` and, on top of it, `server` and
`background`. After such a test all rows and queued tasks are removed. Do not mix the two in one
test: the server cannot see an open transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from devstack.process import Process
from devstack.stack import Stack, launch_sink
from tests.support import database, session
from tests.support.mailbox import Mailbox
from tests.support.session import Lane

# Now, not in a hook: the conftest files of the directories below may import models.
_LANE = session.begin()
_RED = pytest.StashKey[bool]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with `background` come last: its relay and worker serve this database from then on,
    and would take the tasks of other tests.
    """
    items.sort(key=lambda item: "background" in getattr(item, "fixturenames", ()))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember whether somebody will want to see the logs."""
    session.config.stash[_RED] = exitstatus not in {
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what this process has started: an xdist worker its own processes, the main one all."""
    session.end(_LANE, keep_logs=config.stash.get(_RED, True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the end of the server's log under a test that failed."""
    report = yield
    lines = getattr(item, "funcargs", {}).get("_server_log")
    if report.failed and lines is not None:
        report.sections.append(("log of the server process", "\n".join(lines())))
    return report


@pytest.fixture(scope="session")
def lane() -> Lane:
    """This xdist worker's database, key prefix and SMTP ports."""
    return _LANE


@pytest.fixture(scope="session")
def stack(lane: Lane) -> Stack:
    """The running servers. `stack.spawn` starts another process of the app; give it
    `env=lane.env()`.
    """
    return lane.stack


@pytest.fixture(scope="session")
def django_db_setup(lane: Lane) -> None:
    """Instead of pytest-django's own: a copy of the migrated template."""
    database.copy_of_template(lane.stack, lane.database)


@pytest.fixture
def committed_db(django_db_setup: None, django_db_blocker: Any, lane: Lane) -> Iterator[None]:
    """Database access without a transaction around the test; everything is removed afterwards."""
    from django.db import connections

    with django_db_blocker.unblock():
        yield
        connections.close_all()
    lane.clean()


@pytest.fixture(scope="session")
def _serve(django_db_setup: None, lane: Lane) -> Process:
    process = lane.stack.spawn(
        ["serve", "--port", "0"], env=lane.env(), name=f"serve-{lane.database}"
    )
    process.wait_for("/readyz")
    return process


@pytest.fixture
def _server_log(_serve: Process) -> Any:
    start = len(_serve.output)
    return lambda: _serve.output[start:].splitlines()[-40:]


@pytest.fixture
def server(_serve: Process, _server_log: object, committed_db: None) -> str:
    """Base URL of a running `serve` process on this worker's database."""
    return _serve.url


@pytest.fixture(scope="session")
def _background(django_db_setup: None, _sink: Process, lane: Lane) -> None:
    queues = "default,orders,emails,sms,logistics,ai"
    lane.stack.spawn(["run_relay"], env=lane.env(), name=f"relay-{lane.database}")
    lane.stack.spawn(
        ["run_worker", "--queues", queues], env=lane.env(), name=f"worker-{lane.database}"
    )


@pytest.fixture
def background(_background: None, committed_db: None) -> None:
    """A relay and a worker run on this xdist worker's database and queues."""


@pytest.fixture(scope="session")
def _sink(lane: Lane) -> Process:
    name = f"smtp-{lane.database}"
    process = launch_sink(lane.stack.state_dir, lane.smtp_port, lane.smtp_http_port, name=name)
    lane.stack.children.append(process)
    process.wait_for("/healthz")
    return process


@pytest.fixture
def mailbox(_sink: Process, lane: Lane) -> Mailbox:
    """The e-mails that other processes (`background`) sent, none at first."""
    box = Mailbox(lane.sink_url)
    box.clear()
    return box
