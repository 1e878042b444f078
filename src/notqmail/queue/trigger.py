"""lock/trigger: a fifo that tells qmail-send "there is something in todo". One pulls it by writing a byte.

Losing a pull loses nothing: qmail-send looks into todo every 25 minutes anyway.
"""

import os

from notqmail.queue.layout import TRIGGER


def pull(queue: bytes) -> None:
    """Wakes qmail-send, if one runs on this queue (a directory's path). Never fails, never waits."""
    try:
        fifo = os.open(os.path.join(queue, TRIGGER), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # no qmail-send listens, or no fifo: it will look by itself
    try:
        os.write(fifo, b"\0")
    except OSError:
        pass  # full: then it is pulled already
    finally:
        os.close(fifo)


def listen(queue: bytes) -> int:
    """A descriptor that becomes readable when somebody pulls. Opened anew before each look into todo, so a pull
    that comes after the look began is never swallowed. Raises OSError.
    """
    return os.open(os.path.join(queue, TRIGGER), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
