"""`make load`: the shoppers of locustfile.py, headless, with a report and one last RESULT line.

Exit code 1 when a request fails or a bought order cannot be read back, 0 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.target import NoTargetError, find_host, state_dir

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
FINISH_SECONDS = 20
"""How long a shopper may take to finish its purchase when the time is over."""


def main(argv: list[str] | None = None) -> int:
    """Run the load and print the RESULT line; the exit code of the process."""
    options = _options(argv)
    reports = state_dir() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    html = Path(options.report) if options.report else reports / "load.html"
    try:
        host = find_host(options.host)
    except NoTargetError as error:
        return _finish(reports, "FAIL", {"reason": "no_target"}, note=str(error))
    with tempfile.TemporaryDirectory() as scratch:
        counts_file = Path(scratch) / "counts.json"
        try:
            code = _locust(options, host, html, counts_file)
        except KeyboardInterrupt:
            _finish(reports, "FAIL", {"reason": "interrupted", "host": host})
            return 130
        counts = json.loads(counts_file.read_text()) if counts_file.exists() else {}
    reason = counts.pop("reason", "locust_did_not_finish")
    if not reason and code:
        reason = f"locust_exit_code_{code}"
    counts |= {"report": _short(html), "host": host, "seconds": options.seconds}
    if reason:
        return _finish(reports, "FAIL", {"reason": reason, **counts})
    return _finish(reports, "ok", counts)


def _options(argv: list[str] | None) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("--host", default=env.get("HOST"), help="default: HOST, else the devstack")
    parser.add_argument(
        "--seconds", type=int, default=env.get("LOAD_SECONDS", "30"), help="LOAD_SECONDS, else 30"
    )
    parser.add_argument(
        "--users", type=int, default=env.get("LOAD_USERS", "20"), help="LOAD_USERS, else 20"
    )
    parser.add_argument(
        "--checkouts",
        type=int,
        default=env.get("LOAD_CHECKOUTS", "0"),
        help="end after so many answered checkouts (default: only by time)",
    )
    parser.add_argument("--report", default=None, help="HTML report (.devstack/reports/load.html)")
    return parser.parse_args(argv)


def _locust(options: argparse.Namespace, host: str, html: Path, counts: Path) -> int:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", host]
    command += ["--headless", "--only-summary", "--users", str(options.users)]
    command += ["--spawn-rate", str(options.users), "--run-time", f"{options.seconds}s"]
    command += ["--stop-timeout", str(FINISH_SECONDS), "--html", str(html)]
    env = {**os.environ, "LOAD_COUNTS": str(counts), "LOAD_CHECKOUTS": str(options.checkouts)}
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL)
    try:
        return process.wait(timeout=options.seconds + FINISH_SECONDS + 60)
    except KeyboardInterrupt:
        process.wait(timeout=FINISH_SECONDS + 60)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _finish(reports: Path, state: str, values: dict[str, Any], *, note: str = "") -> int:
    if note:
        print(note, file=sys.stderr)
    (reports / "load.json").write_text(json.dumps({"result": state, **values}, indent=2) + "\n")
    sys.stderr.flush()
    fields = " ".join(f"{key}={value}" for key, value in values.items())
    print(f"RESULT load {state} {fields}", flush=True)
    return 0 if state == "ok" else 1


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
