"""qmail-pop3d: one reader's Maildir over POP3 (RFC 1939, CAPA of RFC 2449), after somebody else checked the password.

What the reader does lives in `Session`; nothing is removed or moved before QUIT. Messages go out in pieces.
"""

from notqmail.fetch import maildir
from notqmail.unix.peer import Gone, Peer, Silent
from notqmail.wire import pop3
from notqmail.wire.command_lines import OVERLONG, CommandLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

TIMEOUT_S = 1_200
SESSION_MAX_S = 86_400
_LISTED_AT_ONCE = 200  # lines of a listing that are put together


class Broken(Exception):
    """A message cannot be read to its end: the session ends without a word, for the reader has a part of it."""


class Refusal(Exception):
    """The answer is -ERR; `text` follows it."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class Session:
    """A listing taken at the start, and marks on it. `ended` becomes true with QUIT."""

    def __init__(self, disk: "Disk", messages: "list[maildir.Stored]") -> None:
        """`disk` has the Maildir for a root; `messages` is what `maildir.messages` gave."""
        self._disk, self._messages = disk, messages
        self._deleted: set[int] = set()  # indices, from 0
        self._last = 0
        self.ended = False
        self._verbs: dict[bytes, Callable[[bytes], Iterable[bytes]]] = {
            b"QUIT": self._quit, b"STAT": self._stat, b"LIST": self._list, b"UIDL": self._uidl, b"DELE": self._dele,
            b"RETR": self._retrieve, b"TOP": self._retrieve, b"RSET": self._reset, b"LAST": self._last_seen,
            b"NOOP": self._noop, b"CAPA": self._capabilities,
        }  # fmt: skip

    def answer(self, command: "tuple[bytes, bytes]") -> "Iterator[bytes]":
        """What to send for (verb, argument), in pieces that are made as they are taken. Raises Broken in the middle."""
        verb, argument = command
        if command is OVERLONG:
            yield pop3.refused(b"line too long")
        elif verb not in self._verbs:
            yield pop3.refused(b"unimplemented")
        else:
            try:
                yield from self._verbs[verb](argument)
            except Refusal as refusal:
                yield pop3.refused(refusal.text)

    def _noop(self, _argument: bytes) -> "Iterable[bytes]":
        return (pop3.ok(),)

    def _capabilities(self, _argument: bytes) -> "Iterable[bytes]":
        return (pop3.capabilities(),)

    def _stat(self, _argument: bytes) -> "Iterable[bytes]":
        """Counts deleted messages too, but not their bytes: qmail-pop3d's way."""
        size = sum(message.size for index, message in enumerate(self._messages) if index not in self._deleted)
        return (pop3.ok(b"%d %d" % (len(self._messages), size)),)

    def _last_seen(self, _argument: bytes) -> "Iterable[bytes]":
        return (pop3.ok(b"%d" % self._last),)

    def _reset(self, _argument: bytes) -> "Iterable[bytes]":
        self._deleted.clear()
        self._last = 0
        return (pop3.ok(),)

    def _dele(self, argument: bytes) -> "Iterable[bytes]":
        index = self._index(pop3.leading_number(argument))
        self._deleted.add(index)
        self._last = max(self._last, index + 1)
        return (pop3.ok(),)

    def _index(self, found: "tuple[int, object] | None") -> int:
        if found is None:
            raise Refusal(b"syntax error")
        if found[0] == 0:
            raise Refusal(b"messages are counted from 1")
        if found[0] > len(self._messages):
            raise Refusal(b"not that many messages")
        if found[0] - 1 in self._deleted:
            raise Refusal(b"already deleted")
        return found[0] - 1

    # -- listings ------------------------------------------------------------------------------------------------

    def _list(self, argument: bytes) -> "Iterable[bytes]":
        return self._listing(argument, lambda message: b"%d" % message.size)

    def _uidl(self, argument: bytes) -> "Iterable[bytes]":
        return self._listing(argument, lambda message: pop3.unique_id(message.path[4:]))

    def _listing(self, argument: bytes, told: "Callable[[maildir.Stored], bytes]") -> "Iterator[bytes]":
        if argument:
            index = self._index(pop3.leading_number(argument))
            yield pop3.ok(b"%d %b" % (index + 1, told(self._messages[index])))
            return
        yield pop3.ok()
        for start in range(0, len(self._messages), _LISTED_AT_ONCE):
            part = enumerate(self._messages[start : start + _LISTED_AT_ONCE], start)
            yield b"".join(b"%d %b\r\n" % (at + 1, told(message)) for at, message in part if at not in self._deleted)
        yield b".\r\n"

    # -- messages ------------------------------------------------------------------------------------------------

    def _retrieve(self, argument: bytes) -> "Iterator[bytes]":
        """RETR and TOP are one: either may have a number of lines, or not."""
        wanted = pop3.message_and_lines(argument)
        index = self._index(wanted)
        chunks = self._disk.read_chunks(self._messages[index].path)
        try:
            chunk = next(chunks, b"")  # before the +OK: then it can be opened and read
        except OSError:
            raise Refusal(b"unable to open that message") from None
        text = pop3.MessageText(wanted[1] if wanted else None)
        yield pop3.ok()
        while chunk and not text.complete:
            yield text.feed(chunk)
            try:
                chunk = next(chunks, b"")
            except OSError as error:
                raise Broken from error
        yield text.finish()

    # -- the end -------------------------------------------------------------------------------------------------

    def _quit(self, _argument: bytes) -> "Iterator[bytes]":
        """Removes what was deleted; what was new and stays becomes seen. Each failed removal is an -ERR of its own."""
        self.ended = True
        for index, message in enumerate(self._messages):
            if index in self._deleted:
                try:
                    self._disk.unlink(message.path)
                except OSError:
                    yield pop3.refused(b"unable to unlink all deleted messages")
            elif message.path.startswith(b"new/"):
                self._move_to_cur(message.path)
        yield pop3.ok()

    def _move_to_cur(self, path: bytes) -> None:
        try:
            self._disk.rename(path, b"cur/" + path[4:] + b":2,")
        except OSError:
            pass  # then it is new once more


def serve(disk: "Disk", clock: "Clock", peer: Peer) -> None:
    """A session from the first +OK to QUIT, the peer's end, or its time-out; without QUIT nothing is removed."""
    end_s = clock.steady_s() + SESSION_MAX_S
    try:
        maildir.sweep(disk, clock.now_s())
        try:
            session = Session(disk, maildir.messages(disk, clock.now_s()))
        except maildir.CannotList:
            peer.write(pop3.refused(b"unable to scan $HOME/Maildir"))
            return
        peer.write(pop3.ok())
        reader = CommandLines()
        while not session.ended and clock.steady_s() < end_s:
            command = reader.next_command()
            if command is None:
                reader.receive(peer.read())
                continue
            for piece in session.answer(command):
                peer.write(piece)
    except (Gone, Silent, Broken):
        pass  # nobody to tell, and nothing was done that would have to be undone


def refuse(peer: Peer) -> None:
    """Says that there is no Maildir."""
    try:
        peer.write(pop3.refused(b"this user has no $HOME/Maildir"))
    except (Gone, Silent):
        pass  # nobody to tell
