"""House rules that ruff and import-linter cannot say. Each returns `path:line what` per breach."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

BRIDGE = "app/common/concurrency.py"
LAZY_HANDLER = "app/common/handler.py"
ENVIRONMENT = frozenset(
    {
        "app/__main__.py",  # DJANGO_SETTINGS_MODULE
        "app/config/environment.py",
        "app/taskqueue/failpoints.py",  # tests only, read once at start
        "app/telemetry/tracing.py",  # the standard OTEL_* names
    }
)
_ASYNC_METHODS = """
    aget afirst alast aearliest alatest acreate aget_or_create aupdate_or_create acount aexists
    abulk_create abulk_update ain_bulk aupdate adelete asave aaggregate acontains aexplain aiterator
    arefresh_from_db aadd aclear aremove aset afull_clean aget_object_or_404 aget_list_or_404
"""
ASYNC_ORM = frozenset(_ASYNC_METHODS.split())

Rule = Callable[[Path, ast.Module], Iterator[str]]


def _at(path: Path, node: ast.AST, what: str) -> str:
    return f"{path}:{getattr(node, 'lineno', 1)} {what}"


def _imports(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """Each import as a dotted name: `from a.b import c` gives a.b.c."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, f"{node.module or ''}.{alias.name}"


def only_bridge_uses_threads(path: Path, tree: ast.Module) -> Iterator[str]:
    """`sync_to_async` lives in the bridge; the lazy handler alone may touch asgiref beside it."""
    if str(path) == BRIDGE:
        return
    for statement, name in _imports(tree):
        if name.startswith("asgiref.sync") and str(path) != LAZY_HANDLER:
            yield _at(path, statement, f"imports {name}; only {BRIDGE} crosses to threads")
    for node in ast.walk(tree):
        if _name(node) == "sync_to_async":
            yield _at(path, node, "uses sync_to_async; call app.common.concurrency.in_thread")


def no_async_orm(path: Path, tree: ast.Module) -> Iterator[str]:
    """Django's async ORM is the sync ORM in a thread per call: one hop each, no transaction."""
    querysets = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _mentions_objects(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _name(node.value) == "cache":
            continue  # app.common.cache awaits the network, without a thread
        if isinstance(node, ast.Attribute | ast.Name) and _name(node) in ASYNC_ORM:
            yield _at(path, node, f"calls {_name(node)}; use a service or a HotQuery")
        if isinstance(node, ast.AsyncFor) or (
            isinstance(node, ast.comprehension) and node.is_async
        ):
            iterated = node.iter
            named = isinstance(iterated, ast.Name) and iterated.id in querysets
            if named or _mentions_objects(iterated):
                yield _at(path, iterated, "iterates a queryset with async for")


def no_signals(path: Path, tree: ast.Module) -> Iterator[str]:
    """Zero signals. The task queue alone sends the three signals that Django's task API defines."""
    for statement, name in _imports(tree):
        if name.startswith("django.tasks.signals") and path.parts[:2] == ("app", "taskqueue"):
            continue
        if name.startswith("django.core.signals") and str(path) == LAZY_HANDLER:
            continue
        if name.startswith("django.") and ("dispatch" in name.split(".") or ".signals" in name):
            yield _at(path, statement, f"imports {name}; publish an event or call the service")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in {"Signal", "receiver"}:
            yield _at(path, node, "declares or receives a signal")


def no_get_model(path: Path, tree: ast.Module) -> Iterator[str]:
    """`apps.get_model` walks around every import contract."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "get_model":
            yield _at(path, node, "get_model hides an import from the contracts")


def environment_in_one_place(path: Path, tree: ast.Module) -> Iterator[str]:
    """A setting is read in app/config and listed in the README; ENVIRONMENT has the exceptions."""
    if str(path) in ENVIRONMENT:
        return
    for node in ast.walk(tree):
        if _name(node) in {"environ", "getenv"}:
            yield _at(path, node, "reads the environment; add a setting in app/config/settings.py")


def waits_have_a_condition(path: Path, tree: ast.Module) -> Iterator[str]:
    """A test waits for a condition with a deadline: sleep is legal only inside a loop."""
    looped = {
        id(inner)
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
        for inner in ast.walk(loop)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _blocks(node.func) and id(node) not in looped:
            yield _at(path, node, "sleeps outside a loop; wait for a condition with a deadline")


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _blocks(function: ast.AST) -> bool:
    return ast.unparse(function) in {"time.sleep", "sleep"}


def _mentions_objects(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr == "objects" for part in ast.walk(node)
    )
