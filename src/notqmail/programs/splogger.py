"""splogger(8): descriptor 0, line by line, into syslog. Arguments: the tag, and the number of the facility."""

import os
import sys
import syslog

from notqmail.send.splogger import MAIL_FACILITY, LineLogger, facility_code
from notqmail.unix.clock import Clock
from notqmail.unix.mains import run

USAGE = "usage: splogger [ tag [ facility ] ]    lines on descriptor 0\n"
READ_SIZE = 65_536


def main() -> int:
    """Exits 0 at the end of its input."""
    words = sys.argv[1:]
    if words == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    facility = os.fsencode(words[1]) if len(words) > 1 else b"%d" % MAIL_FACILITY
    syslog.openlog(words[0] if words else "splogger", 0, facility_code(facility))
    logger = LineLogger(syslog.syslog, Clock().now_us)
    try:
        while data := os.read(0, READ_SIZE):
            logger.receive(data)
    except OSError:
        pass  # as good as an end: nobody is left to be told
    logger.finish()
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
