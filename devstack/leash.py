"""Run a command that ends with its parent: `leash.py PARENT_PID SIGNAL UID GID program args…`.

A file of its own and without imports of the project, because it starts before each server (about
15 ms): `exec` keeps the pid, and the kernel sends SIGNAL when the parent ends, however it ends. On
other systems than Linux there is no such signal; the next `up` finds and ends what was left
behind.
"""

import ctypes  # before setuid: the other account may not be able to read Python's files
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Drop to UID and GID (-1 keeps them), tie this process to its parent, become the program."""
    parent, death_signal, uid, gid = (int(text) for text in sys.argv[1:5])
    program = sys.argv[5:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the line above
            sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
