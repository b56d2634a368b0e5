"""The route catalogue: routes.toml as data, and what the URLconf really serves."""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.architecture.tree import ROOT

CATALOGUE = ROOT / "tests/architecture/routes.toml"


@dataclass(frozen=True, slots=True)
class Route:
    """One row: template, methods, who answers."""

    path: str
    methods: frozenset[str]
    framework: str


def catalogued() -> dict[Route, int]:
    """Every row of routes.toml with its hop count."""
    rows = tomllib.loads(CATALOGUE.read_text())["route"]
    return {
        Route(row["path"], frozenset(row["methods"]), row["framework"]): row["hops"] for row in rows
    }


def served() -> set[Route]:
    """Every route of the URLconf."""
    from django.urls import get_resolver

    return set(_walk(get_resolver().url_patterns, "/"))


def _walk(patterns: list[Any], prefix: str) -> Iterator[Route]:
    from ninja.openapi.views import default_home

    for pattern in patterns:
        template = f"{prefix}{pattern.pattern}"
        if hasattr(pattern, "url_patterns"):
            yield from _walk(pattern.url_patterns, template)
        elif getattr(pattern.callback, "func", None) is not default_home:  # always 404
            yield describe(template, pattern.callback)


def describe(template: str, callback: Callable[..., Any]) -> Route:
    """Who answers at `template`, and to which methods."""
    from app.common.views import HotView, ServiceView

    view = getattr(callback, "cls", None)
    if view is None:
        operations = _ninja_operations(callback)
        if operations is None:
            return Route(template, frozenset({"GET"}), "plain")
        return Route(template, frozenset(m for o in operations for m in o.methods), "ninja")
    methods = {m.upper() for m in view.http_method_names if hasattr(view, m)} - {"HEAD", "OPTIONS"}
    bases = {"hot": HotView, "service": ServiceView}
    framework = next((name for name, base in bases.items() if issubclass(view, base)), "other")
    return Route(template, frozenset(methods), framework)


def _ninja_operations(callback: Callable[..., Any]) -> list[Any] | None:
    """The operations behind a Ninja view: the wrapper closes over its PathView."""
    from ninja.operation import PathView

    cells = getattr(callback, "__closure__", None) or ()
    views = [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, PathView)]
    return views[0].operations if views else None
