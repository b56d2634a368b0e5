"""Queue URLs: what is understood, and errors that name the fix."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from app.taskqueue.connection import Node, parse
from app.taskqueue.options import BackendOptions, check_queues


def test_several_seeds_login_and_default_port() -> None:
    address = parse("valkey://shop:p%40ss@a.example,b.example:7001,[::1]:7002")
    assert address.seeds == (Node("a.example", 6379), Node("b.example", 7001), Node("::1", 7002))
    assert (address.tls, address.username, address.password) == (False, "shop", "p@ss")
    assert address.prefix == "fs"


def test_separate_password_replaces_that_of_the_url_and_is_not_shown() -> None:
    address = parse("redis://shop:old@a:1", "new secret")
    assert address.password == "new secret"
    assert "secret" not in repr(address)


def test_tls_verifies_certificate_and_name(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-")
    options = parse("valkeys://a:1", None, str(ca)).options(timeout=1)
    assert options["ssl_cert_reqs"] == "required"
    assert options["ssl_check_hostname"] is True
    assert options["ssl_ca_certs"] == str(ca)
    assert "ssl_cert_reqs" not in parse("valkey://a:1").options(timeout=1)


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("localhost:6379", "valkey://"),
        ("http://a", "valkey://"),
        ("valkey://", "at least one host"),
        ("valkey://a:port", "no port"),
        ("valkey://a:70000", "no port"),
        ("valkey://:6379", "no host"),
        ("valkey://a:1/1", "one database"),
    ],
)
def test_wrong_urls_name_the_fix(url: str, fix: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=fix):
        parse(url)


def test_ca_without_tls_or_without_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="valkeys://"):
        parse("valkey://a", None, str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match="does not exist"):
        parse("valkeys://a", None, str(tmp_path / "missing.pem"))


@pytest.mark.parametrize("prefix", ["{x}", "a:b", "a b"])
def test_prefix_is_one_word(prefix: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="prefix"):
        parse("valkey://a", prefix=prefix)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "url"),
        ({"url": "valkey://a", "shard": 3}, "unknown OPTIONS"),
        ({"url": "valkey://a", "shards": 0}, "shards"),
        ({"url": "valkey://a", "result_ttl": 5}, "result_ttl"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        BackendOptions.of(options)


@pytest.mark.parametrize("queues", [[], ["a:b"], ["x" * 65], ["ok", ""]])
def test_queue_names_are_checked(queues: list[str]) -> None:
    with pytest.raises(ImproperlyConfigured, match="QUEUES"):
        check_queues(queues)
