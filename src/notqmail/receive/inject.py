"""qmail-inject: a message from a user, its header completed, goes to the queue (qmail-inject(8), qmail-header(5)).

The header is held in memory up to header_fields.HEADER_MAX, the body is streamed. Everything that can be refused
is refused before the queue is opened, so a refused message leaves no trace.
"""

import os

from notqmail.control.files import entries, line_or_me, name_set
from notqmail.message.address import quote_address
from notqmail.message.complete_address import AddressCompletion
from notqmail.message.header_fields import HEADER_MAX, HeaderSplitter, HeaderTooLong
from notqmail.message.submission_header import Identity, Stamp, SubmissionHeader
from notqmail.message.tokens822 import Unparsable, UnparsableLine, plain_address, tokenize
from notqmail.queue.client import open_submission
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.mains import PERMANENT, TEMPORARY
from notqmail.unix.options import BadOption, Options
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from notqmail.unix.clock import Clock
    from notqmail.unix.controls import ReadControl

READ_SIZE = 65_536
USAGE = (
    "usage: qmail-inject [-nNaAhH] [-f sender] [recipient ...]\n"
    "Reads a message on its standard input, completes the header and queues it. See qmail-inject(8).\n"
)


class Refused(Exception):
    """The message is not queued. `text` is for descriptor 2 (without `qmail-inject: `), `code` the exit code."""

    def __init__(self, text: bytes, code: int) -> None:
        super().__init__(text)
        self.text, self.code = text, code


class Wishes:
    """What the arguments ask for."""

    def __init__(self, words: "Sequence[bytes]", completion: AddressCompletion) -> None:
        """Raises Refused."""
        self.queue = True
        self.sender: bytes | None = None
        strategy = b"A"
        options = Options(words, flags=b"aAhHnN", valued=b"f")
        try:
            for letter, value in options:
                if letter in b"nN":
                    self.queue = letter == b"N"
                elif letter == b"f":
                    self.sender = _given_sender(value, completion)
                else:
                    strategy = letter
        except BadOption as bad:
            raise Refused(str(bad).encode("latin-1"), PERMANENT) from None
        if strategy == b"A":
            strategy = b"a" if options.rest else b"h"
        arguments = [] if strategy == b"h" else options.rest
        self.recipients = [_given_recipient(word, completion) for word in arguments]
        self.use_header = strategy != b"a"


class Message:
    """The message as it comes in: the header first and whole, then the body in pieces. Both raise Refused."""

    def __init__(self, read_more: "Callable[[], bytes]") -> None:
        self._read_more = read_more
        self._splitter = HeaderSplitter()

    def header(self) -> list[bytes]:
        """All header fields."""
        splitter = self._splitter
        try:
            while not splitter.in_body:
                data = self._read()
                if not data:
                    splitter.finish()
                    break
                splitter.receive(data)
        except HeaderTooLong:
            raise Refused(b"fatal: the header is longer than %d bytes" % HEADER_MAX, PERMANENT) from None
        return splitter.fields

    def body(self) -> "Iterator[bytes]":
        """What follows the header, the blank line first; a last line without a line feed gets one."""
        piece = self._splitter.body
        while piece:
            yield piece
            piece = self._read() or (b"" if piece.endswith(b"\n") else b"\n")

    def _read(self) -> bytes:
        try:
            return self._read_more()
        except OSError:
            raise Refused(b"fatal: read error", TEMPORARY) from None


