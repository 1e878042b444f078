"""tcp-env(1): becomes a program, told about the TCP connection on descriptor 0, for servers under inetd."""

import os
import sys

from notqmail.receive.tcp_env import Wishes, ask_ident, ends_of, tcp_environment
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY, run
from notqmail.unix.named_programs import become_program
from notqmail.unix.resolver import DnsResolver, configured_servers

USAGE = "usage: tcp-env [ -rR ] [ -t seconds ] program [ arg ... ]\n"


def main() -> int:
    """Does not return, or exits 111 without a word: descriptor 2 may be the client."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        wishes = Wishes(words)
        environ = dict(os.environb)
        if environ.get(b"PROTO") != b"TCP":  # else tcpserver or another tcp-env has told it already
            local, remote = ends_of(0)
            resolver = DnsResolver(configured_servers(environ))
            environ = tcp_environment(
                environ, wishes, local=local, remote=remote, resolver=resolver, ask_ident=ask_ident
            )
        become_program(wishes.program, environ)
    except Leaving as leaving:
        return leaving.told()
    except OSError:
        pass  # no connection, or no such program
    return TEMPORARY


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
