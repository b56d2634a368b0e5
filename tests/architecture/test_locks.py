"""The lock files belong to this pyproject.toml."""

from packaging.requirements import Requirement

from tests.architecture.locks import check, differences

LOCK = """\
django==6.1.3 \\
    --hash=sha256:aa
    # via
    #   fashionistar (pyproject.toml)
    #   django-ninja
sqlparse==0.5.4 \\
    --hash=sha256:bb
    # via django
"""


def test_locks_match() -> None:
    assert check() == []


def test_current_lock_has_no_difference() -> None:
    assert differences([Requirement("django>=6.1,<6.2")], LOCK) == []


def test_each_difference_is_named() -> None:
    assert differences([Requirement("django>=6.2"), Requirement("redis>=8")], LOCK) == [
        "redis is declared and not locked",
        "django 6.1.3 is locked, >=6.2 is declared",
    ]
    assert differences([], LOCK) == ["django is locked and no longer declared"]
    without = LOCK.replace("    --hash=sha256:bb\n", "").replace("0.5.4 \\", "0.5.4")
    assert differences([Requirement("django")], without) == ["sqlparse has no hash"]