def inject(
    words: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock",
    read_more: "Callable[[], bytes] | None" = None,
) -> None:  # fmt: skip
    """Reads the message on descriptor 0 and queues it, or with -n prints it on descriptor 1. Raises Refused.

    `read_more` gives the message in another way: b"" at its end, OSError when it cannot be read.
    """
    now_s = clock.now_s()
    message = Message(read_more or _standard_input)
    try:
        lists = _mailing_lists(environ)
        _enter(home)
        read = control_reader(home)
        completion = AddressCompletion(
            default_host=_setting("defaulthost", read, environ),
            default_domain=_setting("defaultdomain", read, environ),
            plus_domain=_setting("plusdomain", read, environ),
        )
        wishes = Wishes(words, completion)
        header = SubmissionHeader(
            identity=Identity(environ),
            completion=completion,
            stamp=Stamp(now_s=now_s, pid=os.getpid(), id_host=_setting("idhost", read, environ)),
            letters=environ.get(b"QMAILINJECT", b""),
            sender=wishes.sender,
            use_recipients=wishes.use_header,
            lists=lists,
        )
        for field in message.header():
            header.add(field)
        head = header.finish()
        if wishes.queue:
            recipients = wishes.recipients + header.recipients
            _submit(head, message, header.sender, recipients, home=home, environ=environ)
        else:
            _print(head, message, header.sender)
    except UnparsableLine as bad:
        line = bad.line if bad.line.endswith(b"\n") else bad.line + b"\n"
        raise Refused(b"fatal: unable to parse this line:\n" + line, PERMANENT) from None
    except Unreadable:
        raise Refused(b"fatal: read error", TEMPORARY) from None


def _setting(name: str, read: "ReadControl", environ: "Mapping[bytes, bytes]") -> bytes:
    """$QMAILNAME, else the control file, else me, else the name itself, which is seldom what anybody wants."""
    given = environ.get(b"QMAIL" + name.upper().encode())
    return line_or_me(read, name, name.encode()) if given is None else given


def _mailing_lists(environ: "Mapping[bytes, bytes]") -> frozenset[bytes]:
    """The lines of $QMAILMFTFILE, relative to where the user stands. Raises Refused."""
    path = environ.get(b"QMAILMFTFILE")
    if not path:
        return frozenset()
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.readall()
    except FileNotFoundError:
        return frozenset()
    except OSError:
        raise Refused(b"fatal: read error", TEMPORARY) from None
    return name_set(entries(lambda _name: text, "") or ())


def _enter(home: bytes) -> None:
    try:
        os.chdir(home)  # $QMAILQUEUE may be relative to it
    except OSError:
        raise Refused(b"fatal: internal bug", TEMPORARY) from None  # qmail-inject's own words for a missing home


def _given_sender(sender: bytes, completion: AddressCompletion) -> bytes:
    """The -f sender, completed. Raises UnparsableLine."""
    quoted = quote_address(sender)
    try:
        return plain_address(completion.complete(tokenize(quoted)))
    except Unparsable:
        raise UnparsableLine(quoted) from None


def _given_recipient(recipient: bytes, completion: AddressCompletion) -> bytes:
    """A recipient argument, completed. Raises Refused."""
    try:
        return plain_address(completion.complete(tokenize(quote_address(recipient))))
    except Unparsable:
        raise Refused(b"fatal: unable to parse address: " + recipient, PERMANENT) from None


def _standard_input() -> bytes:
    return os.read(0, READ_SIZE)


def _submit(
    head: bytes, message: Message, sender: bytes, recipients: list[bytes],
    *, home: bytes, environ: "Mapping[bytes, bytes]",
) -> None:  # fmt: skip
    try:
        submission = open_submission(home, environ)
    except OSError:
        raise Refused(b"fatal: unable to run qmail-queue", TEMPORARY) from None
    try:
        submission.write(head)
        for piece in message.body():
            submission.write(piece)
    except Refused:
        submission.abandon()
        raise
    report = submission.close(sender, recipients)
    if not report.succeeded:
        raise Refused(b"fatal: " + report.text, PERMANENT if report.kind == b"D" else TEMPORARY)


def _print(head: bytes, message: Message, sender: bytes) -> None:
    write_all(1, b"Return-Path: <" + quote_address(sender) + b">\n" + head)
    for piece in message.body():
        write_all(1, piece)
