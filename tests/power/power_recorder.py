"""A disk that remembers everything: a FUSE file system of one file, served by a process of our own.

A loop device stands on that file and a real file system of the kernel on that. Each write that reaches the device, each
flush, and the marks that the workload puts in between are kept in their order. The protocol is that of <linux/fuse.h>;
without FUSE_WRITEBACK_CACHE the kernel hands each write over at once, and a flush of the loop device comes as FSYNC.

A flush covers the writes that had been answered when it came, and no other: so says the contract of a disk's cache.
With `late_s` writes are answered late and in any order, as a device with a queue may do it; who counts on a write that
he has not waited for is found by that.
"""

import errno
import os
import pickle
import random
import select
import socket
import struct
import time
import traceback
from pathlib import Path

import power_mounts

WRITE, DONE, FLUSH, MARK = "write", "done", "flush", "mark"
# (WRITE, offset, data), (DONE, index of its write in the record, b""), (FLUSH, 0, b""), (MARK, 0, text)
Event = tuple[str, int, bytes]

_DEADLINE_S = 20.0
_DATA_BYTES = 1 << 20
_COPY_BYTES = 1 << 16
_READ_BYTES = _DATA_BYTES + 8_192
_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_FUSE_VERSION = 7, 31
_ASYNC_READ, _BIG_WRITES, _ASYNC_DIO, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22
(_GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC, _FLUSH, _INIT, _DESTROY) = (
    3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 38,
)  # fmt: skip
_FORGET, _BATCH_FORGET, _INTERRUPT = 2, 42, 36
_UNANSWERED = (_FORGET, _BATCH_FORGET, _INTERRUPT)
_FILE_MODE = 0o100600


class Recorder:
    """The parent's hand on the recording process."""

    def __init__(self, image: int, place: Path, *, late_s: float = 0.0, seed: int = 0) -> None:
        """`image`: a descriptor of the disk's content; `place`: an existing file, which the recorded one then covers.

        Raises OSError when FUSE cannot be mounted here.
        """
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._place = place
        try:
            options = f"fd={fuse},rootmode={_FILE_MODE:o},user_id=0,group_id=0,allow_other"
            power_mounts.mount("recorded-disk", place, "fuse", options)
            self._ours, theirs = socket.socketpair()
            self._ours.settimeout(_DEADLINE_S)
            self._pid = os.fork()
            if self._pid == 0:
                self._ours.close()
                _be_recorder(fuse, theirs, image, late_s, seed)
            theirs.close()
        finally:
            os.close(fuse)  # the recorder has it: when that dies, the kernel gives up this file system

    def mark(self, text: bytes) -> None:
        """Puts a note into the record, behind everything that was written until now."""
        self._ask(b"M" + text)

    def stop(self, into: Path) -> list[Event]:
        """Ends the record; everything on the disk must have been unmounted, or be lost. Returns what was recorded."""
        try:
            self._ask(b"E" + bytes(into))
            with into.open("rb") as file:
                events: list[Event] = pickle.load(file)
            return events
        finally:
            self._end()

    def _ask(self, text: bytes) -> None:
        self._ours.sendall(struct.pack("=I", len(text)) + text)
        if self._ours.recv(1) != b"k":
            raise RuntimeError("the recorder has died")

    def _end(self) -> None:
        power_mounts.detach(self._place)
        self._ours.close()
        try:
            os.kill(self._pid, 9)
        except ProcessLookupError:
            pass  # it has ended by itself
        os.waitpid(self._pid, 0)


def _be_recorder(fuse: int, control: socket.socket, image: int, late_s: float, seed: int) -> None:
    code = 1
    try:
        power_mounts.die_with_parent()
        _Disk(fuse, control, image, late_s, random.Random(seed)).serve()
        code = 0
    except Exception:  # noqa: BLE001 - the outermost frame of a process: said, and the kernel's requests fail
        traceback.print_exc()
    finally:
        os._exit(code)


