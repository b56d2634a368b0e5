"""`python -m devstack up|down|reset|logs|status|demo|env`: see `make help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from devstack import commands
from devstack.errors import DevstackError


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; a DevstackError is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start everything, seeded, and print the URLs")
    up.add_argument("--detach", action="store_true", help="return when ready; `down` stops it")
    up.add_argument("--supervise", action="store_true", help=argparse.SUPPRESS)  # for --detach
    verbs.add_parser("down", help="stop everything")
    verbs.add_parser("reset", help="stop, and delete the data")
    logs = verbs.add_parser("logs", help="follow the logs of all processes")
    logs.add_argument("--no-follow", action="store_true", help="print what is there and return")
    verbs.add_parser("status", help="which processes run, where; exit code 1 unless all do")
    verbs.add_parser("demo", help="buy something; read back order, stock and e-mail")
    verbs.add_parser("env", help="print the settings as KEY=VALUE lines")
    arguments = parser.parse_args(words)
    try:
        return commands.run(arguments)
    except DevstackError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `make logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
