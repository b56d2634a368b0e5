"""The house rules hold in the tree, and each rule catches a planted breach."""

import ast
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.tree import parse, python_files

DOMAIN = Path("app/orders/services.py")
API = Path("app/orders/api/views.py")
TEST = Path("tests/orders/test_services.py")


def breaches(rule: rules.Rule, files: list[Path]) -> list[str]:
    return [line for path in files for line in rule(path, parse(path))]


@pytest.mark.parametrize(
    "rule",
    [
        rules.only_bridge_uses_threads,
        rules.no_signals,
        rules.no_get_model,
        rules.no_async_orm,
        rules.environment_in_one_place,
    ],
)
def test_app_keeps_rule(rule: rules.Rule) -> None:
    assert breaches(rule, python_files("app")) == []


def test_tests_wait_for_conditions() -> None:
    assert breaches(rules.waits_have_a_condition, python_files("tests")) == []


@pytest.mark.parametrize(
    ("rule", "path", "code"),
    [
        (rules.only_bridge_uses_threads, DOMAIN, "from asgiref.sync import sync_to_async"),
        (rules.only_bridge_uses_threads, DOMAIN, "from asgiref.sync import async_to_sync"),
        (rules.only_bridge_uses_threads, DOMAIN, "import asgiref.sync"),
        (rules.only_bridge_uses_threads, API, "x = sync.sync_to_async(f)"),
        (rules.no_async_orm, API, "async def f():\n    await Order.objects.aget(id=1)"),
        (rules.no_async_orm, API, "async def f():\n    await order.asave()"),
        (rules.no_async_orm, API, "async def f():\n    async for o in Order.objects.all(): ..."),
        (
            rules.no_async_orm,
            API,
            "async def f():\n    return [o async for o in Order.objects.all()]",
        ),
        (
            rules.no_async_orm,
            API,
            "q = Order.objects.all()\nasync def f():\n    async for o in q: ...",
        ),
        (rules.no_signals, DOMAIN, "from django.db.models.signals import post_save"),
        (rules.no_signals, DOMAIN, "from django.dispatch import receiver"),
        (rules.no_signals, DOMAIN, "from django.tasks.signals import task_enqueued"),
        (rules.no_signals, DOMAIN, "paid = dispatch.Signal()"),
        (rules.no_signals, DOMAIN, "@receiver(post_save)\ndef f(**kwargs): ..."),
        (rules.environment_in_one_place, DOMAIN, "debug = os.environ.get('DEBUG')"),
        (rules.environment_in_one_place, DOMAIN, "from os import getenv\nx = getenv('DEBUG')"),
        (rules.no_get_model, DOMAIN, "apps.get_model('orders', 'Order')"),
        (rules.waits_have_a_condition, TEST, "def test_x():\n    time.sleep(1)"),
    ],
)
def test_rule_catches_planted_breach(rule: rules.Rule, path: Path, code: str) -> None:
    assert list(rule(path, ast.parse(code))) != []


@pytest.mark.parametrize(
    ("rule", "path", "code"),
    [
        (
            rules.only_bridge_uses_threads,
            Path(rules.BRIDGE),
            "from asgiref.sync import sync_to_async",
        ),
        (rules.no_async_orm, API, "async def f():\n    async for chunk in stream: ..."),
        (
            rules.no_signals,
            Path("app/taskqueue/backend.py"),
            "from django.tasks.signals import task_enqueued",
        ),
        (rules.waits_have_a_condition, TEST, "while not done():\n    time.sleep(0.05)"),
    ],
)
def test_rule_allows(rule: rules.Rule, path: Path, code: str) -> None:
    assert list(rule(path, ast.parse(code))) == []
