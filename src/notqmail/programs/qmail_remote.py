"""qmail-remote(8): HOST SENDER RECIPIENT... - the message on descriptor 0 by SMTP, reports on descriptor 1, exit 0."""

import os
import sys

from notqmail.control.files import Missing
from notqmail.control.remote_settings import read_remote_settings
from notqmail.deliver import remote
from notqmail.deliver.remote_once import deliver
from notqmail.deliver.routes import candidates
from notqmail.deliver.tcpto import TimeoutTable
from notqmail.unix.clock import Clock
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.unix.own_addresses import own_addresses
from notqmail.unix.processes import write_all
from notqmail.unix.resolver import DnsResolver, configured_servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.deliver.routes import Asking
    from notqmail.wire.smtp_client import Outcome

USAGE = "usage: qmail-remote HOST SENDER RECIPIENT...    message on descriptor 0, reports on 1\n"


def main() -> int:
    """The exit code says nothing, as ever; the last report does."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    return run_attempt(candidates)


def run_attempt(search: "Callable[..., Asking]") -> int:
    """What qmail-remote and qmail-qmtpc do with their arguments; `search` finds addresses, as `routes.candidates`."""
    try:
        outcome = attempt([os.fsencode(argument) for argument in sys.argv[1:]], search)
    except MemoryError:
        outcome = remote.without_dialogue(remote.OUT_OF_MEMORY)
    write_all(1, outcome.encode())
    return 0


def attempt(arguments: list[bytes], search: "Callable[..., Asking]") -> "Outcome":
    """The one delivery."""
    if len(arguments) < 3:
        return remote.without_dialogue(remote.IMPROPER_USE)
    host, sender, *recipients = arguments
    home = home_directory(os.environb)
    try:
        os.chdir(home)
        settings = read_remote_settings(control_reader(home))
    except (Missing, Unreadable):
        return remote.without_dialogue(remote.NO_CONTROLS)
    except OSError:
        return remote.without_dialogue(remote.NO_HOME)
    try:
        own = own_addresses()
    except OSError:
        return remote.without_dialogue(remote.NO_RESOURCES)
    try:
        message = remote.Message(0)
    except OSError:
        return remote.without_dialogue(remote.NO_MESSAGE)
    timeouts = TimeoutTable(home, now_s=Clock().now_s, jitter=os.getpid())
    around = remote.Surroundings(settings, own=own, timeouts=timeouts, draw=remote.chance)
    job = remote.Job(host, sender, recipients, message)
    return deliver(job, around, DnsResolver(configured_servers(os.environb)), search)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
