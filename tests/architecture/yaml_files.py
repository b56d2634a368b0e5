"""Do the YAML files load, and without a key twice?"""

import sys
from pathlib import Path
from typing import Any

import yaml


class _Strict(yaml.SafeLoader):
    """YAML lets a later key silently win; here that is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_all(text: str) -> list[Any]:
    """Every document of the text. Raises yaml.YAMLError."""
    return list(yaml.load_all(text, Loader=_Strict))


def main(names: list[str]) -> int:
    """Print each file that does not load; 1 when there is one."""
    broken = 0
    for name in names:
        try:
            load_all(Path(name).read_text())
        except yaml.YAMLError as error:
            broken = 1
            print(f"{name}: {error}")
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
