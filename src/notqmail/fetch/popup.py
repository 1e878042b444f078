"""qmail-popup: the beginning of a POP3 session, until a name and a password are there for another program to judge.

What the client says is read byte by byte: all that follows the line with the password belongs to the program that
comes next, so a client may send it early. The password is overwritten as soon as that program has it.
"""

import os

from notqmail.fetch.secret import overwrite
from notqmail.unix.peer import Gone, Peer, Silent
from notqmail.unix.processes import spawn, wait, write_all
from notqmail.wire import pop3
from notqmail.wire.command_lines import LINE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.unix.clock import Clock

TIMEOUT_S = 1_200
LOGIN_MAX_S = 1_200
COMMANDS_MAX = 100
RECORD_MAX = 4_096  # bytes for the subprogram: the least that a pipe takes whether anybody reads or not (PIPE_BUF)
EXIT_CODE = 1  # always: tcpserver has no use for it


class Login:
    """`user`, then `secret`: the password, or for APOP the digest. `wipe` when they are no longer needed."""

    __slots__ = ("secret", "user")

    def __init__(self, user: bytes, secret: bytearray) -> None:
        self.user, self.secret = user, secret

    def record(self, stamp: bytes) -> bytearray:
        """What goes to descriptor 3: user, secret and timestamp, each ended by NUL."""
        return bytearray(b"\0").join((self.user, self.secret, stamp, b""))

    def wipe(self) -> None:
        """Overwrites the secret."""
        overwrite(self.secret)


class Dialogue:
    """Lines in, answers out. After each: `login` once it is complete, or `ended`."""

    def __init__(self) -> None:
        self.login: Login | None = None
        self.ended = False
        self._user: bytes | None = None
        self._count = 0
        self._verbs: dict[bytes, Callable[[bytearray], bytes]] = {
            b"USER": self._name, b"PASS": self._password, b"APOP": self._digest, b"QUIT": self._quit,
            b"NOOP": lambda _argument: pop3.ok(), b"CAPA": lambda _argument: pop3.capabilities(),
        }  # fmt: skip

    def answer(self, line: "bytearray | None") -> bytes:
        """The answer to a line without its LF (None: it was too long); b"" when there is a login to be judged."""
        self._count += 1
        if self._count > COMMANDS_MAX:
            self.ended = True
            return pop3.refused(b"too many commands")
        if line is None:
            return pop3.refused(b"line too long")
        verb, argument = pop3.split_line(line)
        answer = self._verbs[verb](argument) if verb in self._verbs else pop3.refused(b"authorization first")
        if self.login is None or self.login.secret is not argument:
            overwrite(argument)  # it may be a password: PASS before USER, a mistyped verb
        return answer

    def _quit(self, _argument: bytearray) -> bytes:
        self.ended = True
        return pop3.ok()

    def _name(self, argument: bytearray) -> bytes:
        if not argument:
            return pop3.refused(b"syntax error")
        self._user = bytes(argument)
        return pop3.ok()

    def _password(self, argument: bytearray) -> bytes:
        if self._user is None:
            return pop3.refused(b"USER first")
        if not argument:
            return pop3.refused(b"syntax error")
        self.login = Login(self._user, argument)
        return b""

    def _digest(self, argument: bytearray) -> bytes:
        user, space, digest = argument.partition(b" ")
        if not space:
            return pop3.refused(b"syntax error")
        self.login = Login(bytes(user), digest)
        return b""


def stamp_of(pid: int, now_s: int, host: bytes) -> bytes:
    """The timestamp of the greeting (RFC 1939 7), which no other session has had."""
    return b"<%d.%d@%b>" % (pid, now_s, host)


def run(
    host: bytes, command: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", clock: "Clock", pid: int, peer: Peer
) -> None:
    """A session: greeting, login, and `command` on the same descriptors until it ends."""
    stamp = stamp_of(pid, clock.now_s(), host)
    try:
        peer.write(pop3.ok(stamp))
        login = _converse(Dialogue(), clock, peer)
        if login is not None:
            complaint = judged(login, stamp, command, environ)
            if complaint:
                peer.write(pop3.refused(complaint))
    except (Gone, Silent):
        pass  # nobody to tell


def _converse(dialogue: Dialogue, clock: "Clock", peer: Peer) -> Login | None:
    """The login, or None when the client has left or used up its time. Raises Gone, Silent."""
    end_s = clock.steady_s() + LOGIN_MAX_S
    while True:
        line = _read_line(peer, clock, end_s)
        answer = dialogue.answer(line)
        if line is not None:
            overwrite(line)  # it may hold a password
        if dialogue.login is not None:
            return dialogue.login
        peer.write(answer)
        if dialogue.ended:
            return None


def _read_line(peer: Peer, clock: "Clock", end_s: float) -> bytearray | None:
    """A line without its LF; None for one that is longer than LINE_MAX, which is not kept. Raises Gone, Silent."""
    line, overlong = bytearray(), False
    while (byte := peer.read(1)) != b"\n":
        if clock.steady_s() > end_s:
            raise Silent
        if len(line) > LINE_MAX:
            overlong = True
            overwrite(line)
            line.clear()
        elif not overlong:
            line += byte
    return None if overlong or len(line) - line.endswith(b"\r") > LINE_MAX else line


def judged(login: Login, stamp: bytes, command: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> bytes:
    """Runs `command` with the login on descriptor 3 to its end; b"", or what went wrong. The login is wiped."""
    record = login.record(stamp)
    login.wipe()
    try:
        if len(record) > RECORD_MAX:
            return b"unable to write pipe"
        reader = _pipe_with(record)
    except OSError:
        return b"unable to open pipe"
    finally:
        overwrite(record)
    try:
        child = spawn(command, descriptors={3: reader}, environ=environ, search_path=True, default_sigpipe=True)
    except OSError:
        return b"unable to fork"
    finally:
        os.close(reader)
    ended = wait(child)
    if ended.crashed:
        return b"aack, child crashed"
    return b"authorization failed" if ended.code else b""


def _pipe_with(record: bytearray) -> int:
    """The reading end of a pipe that holds the record and then ends: written before anybody reads, who might leave."""
    reader, writer = os.pipe()
    try:
        write_all(writer, memoryview(record))
    finally:
        os.close(writer)
    return reader
