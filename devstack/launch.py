"""A command line → that program in this process, as another user if asked; it ends with its parent.

A separate script that ends in `exec`: no code of ours runs between fork and exec of a parent with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def launch(user_id: int, parent_id: int, arguments: list[str]) -> None:
    """Become `arguments`, as user `user_id` unless that is 0; do nothing if the parent has already ended."""
    if user_id:
        os.setgroups([])
        os.setgid(user_id)
        os.setuid(user_id)
    if sys.platform == "linux":
        # After the change of user, which would clear it. SIGINT is Postgres's fast shutdown.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent_id:
            return
    os.execv(arguments[0], arguments)  # noqa: S606 - the arguments come from our own code


if __name__ == "__main__":
    launch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
