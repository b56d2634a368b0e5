"""The import contracts of pyproject.toml are kept, and each one catches a planted violation."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

TOOLS = Path(sys.executable).parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
NAMES = {contract["id"]: contract["name"] for contract in CONTRACTS}
PRIVATE = {"api", "demo", "gateways", "models", "tasks"}

# contract -> file (made when missing) and the line that breaks the contract
PLANTS = [
    ("direction", "app/common/ids.py", "import app.orders.services"),
    ("direction", "app/inventory/services/stock.py", "import app.orders.services"),
    ("direction", "app/authentication/services.py", "import app.inventory.services"),
    ("direction", "app/orders/services.py", "import app.config.settings"),
    ("direction", "app/taskqueue/worker.py", "import app.telemetry.metrics"),
    ("inside", "app/orders/services.py", "import app.orders.api.urls"),
    ("inside", "app/orders/services.py", "import app.orders.tasks"),
    ("inside", "app/orders/models.py", "import app.orders.services"),
    ("private-authentication", "app/orders/services.py", "import app.authentication.models"),
    ("private-inventory", "app/orders/services.py", "from app.inventory import models"),
    ("private-inventory", "app/orders/services.py", "import app.inventory.api.urls"),
    ("private-orders", "app/inventory/services/stock.py", "import app.orders.models"),
    ("no-web-in-services", "app/orders/services.py", "from rest_framework import exceptions"),
    ("no-web-in-services", "app/inventory/models.py", "import ninja"),
    ("mechanisms", "app/orders/api/urls.py", "from opentelemetry import trace"),
    ("mechanisms", "app/orders/services.py", "import redis"),
    ("reusable", "app/taskqueue/worker.py", "import app.common.ids"),
    ("reusable", "app/telemetry/metrics.py", "import app.common.ids"),
    ("product-only", "app/common/ids.py", "import tests.support"),
    ("product-only", "app/config/settings.py", "import yaml"),
    ("acyclic", "app/common/errors.py", "import app.common.views"),
]


def broken_contracts(root: Path) -> set[str]:
    """Names of the broken contracts of the copy at `root`."""
    run = subprocess.run(
        [TOOLS / "lint-imports", "--no-cache", "--no-logo"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    broken = set(re.findall(r"^(.+) BROKEN$", run.stdout, re.MULTILINE))
    if not broken and run.returncode:
        raise RuntimeError(f"lint-imports did not run: {run.stdout}{run.stderr}")
    return broken


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of app/ and its contracts, to plant violations in."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(root: Path, name: str, line: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{file.read_text() if file.exists() else ''}\n{line}\n")


def test_contracts_are_kept() -> None:
    assert broken_contracts(ROOT) == set()


@pytest.mark.parametrize(
    ("contract", "name", "line"), PLANTS, ids=[f"{c}-{line}" for c, _, line in PLANTS]
)
def test_planted_import_is_caught(copy: Path, contract: str, name: str, line: str) -> None:
    plant(copy, name, line)
    assert NAMES[contract] in broken_contracts(copy)


def test_every_contract_has_a_plant() -> None:
    assert {contract for contract, _, _ in PLANTS} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("app/wishlists/__init__.py", "app.wishlists"),
        ("app/orders/utils.py", "app.orders.utils"),
    ],
)
def test_room_without_a_place_is_refused(copy: Path, name: str, message: str) -> None:
    plant(copy, name, "")
    run = subprocess.run(
        [TOOLS / "lint-imports", "--no-cache", "--no-logo"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert message in run.stdout


def test_private_modules_of_each_domain_are_protected() -> None:
    for contract in CONTRACTS:
        if contract["type"] != "protected":
            continue
        domain = Path(*contract["allowed_importers"][0].split("."))
        present = {path.stem for path in (ROOT / domain).iterdir() if path.stem in PRIVATE}
        protected = {module.rpartition(".")[2] for module in contract["protected_modules"]}
        assert protected == present, domain


@pytest.mark.parametrize(
    ("code", "name", "source"),
    [
        ("TID251", "app/orders/services.py", "from asgiref.sync import sync_to_async\n"),
        ("TID251", "app/orders/models.py", "from django.dispatch import receiver\n"),
        ("TID251", "app/orders/models.py", "from django.db.models.signals import post_save\n"),
        ("TID252", "app/orders/services.py", "from ..inventory import services\n"),
        ("G004", "app/orders/services.py", "import logging\nlogging.info(f'{__name__}')\n"),
        ("BLE001", "app/orders/services.py", "try:\n    print\nexcept Exception:\n    pass\n"),
        ("T201", "app/orders/services.py", "print('x')\n"),
        ("DTZ005", "app/orders/services.py", "import datetime\nx = datetime.datetime.now()\n"),
        ("ASYNC251", "app/orders/api/x.py", "import time\nasync def f():\n    time.sleep(1)\n"),
        ("FBT001", "app/orders/services.py", "def f(paid: bool) -> None: ...\n"),
        ("PLR0913", "app/orders/services.py", "def f(a, b, c, d, e, f, g): ...\n"),
        ("PLR0915", "app/orders/services.py", "def f():\n" + "    x = 1\n" * 31),
        ("C901", "app/orders/services.py", "def f(x):\n" + "    if x: x = 1\n" * 9),
        ("E501", "app/orders/services.py", "x = '" + "x" * 100 + "'\n"),
        ("ERA001", "app/orders/services.py", "# x = f(1)\n"),
    ],
)
def test_planted_line_is_caught_by_ruff(code: str, name: str, source: str) -> None:
    run = subprocess.run(
        [
            TOOLS / "ruff",
            "check",
            "--no-cache",
            "--output-format=concise",
            "--stdin-filename",
            name,
            "-",
        ],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f" {code} " in run.stdout


def misplaced(root: Path) -> list[str]:
    """What app/ imports without declaring it for production."""
    run = subprocess.run(
        [TOOLS / "deptry", "--no-ansi", "--ignore", "DEP002", "app"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return re.findall(r"DEP\d+ '\w+'", run.stderr)


def test_product_imports_declared_packages_only() -> None:
    assert misplaced(ROOT) == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [("import boto3", "DEP001 'boto3'"), ("import yaml", "DEP004 'yaml'")],
)
def test_planted_dependency_is_caught(copy: Path, line: str, finding: str) -> None:
    plant(copy, "app/common/ids.py", line)
    assert finding in misplaced(copy)
