"""The one-shot qmail-queue's reader of envelopes: every malformed one, every cut."""

import os
import socket
import threading

import pytest

from notqmail.receive.enqueue import ADDRESS_MAX, Refused
from notqmail.receive.queue_once import read_envelope, read_message


def outcome(*pieces: bytes) -> list[bytes] | int:
    """Addresses or an exit code, for an envelope that arrives in these pieces: a packet is one read."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for piece in filter(None, pieces):
            theirs.send(piece)
        theirs.close()
        try:
            return list(read_envelope(ours.fileno()))
        except Refused as refused:
            return refused.exit_code


A = b"a" * ADDRESS_MAX
TABLE = [
    (b"Fs@x\0Tr@y\0\0", [b"s@x", b"r@y"]),
    (b"F\0T\0\0", [b"", b""]),  # empty addresses are addresses
    (b"Fs\0\0", [b"s"]),  # nobody to send it to: legal
    (b"Fs\0Ta\0Tb\0Ta\0\0", [b"s", b"a", b"b", b"a"]),
    (b"Fs\0Ta\0\0Tmore\0junk", [b"s", b"a"]),  # what follows the end is not looked at
    (b"FTF\0TTT\0\0", [b"TF", b"TT"]),  # letters in addresses
    (b"F" + A + b"\0T" + A + b"\0\0", [A, A]),
    (b"", 54), (b"F", 54), (b"Fs", 54), (b"Fs\0", 54), (b"Fs\0T", 54), (b"Fs\0Tr", 54), (b"Fs\0Tr\0", 54),  # cut off
    (b"\0", 91), (b"Ts\0\0", 91), (b"fs\0Tr\0\0", 91), (b"X", 91),  # no sender first
    (b"Fs\0Fr\0\0", 91), (b"Fs\0Tr\0Xq\0\0", 91), (b"Fs\0Tr\0tq", 91), (b"Fs\0 \0", 91),  # no recipient after it
]  # fmt: skip


@pytest.mark.parametrize(("envelope", "expected"), TABLE)
def test_every_envelope_has_its_outcome_whatever_the_pipe_does(envelope: bytes, expected: object) -> None:
    for place in range(len(envelope) + 1) if len(envelope) < 100 else (1, 500, ADDRESS_MAX, ADDRESS_MAX + 3):
        assert outcome(envelope[:place], envelope[place:]) == expected, place
    if len(envelope) < 100:
        assert outcome(*[bytes([byte]) for byte in envelope]) == expected


def test_an_address_without_end_is_refused_when_it_is_too_long() -> None:
    assert outcome(*[b"F" + b"a" * 100] * 20) == 11
    assert outcome(b"Fs\0T" + b"a" * 500, b"a" * 600) == 11


def test_a_descriptor_that_cannot_be_read_is_a_read_error() -> None:
    for reader in (read_envelope, read_message):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        try:
            with pytest.raises(Refused) as refused:
                list(reader(descriptor))
            assert refused.value.exit_code == 54
        finally:
            os.close(descriptor)


def test_a_message_is_read_to_its_end() -> None:
    read_end, write_end = os.pipe()
    message = os.urandom(300_000)

    def write() -> None:
        with open(write_end, "wb") as file:
            file.write(message)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert b"".join(read_message(read_end)) == message
    finally:
        os.close(read_end)
        writer.join()
