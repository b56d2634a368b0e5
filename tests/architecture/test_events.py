"""The event map is complete and each handler takes exactly what its event carries."""

import dataclasses
import datetime
import decimal
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from app.common.events import Event
from app.config.subscriptions import HANDLERS
from tests.architecture.tree import python_files

JSON = (str, int, bool, float, type(None))


def json_safe(annotation: Any) -> bool:
    """Whether values come back from JSON as they went in: no datetime, Decimal or tuple."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return all(json_safe(argument) for argument in arguments)
    if origin is dict:
        return arguments[0] is str and json_safe(arguments[1])
    if origin in (types.UnionType, typing.Union):
        return all(json_safe(argument) for argument in arguments)
    return annotation in JSON


def mismatches(event: type[Event], handler: Callable[..., Any]) -> Iterator[str]:
    """What keeps `handler` from taking the fields of `event` as keywords."""
    fields = typing.get_type_hints(event)
    hints = typing.get_type_hints(handler)
    returns = hints.pop("return", None)
    if returns is not type(None):
        yield f"returns {returns}"
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            yield f"{parameter.name} is not keyword-only"
    for name in sorted(fields.keys() | hints.keys()):
        if fields.get(name) != hints.get(name):
            yield f"{name}: event {fields.get(name)}, handler {hints.get(name)}"


def events() -> set[type[Event]]:
    """Every event class of every domain."""
    modules = [path.with_suffix("").parts for path in python_files("app")]
    found = [vars(import_module(".".join(m))).values() for m in modules if m[-1] == "events"]
    classes = {value for values in found for value in values if isinstance(value, type)}
    return {each for each in classes if issubclass(each, Event) and each is not Event}


def test_every_event_is_on_the_map() -> None:
    assert events() == set(HANDLERS)


@pytest.mark.parametrize("event", HANDLERS)
def test_event_is_frozen_and_json_safe(event: type[Event]) -> None:
    assert "__setattr__" in vars(event)  # what frozen=True adds
    hints = typing.get_type_hints(event)
    assert {name: hint for name, hint in hints.items() if not json_safe(hint)} == {}
    assert dataclasses.fields(event)[0].name == "event_id"


@pytest.mark.parametrize(
    ("event", "handler"), [(event, task) for event, tasks in HANDLERS.items() for task in tasks]
)
def test_handler_takes_the_event(event: type[Event], handler: Any) -> None:
    assert list(mismatches(event, handler.func)) == []


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planted(Event):
    """An event that only the tests below know."""

    order_id: str


def missing(*, event_id: str) -> None: ...
def surplus(*, event_id: str, order_id: str, email: str) -> None: ...
def other_type(*, event_id: str, order_id: int) -> None: ...
def positional(event_id: str, *, order_id: str) -> None: ...
def answering(*, event_id: str, order_id: str) -> bool:
    return True


def exact(*, event_id: str, order_id: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "count"),
    [(missing, 1), (surplus, 1), (other_type, 1), (positional, 1), (answering, 1), (exact, 0)],
)
def test_planted_handler_is_judged(handler: Callable[..., Any], count: int) -> None:
    assert len(list(mismatches(Planted, handler))) == count


def test_types_that_json_changes_are_refused() -> None:
    assert not json_safe(datetime.datetime)
    assert not json_safe(decimal.Decimal)
    assert not json_safe(tuple[int, int])
    assert not json_safe(dict[int, str])
    assert json_safe(list[dict[str, int | None]])
