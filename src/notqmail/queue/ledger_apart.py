"""Adding up journals in a process of its own, so that no mail waits for it: the residents' way (ledger_sums.py).

It is nobody's child, has no descriptor of the resident's (the pipes and the lock of qmail-send must end with
qmail-send), gives way to everybody, and ends when it is done or told to. It may be killed at any step.
"""

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.durable import Disk

_NICENESS = 19


def sum_up_apart(disk: "Disk", directory: bytes) -> None:
    """Begins it. Raises OSError when no process can be had."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)  # it only makes the grandchild
        return
    try:
        if os.fork() == 0:
            _let_go()
            _sum_up_alone(disk, directory)
    finally:
        os._exit(0)


def _let_go() -> None:
    """Of everything that was the resident's but the directory it is in."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    for _ in range(3):
        os.open("/dev/null", os.O_RDWR)
    os.setsid()
    os.nice(_NICENESS)


def _sum_up_alone(disk: "Disk", directory: bytes) -> None:
    """Unless somebody is at it."""
    import fcntl

    from notqmail.queue.ledger_sums import sum_up

    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sum_up(disk, directory)
    except OSError:
        pass  # somebody is, or the disk is in trouble: the next journal that is put aside brings another try
    finally:
        os.close(lock)
