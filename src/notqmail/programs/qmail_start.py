"""qmail-start(8): turns on delivery."""

import os
import signal
import sys

from notqmail.send.start import Start, why_not
from notqmail.unix.accounts import MissingAccount, accounts_for
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, run

DEFAULT_DELIVERY = b"./Mailbox"
USAGE = "usage: qmail-start [defaultdelivery [logger argument ...]]\n"


def main() -> int:
    """Arguments -> send.start. Returns only when something could not be started."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by the interpreter; what we start would inherit that
        signal.signal(number, signal.SIG_DFL)
    home = home_directory(os.environb)
    arguments = [os.fsencode(argument) for argument in sys.argv[1:]]
    refusal = why_not(home)
    if refusal is not None:
        complain(f"qmail-start: fatal: {refusal}")
        return TEMPORARY
    try:
        accounts = accounts_for(home)
        Start(home, os.environb, accounts).serve(arguments[0] if arguments else DEFAULT_DELIVERY, arguments[1:])
    except MissingAccount as missing:
        complain(str(missing))
    except OSError as error:
        complain(f"qmail-start: fatal: {error.strerror}: {error.filename!r}")
    return TEMPORARY


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
