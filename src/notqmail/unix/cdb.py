"""djb's constant database: read and write.

Format (cr.yp.to/cdb/cdb.txt): a header of 256 pairs (position, slots), the records (key length, data length,
key, data), then 256 hash tables of pairs (hash, position); every number 32 bits little endian. A key's hash
is h = 5381, then for each byte h = (h * 33) ^ byte; table h % 256, first slot (h >> 8) % slots, then on and around.
"""

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PAIR = struct.Struct("<LL")
_HEADER_BYTES = 2048


class Damaged(Exception):
    """The file is not a cdb, or is cut short: treat like a read error."""


def cdb_hash(key: bytes) -> int:
    """The hash of a key, 32 bits."""
    value = 5381
    for byte in key:
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value


class Cdb:
    """An open cdb. It is read once, by `pread`, so a replaced file (rename) leaves this one whole."""

    __slots__ = ("_fd",)

    def __init__(self, path: bytes) -> None:
        """Opens `path`; raises OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> "Cdb":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)

    def _read(self, length: int, position: int) -> bytes:
        if length > os.fstat(self._fd).st_size:  # a damaged length must not become an allocation
            raise Damaged("record longer than the file")
        data = os.pread(self._fd, length, position)
        if len(data) != length:
            raise Damaged("cut short")
        return data

    def get(self, key: bytes) -> bytes | None:
        """The data of the first record with this key, or None. Raises Damaged, OSError."""
        value = cdb_hash(key)
        table, slots = _PAIR.unpack(self._read(8, (value & 255) * 8))
        for step in range(slots):
            slot = ((value >> 8) + step) % slots
            found, position = _PAIR.unpack(self._read(8, table + slot * 8))
            if position == 0:
                return None
            if found == value:
                key_length, data_length = _PAIR.unpack(self._read(8, position))
                if key_length == len(key) and self._read(key_length, position + 8) == key:
                    return self._read(data_length, position + 8 + key_length)
        return None


def build_cdb(records: "Iterable[tuple[bytes, bytes]]") -> bytes:
    """The bytes of a cdb with these records; of records with the same key a reader finds the first."""
    body = bytearray()
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    for key, data in records:
        value = cdb_hash(key)
        tables[value & 255].append((value, _HEADER_BYTES + len(body)))
        body += _PAIR.pack(len(key), len(data)) + key + data
    header = bytearray()
    hashes = bytearray()
    end = _HEADER_BYTES + len(body)
    for table in tables:
        slots = len(table) * 2  # half empty, so a search stays short
        header += _PAIR.pack(end + len(hashes), slots)
        placed: list[tuple[int, int]] = [(0, 0)] * slots
        for value, position in table:
            slot = (value >> 8) % slots
            while placed[slot][1]:
                slot = (slot + 1) % slots
            placed[slot] = (value, position)
        for pair in placed:
            hashes += _PAIR.pack(*pair)
    return bytes(header + body + hashes)
