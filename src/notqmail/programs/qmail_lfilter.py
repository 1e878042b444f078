"""qmail-lfilter(8): in qmail-local's place; the message goes through control/localfilters first."""

import os
import sys

from notqmail.deliver.filters import LOCAL, filter_and_become, local_delivery
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, TEMPORARY, run
from notqmail.unix.processes import write_all
from notqmail.wire import reports

USAGE = "usage: qmail-lfilter [ -N ] user homedir local dash ext domain sender aliasempty\n"


def main() -> int:
    """Returns when qmail-local is not run: text on descriptor 1, exit code 0, 100 or 111, as qmail-local's."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    report = filter_and_become(LOCAL, words, local_delivery(words), home_directory(os.environb), os.environb, Clock())
    write_all(1, report.text)
    return {reports.SUCCESS: 0, reports.PERMANENT: PERMANENT}.get(report.kind, TEMPORARY)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
