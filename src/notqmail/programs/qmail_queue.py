"""qmail-queue(8): takes a message and its envelope into the queue; one-shot, or resident with --serve."""

import os
import signal
import sys

from notqmail.queue.layout import WRITER_DIES_S
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, complain, run
from notqmail.wire import queue_exit

USAGE = """usage: qmail-queue    message on descriptor 0, envelope on 1; the exit code is the answer
       qmail-queue --serve [--lifeline FD]
                      be the queue's writer: serve HOME/run/qmail-queue until TERM, or until FD ends
"""
_IGNORED = ("SIGPIPE", "SIGVTALRM", "SIGPROF", "SIGQUIT", "SIGINT", "SIGHUP", "SIGXCPU", "SIGXFSZ")


def main() -> int:
    """Descriptors and environment -> receive.queue_once or receive.queue_serve -> exit code."""
    home = home_directory(os.environb)
    if sys.argv[1:2] == ["--serve"]:
        from notqmail.receive.queue_main import serve

        return serve(home, sys.argv[2:])
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    if sys.argv[1:]:
        complain(USAGE.rstrip())
        return PERMANENT
    from notqmail.receive.queue_once import from_descriptors

    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(queue_exit.TIMED_OUT))
    signal.alarm(WRITER_DIES_S)
    return from_descriptors(home, Clock())


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=queue_exit.BUG)


if __name__ == "__main__":
    start()