class _Disk:
    """In the recording process: answers the kernel, one request after the other."""

    def __init__(self, fuse: int, control: socket.socket, image: int, late_s: float, chance: random.Random) -> None:
        self._fuse, self._control, self._image = fuse, control, image
        self._late_s, self._chance = late_s, chance
        self._size = os.fstat(image).st_size
        self._events: list[Event] = []
        self._late: list[tuple[float, int, bytes]] = []  # when to answer which write with what
        self._buffer = bytearray(_READ_BYTES)
        self._stopping = False

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._fuse, select.POLLIN)
        poll.register(self._control.fileno(), select.POLLIN)
        while not self._stopping:
            wait_ms = None
            if self._late:
                wait_ms = max(0.0, min(when for when, _, _ in self._late) - time.monotonic()) * 1_000
            ready = [descriptor for descriptor, _ in poll.poll(wait_ms)]
            self._answer_late()
            if self._control.fileno() in ready:
                self._obey()
            if self._fuse in ready:
                self._requests()

    def _obey(self) -> None:
        head = self._control.recv(4, socket.MSG_WAITALL)
        if not head:
            self._stopping = True
            return
        text = self._control.recv(struct.unpack("=I", head)[0], socket.MSG_WAITALL)
        if text[:1] == b"M":
            self._events.append((MARK, 0, text[1:]))
        else:
            with open(text[1:], "wb") as file:
                pickle.dump(self._events, file)
            self._stopping = True
        self._control.sendall(b"k")

    def _requests(self) -> None:
        while True:
            try:
                size = os.readv(self._fuse, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue  # taken back before we saw it
                if error.errno == errno.ENODEV:
                    self._late.clear()  # unmounted; the record is still asked for
                    self._fuse_gone()
                    return
                raise
            self._request(memoryview(self._buffer)[:size])

    def _fuse_gone(self) -> None:
        while not self._stopping:
            self._obey()

    def _request(self, data: memoryview) -> None:
        _, code, unique, *_ = _IN.unpack_from(data)
        body = data[_IN.size :]
        if code == _READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            self._reply(unique, os.pread(self._image, size, offset))
        elif code == _WRITE:
            _, offset, size = struct.unpack_from("=QQI", body)
            self._written(unique, offset, bytes(body[40 : 40 + size]))
        elif code == _FSYNC:
            self._events.append((FLUSH, 0, b""))
            self._reply(unique)
        elif code in (_GETATTR, _SETATTR):
            self._reply(unique, self._attributes())
        elif code == _OPEN:
            self._reply(unique, struct.pack("=QIi", 1, 0, 0))
        elif code in (_RELEASE, _FLUSH, _DESTROY):
            self._reply(unique)
        elif code == _STATFS:
            self._reply(unique, struct.pack("=QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 10, 9, 4096, 255, 4096, 0))
        elif code == _INIT:
            _, _, readahead, flags = struct.unpack_from("=IIII", body)
            flags &= _ASYNC_READ | _BIG_WRITES | _ASYNC_DIO | _MAX_PAGES
            pages = _DATA_BYTES // 4_096
            self._reply(
                unique,
                struct.pack("=IIIIHHIIHH32x", *_FUSE_VERSION, readahead, flags, 64, 48, _DATA_BYTES, 1, pages, 0),
            )
        elif code not in _UNANSWERED:
            self._reply(unique, error=errno.ENOSYS)

    def _written(self, unique: int, offset: int, data: bytes) -> None:
        os.pwrite(self._image, data, offset)
        self._events.append((WRITE, offset, data))
        index = len(self._events) - 1
        answer = struct.pack("=II", len(data), 0)
        if self._late_s:
            self._late.append((time.monotonic() + self._chance.random() * self._late_s, index, _packed(unique, answer)))
        else:
            self._events.append((DONE, index, b""))
            self._reply(unique, answer)

    def _answer_late(self) -> None:
        now = time.monotonic()
        for one in sorted(self._late):
            if one[0] <= now:
                self._late.remove(one)
                self._events.append((DONE, one[1], b""))
                os.write(self._fuse, one[2])

    def _attributes(self) -> bytes:
        attributes = struct.pack(
            "=6Q3I7I", 1, self._size, self._size // 512, 0, 0, 0, 0, 0, 0, _FILE_MODE, 1, 0, 0, 0, 4_096, 0
        )
        return struct.pack("=QII", 3_600, 0, 0) + attributes

    def _reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        try:
            os.write(self._fuse, _packed(unique, data, error))
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV):  # whoever asked has gone
                raise


def _packed(unique: int, data: bytes, error: int = 0) -> bytes:
    return _OUT.pack(_OUT.size + len(data), -error, unique) + data


def new_image(size: int) -> int:
    """An empty disk in memory, as a descriptor."""
    image = os.memfd_create("disk")
    os.ftruncate(image, size)
    return image


def copied(image: int) -> int:
    """Another image with the same content, as a descriptor; what is nothing but NULs becomes a hole."""
    size = os.fstat(image).st_size
    copy = new_image(size)
    for start, end in data_extents(image, size):
        for at in range(start, end, _COPY_BYTES):
            piece = os.pread(image, min(end - at, _COPY_BYTES), at)
            if piece.count(0) != len(piece):
                os.pwrite(copy, piece, at)
    return copy


def data_extents(image: int, size: int) -> list[tuple[int, int]]:
    """Where there is something: (begin, end), in bytes."""
    found, at = [], 0
    while at < size:
        try:
            begin = os.lseek(image, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole is left
            raise
        at = os.lseek(image, begin, os.SEEK_HOLE)
        found.append((begin, at))
    return found
