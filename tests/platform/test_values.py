"""values.yaml, its comments and its schema say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.platform.chart import CHART, PROFILES

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"labels", "annotations", "requests", "limits"}


def _resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = SCHEMA["definitions"][node["$ref"].rpartition("/")[2]]
    if "allOf" in node:
        return _resolve(node["allOf"][0])
    return node


def _walk(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    schema = _resolve(schema)
    properties = schema.get("properties", {})
    free = schema.get("additionalProperties")
    if isinstance(free, dict):
        properties = dict.fromkeys(values, free)
    elif free is not False:
        yield f"{path}: unknown keys are allowed"
    else:
        known = set(properties) - {"global", "enabled"} if not path else set(properties)
        optional = known - set(schema.get("required", []))
        if path.rpartition(".")[2] not in FREE:
            yield from (f"{path}.{key}: optional in the schema" for key in optional)
            yield from (f"{path}.{key}: only in the schema" for key in known - set(values))
    for key, value in values.items():
        if key not in properties:
            yield f"{path}.{key}: only in values.yaml"
        elif isinstance(value, dict):
            yield from _walk(value, properties[key], f"{path}.{key}")


def test_schema_and_values_have_the_same_keys_and_all_are_required() -> None:
    assert list(_walk(VALUES, SCHEMA, "")) == []


def test_global_and_enabled_are_allowed_at_the_root_only() -> None:
    assert {"global", "enabled"} <= SCHEMA["properties"].keys()
    assert not {"global", "enabled"} & VALUES.keys()


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"\s*[A-Za-z]\w*:", line)]
    inner = {"requests", "limits"}
    missing = [
        lines[i]
        for i in keys
        if not lines[i - 1].lstrip().startswith("#") and lines[i].split(":")[0].strip() not in inner
    ]
    assert missing == []


def test_profiles_change_known_values_only() -> None:
    def unknown(profile: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
        for key, value in profile.items():
            if key not in values:
                yield key
            elif isinstance(value, dict) and isinstance(values[key], dict):
                yield from unknown(value, values[key])

    for name in PROFILES:
        assert list(unknown(yaml.safe_load((CHART / name).read_text()), VALUES)) == []
