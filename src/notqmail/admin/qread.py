"""What qmail-qread says: the preprocessed messages and who of their recipients waits (qmail-qread(8)).

Log analysers and mail front ends read this text, so it is C's to the byte, with two exceptions where C goes on with
what it has by chance in memory: a file that cannot be read is one `warning:` line, and a sender that was never ended
by NUL is shown as far as it goes. Changes nothing; safe beside a running qmail-send, whose messages come and go.
"""

from notqmail.message.dates import header_date
from notqmail.queue.layout import SPLIT, split_path
from notqmail.queue.store import CHANNELS
from notqmail.unix.errors import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.unix.durable import Disk

_VISIBLE = bytes(byte if 32 <= byte <= 126 else 0x5F for byte in range(256))
_ZONE = len(b" -0000")
_BUFFER = 1_024  # bytes that C reads at a time, which shows when info/N has more than one record
_WORD = 1 << 64


class Fatal(Exception):
    """The listing ends here; `text` is its last line."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def listing(disk: "Disk") -> "Iterator[bytes]":
    """The whole output, in lines; `disk` is the queue. Raises Fatal when a directory cannot be opened."""
    for part in range(SPLIT):
        directory = b"info/%d" % part
        try:
            names = disk.names(directory)
        except OSError as error:
            raise Fatal(b"fatal: unable to opendir %b: %b\n" % (directory, error_text(error))) from None
        for name in names:
            if name.isdigit():
                yield from _message(disk, int(name) % _WORD)


def _message(disk: "Disk", number: int) -> "Iterator[bytes]":
    try:
        mess = disk.state(split_path(b"mess", number))
        if mess is None:
            raise FileNotFoundError(2, "no message")
        is_bouncing = _is_there(disk, b"bounce/%d" % number)
        info = disk.read(split_path(b"info", number))
        state = disk.state(split_path(b"info", number))
        if state is None:
            raise FileNotFoundError(2, "it has just ended")
    except OSError as error:
        yield _trouble(number, error)
        return
    sender, ended, _ = info.partition(b"\0")
    stats = b"%b GMT  #%d  %d  <%b> " % (header_date(state.modified_s)[:-_ZONE], number, mess.size, sender[1:])
    yield (stats + b" bouncing" * is_bouncing).translate(_VISIBLE) + b"\n"
    behind = len(sender) + len(ended)
    rest = info[behind : -(-behind // _BUFFER) * _BUFFER]
    for channel in CHANNELS:
        try:
            records = rest + disk.read(split_path(channel, number))
        except FileNotFoundError:
            continue  # nobody waits there (any more)
        except OSError as error:
            yield _trouble(number, error)
            continue
        rest = b""
        for record in records.split(b"\0")[:-1]:
            letter = record[:1]
            if letter in (b"T", b"D") and letter:
                done = b"  done" if letter == b"D" else b""
                yield b"%b\t%b\t%b\n" % (done, channel, record[1:].translate(_VISIBLE))


def _is_there(disk: "Disk", path: bytes) -> bool:
    try:
        return disk.state(path) is not None
    except OSError:
        return False


def _trouble(number: int, error: OSError) -> bytes:
    return b"warning: trouble with #%d: %b\n" % (number, error_text(error))
