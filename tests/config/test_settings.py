"""A missing or wrong variable stops the start with one sentence that names it."""

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from app.config import environment
from tests.support.session import Lane

REQUIRED = [
    "SECRET_KEY",
    "DATABASE_URL",
    "QUEUE_URL",
    "CACHE_URL",
    "EMAIL_URL",
    "ALLOWED_HOSTS",
    "PUBLIC_BASE_URL",
]
PROBE = """
import os, sys
for name in sys.argv[1:]:
    kept = os.environ.pop(name)
    sys.modules.pop("app.config.settings", None)
    try:
        import app.config.settings
        print(name, "is not missed")
    except Exception as error:
        print(error)
    os.environ[name] = kept
"""


def test_each_required_name_is_named_with_an_example(lane: Lane) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *REQUIRED],
        env=lane.env(),
        capture_output=True,
        text=True,
        check=True,
    )

    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"set {name}" for name in REQUIRED]
    assert all(f"for example {n}=" in line for n, line in zip(REQUIRED, lines, strict=True))


def test_a_command_ends_with_that_sentence_and_no_traceback(lane: Lane) -> None:
    env = lane.env()
    del env["QUEUE_URL"]
    done = subprocess.run(
        [sys.executable, "-m", "app", "check"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "fashionistar: set QUEUE_URL, for example QUEUE_URL=valkey://127.0.0.1:7100,127.0.0.1:7101"
    ]


@pytest.mark.parametrize(
    "url", ["", "mysql://a:b@h/x", "postgresql://a:b@h", "postgresql://h:x/y", "postgresql://[::1"]
)
def test_a_bad_database_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL "):
        environment.database("DATABASE_URL", url, "")


def test_the_parts_of_a_database_url() -> None:
    entry = environment.database(
        "DATABASE_URL", "postgresql://app_a:p%40ss@db.example/shop?sslmode=verify-full", ""
    )

    assert (entry["USER"], entry["PASSWORD"], entry["HOST"]) == ("app_a", "p@ss", "db.example")
    assert (entry["PORT"], entry["NAME"]) == ("5432", "shop")
    assert entry["OPTIONS"] == {"sslmode": "verify-full"}
    assert environment.database("X", "postgresql://a:b@h/d", "other")["PASSWORD"] == "other"


@pytest.mark.parametrize(
    "url", ["", "mail.example.com", "http://mail.example.com", "smtp://h:x", "smtp://"]
)
def test_a_bad_mail_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_URL "):
        environment.mailer("EMAIL_URL", url)


@pytest.mark.parametrize("value", ["many", "0", "65", "1.5"])
def test_numbers_have_bounds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("REQUEST_THREADS", value)

    with pytest.raises(ImproperlyConfigured, match=r"^REQUEST_THREADS "):
        environment.whole("REQUEST_THREADS", 8, minimum=1, maximum=64)


@pytest.mark.parametrize(
    ("url", "port"), [("smtp://h", 25), ("smtps://h", 465), ("smtp+starttls://h", 587)]
)
def test_each_way_to_send_mail_has_its_port(url: str, port: int) -> None:
    assert environment.mailer("EMAIL_URL", url)["OPTIONS"]["port"] == port


def test_an_unknown_word_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "verbose")

    with pytest.raises(ImproperlyConfigured, match=r"^LOG_LEVEL must be one of INFO, ERROR"):
        environment.choice("LOG_LEVEL", "INFO", ("INFO", "ERROR"))


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        ("CACHE_URL", {"url": "http://cache:6379"}),
        ("CACHE_URL", {"url": "valkey://cache:6379/1"}),
        ("CACHE_CA_FILE", {"ca_file": "/nowhere.pem"}),
        ("CACHE_PREFIX", {"prefix": "a:b"}),
    ],
)
def test_a_bad_cache_variable_is_refused_by_name(variable: str, wrong: dict[str, str]) -> None:
    right = {"url": "valkeys://cache:6379", "password": "", "ca_file": "", "prefix": "p"}

    with pytest.raises(ImproperlyConfigured, match=f"^{variable}: "):
        environment.cluster("CACHE_URL", **right | wrong)


def test_a_queue_that_does_not_exist_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_CONCURRENCY", "emials=16")

    with pytest.raises(ImproperlyConfigured, match=r"^QUEUE_CONCURRENCY knows emails, sms"):
        environment.numbers("QUEUE_CONCURRENCY", {}, ["emails", "sms"])


def test_a_bad_queue_url_is_refused_by_name() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^QUEUE_URL: start with valkey://"):
        environment.cluster_options("QUEUE_URL", "foo", password="", ca_file="", prefix="fs")
