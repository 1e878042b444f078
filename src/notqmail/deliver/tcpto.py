"""HOME/queue/lock/tcpto: which addresses let connections time out lately, so that nobody waits for them again.

The file is C qmail's, bit for bit (qmail-tcpto(8) and qmail-tcpok(8) read and clear it): 64 records of 16 bytes, IPv4
address, count of timeouts (0: free), three unused bytes, time of the last one in little endian, four unused. No
file, no memory: the feature is off. An IPv6 address does not fit a record and is never remembered.
"""

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_BYTES = 16
TABLE_BYTES = 64 * RECORD_BYTES
COUNT_MAX = 10
_COUNT_BELIEVED_MAX = 127  # C takes the byte for a signed one
BARRED_FROM_COUNT = 2
REPEAT_WITHIN_S = 120  # a second timeout so soon after the first tells nothing new
_LESS_HARM_PER_COUNT_S = 1024  # which record gives way to a new one: the oldest, each count making it that much younger


def pack_address(address: bytes) -> bytes | None:
    """A textual IPv4 address as its four bytes; None for IPv6."""
    parts = address.split(b".")
    return bytes(int(part) for part in parts) if len(parts) == 4 and b":" not in address else None


def find(table: bytes, packed: bytes) -> int | None:
    """The number of the address's record, or None."""
    for number in range(len(table) // RECORD_BYTES):
        if table[number * RECORD_BYTES : number * RECORD_BYTES + 4] == packed:
            return number
    return None


def is_barred(table: bytes, number: int, *, now_s: int, jitter: int) -> bool:
    """Whether that record says to leave the address alone for now: an hour and more, spread by `jitter` (0..31)."""
    count, last_s = _read(table, number)
    return count >= BARRED_FROM_COUNT and now_s - last_s < (60 + (jitter & 31)) * 64


def after_timeout(table: bytes, packed: bytes, now_s: int) -> tuple[int, bytes] | None:
    """(number, new record) to write when an address timed out; None when the table may stay as it is."""
    number = find(table, packed)
    if number is not None:
        count, last_s = _read(table, number)
        if count and now_s < last_s + REPEAT_WITHIN_S:
            return None
        return number, _record(table, number, packed, min(count + 1, COUNT_MAX), now_s)
    number = _record_to_give_up(table)
    return None if number is None else (number, _record(table, number, packed, 1, now_s))


def after_answer(table: bytes, packed: bytes) -> tuple[int, bytes] | None:
    """(number, new record) to write when an address answered after all; None when it is not in the table."""
    number = find(table, packed)
    if number is None:
        return None
    start = number * RECORD_BYTES
    return number, table[start : start + 4] + b"\0" + table[start + 5 : start + RECORD_BYTES]


def timeouts(table: bytes) -> list[tuple[bytes, int, int]]:
    """(textual address, count, time of the last one) of each address that timed out lately, in the table's order."""
    found = []
    for number in range(len(table) // RECORD_BYTES):
        count, last_s = _read(table, number)
        if 1 <= count <= _COUNT_BELIEVED_MAX:
            packed = table[number * RECORD_BYTES : number * RECORD_BYTES + 4]
            found.append((b".".join([b"%d" % byte for byte in packed]), count, last_s))
    return found


def _read(table: bytes, number: int) -> tuple[int, int]:
    start = number * RECORD_BYTES
    return table[start + 4], int.from_bytes(table[start + 8 : start + 12], "little")


def _record(table: bytes, number: int, packed: bytes, count: int, now_s: int) -> bytes:
    old = table[number * RECORD_BYTES : (number + 1) * RECORD_BYTES]
    return packed + bytes([count]) + old[5:8] + (now_s & 0xFFFFFFFF).to_bytes(4, "little") + old[12:]


def _record_to_give_up(table: bytes) -> int | None:
    entries = [_read(table, number) for number in range(len(table) // RECORD_BYTES)]
    for number, (count, _) in enumerate(entries):
        if count == 0:
            return number
    ages = [last_s + count * _LESS_HARM_PER_COUNT_S for count, last_s in entries]
    return ages.index(min(ages)) if ages else None


class TimeoutTable:
    """The file itself. Trouble with it is no reason not to deliver: then nothing is barred and nothing remembered."""

    __slots__ = ("_jitter", "_now_s", "_path")

    def __init__(self, home: bytes, *, now_s: "Callable[[], int]", jitter: int) -> None:
        """`jitter`: qmail-remote uses its pid, so that not all come back in the same second."""
        self._path = home + b"/queue/lock/tcpto"
        self._now_s, self._jitter = now_s, jitter

    def lookup(self, address: bytes) -> tuple[bool, bool]:
        """(whether to leave the address alone for now, whether the table knows it at all)."""
        packed = pack_address(address)
        descriptor = self._open_locked() if packed is not None else None
        if packed is None or descriptor is None:
            return False, False
        try:
            table = os.pread(descriptor, TABLE_BYTES, 0)
        except OSError:
            return False, False  # unreadable is empty
        finally:
            os.close(descriptor)
        number = find(table, packed)
        if number is None:
            return False, False
        return is_barred(table, number, now_s=self._now_s(), jitter=self._jitter), True

    def note_timeout(self, address: bytes) -> None:
        """A connection to the address timed out."""
        packed = pack_address(address)
        if packed is not None:
            self._update(lambda table: after_timeout(table, packed, self._now_s()))

    def note_answer(self, address: bytes) -> None:
        """The address accepted or refused a connection. Worth calling only where `lookup` knew it."""
        packed = pack_address(address)
        if packed is not None:
            self._update(lambda table: after_answer(table, packed))

    def clear(self) -> None:
        """Forgets everything, in place (what a start of qmail-rspawn and qmail-tcpok do). Raises OSError."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, bytes(TABLE_BYTES), 0)
        finally:
            os.close(descriptor)

    def _open_locked(self) -> int | None:
        """A descriptor that holds the lock; C locks a writing one for reading too, so this is O_RDWR."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _update(self, change: "Callable[[bytes], tuple[int, bytes] | None]") -> None:
        descriptor = self._open_locked()
        if descriptor is None:
            return
        try:
            changed = change(os.pread(descriptor, TABLE_BYTES, 0))
            if changed is not None:
                number, record = changed
                os.pwrite(descriptor, record, number * RECORD_BYTES)
        except OSError:
            pass  # a pity: somebody waits for this address once more
        finally:
            os.close(descriptor)
