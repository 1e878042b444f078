"""What qmail-lspawn says to a worker and what the worker answers: packets on a Unix socket (SOCK_SEQPACKET).

To the worker: `count`, that many slots (two bytes each), then the eight fields of each job, each ended by NUL; the
message files come along as descriptors, in the same order. Back: for each finished job slot, exit status (-1: killed
by a signal), length, output. A program of the worker's user might get hold of the worker, so qmail-lspawn believes a
packet no more than it would a delivery: only slots this worker was given, only so many bytes.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JOBS_PER_PACKET = 32  # descriptors in one packet; Linux allows 253
JOB_FIELD_BYTES = 16_384  # all fields of a job; qmail-queue's addresses end at 1,003 bytes
PACKET_FIELD_BYTES = 32_768  # a packet takes no further job when its fields would pass this
PACKET_MAX = 65_536
OUTPUT_MAX = 3_000  # of one job, with the note that it was cut (qmail-lspawn's limit)
CRASHED = -1
_TOO_LONG = b"\nError report too long, sorry.\n"
_RESULT = struct.Struct(">HhH")
_FIELDS = 8


class Job:
    """One delivery for a worker. `program` is what to run in place of qmail-local, or empty."""

    __slots__ = ("dash", "domain", "ext", "home", "local", "program", "sender", "slot", "user")

    def __init__(
        self, slot: int, user: bytes, home: bytes, local: bytes, dash: bytes, ext: bytes, domain: bytes,
        sender: bytes, program: bytes = b"",
    ) -> None:  # fmt: skip
        self.slot, self.user, self.home, self.local, self.dash = slot, user, home, local, dash
        self.ext, self.domain, self.sender, self.program = ext, domain, sender, program

    def fields(self) -> tuple[bytes, ...]:
        """In the order of the packet."""
        return (
            self.user, self.home, self.local, self.dash, self.ext, self.domain, self.sender, self.program,
        )  # fmt: skip

    def size(self) -> int:
        """Bytes of all fields."""
        return sum(map(len, self.fields()))


class BadPacket(Exception):
    """The other end does not speak this protocol (or somebody else speaks in its name)."""


def encode_jobs(jobs: "Sequence[Job]") -> bytes:
    """The packet for at most JOBS_PER_PACKET jobs."""
    fields = [field for job in jobs for field in job.fields()]
    slots = struct.pack(f">B{len(jobs)}H", len(jobs), *[job.slot for job in jobs])
    return slots + b"\0".join(fields) + b"\0"


def decode_jobs(packet: bytes) -> list[Job]:
    """The inverse. Raises BadPacket."""
    count = packet[0] if packet else 0
    fields = packet[1 + 2 * count :].split(b"\0")
    if not count or len(fields) != count * _FIELDS + 1 or fields[-1]:  # nothing stands behind the last NUL
        raise BadPacket("jobs")
    slots = struct.unpack_from(f">{count}H", packet, 1)
    return [Job(slots[n], *fields[n * _FIELDS : (n + 1) * _FIELDS]) for n in range(count)]


def encode_result(slot: int, status: int, output: bytes) -> bytes:
    """One finished job; several may stand in one packet."""
    return _RESULT.pack(slot, status, len(output)) + output


def decode_results(packet: bytes) -> "Iterator[tuple[int, int, bytes]]":
    """(slot, status, output) of each. Raises BadPacket."""
    at = 0
    while at < len(packet):
        if len(packet) - at < _RESULT.size:
            raise BadPacket("result cut short")
        slot, status, length = _RESULT.unpack_from(packet, at)
        at += _RESULT.size
        if length > OUTPUT_MAX or len(packet) - at < length:
            raise BadPacket("output too long")
        yield slot, status, packet[at : at + length]
        at += length


def bounded_output(output: bytes) -> bytes:
    """At most OUTPUT_MAX bytes; longer output keeps its beginning and gets a note."""
    if len(output) <= OUTPUT_MAX:
        return output
    return output[: OUTPUT_MAX - len(_TOO_LONG) - 3] + _TOO_LONG
