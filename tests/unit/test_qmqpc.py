"""control/qmqp_servers.py and receive/qmqpc.py: servers as written, envelopes as qmail-qmqpc 1.09 reads them."""

import os

import pytest

from notqmail.control.qmqp_servers import parse_server, qmqp_servers
from notqmail.receive.qmqpc import Failed, read_envelope
from notqmail.wire import queue_exit


@pytest.mark.parametrize(
    ("line", "server"),
    [
        (b"192.0.2.1", ("192.0.2.1", 628)),
        (b"192.00.002.1", ("192.0.2.1", 628)),
        (b"192.0.2.1 the old one", ("192.0.2.1", 628)),
        (b"192.0.2.1x", ("192.0.2.1", 628)),
        (b"192.0.2.1.5", ("192.0.2.1", 628)),
        (b"192.0.2.1:6280", ("192.0.2.1", 6280)),
        (b"192.0.2.1:6280 x", ("192.0.2.1", 6280)),
        (b"192.0.2.1:", ("192.0.2.1", 628)),
        (b"192.0.2.1:x", ("192.0.2.1", 628)),
        (b"192.0.2.1:0", ("192.0.2.1", 628)),
        (b"192.0.2.1:65535", ("192.0.2.1", 65_535)),
        (b"192.0.2.1:65536", ("192.0.2.1", 628)),
        (b"255.0.2.000000001", ("255.0.2.1", 628)),
        (b"192.0.2.0000000001", None),
        (b"[::1]", ("::1", 628)),
        (b"[2001:db8::1]:6280", ("2001:db8::1", 6280)),
        (b"[2001:db8::1", None),
        (b"[192.0.2.1]", None),
        (b"mail.test", None),
        (b"::1", None),
        (b"192.0.2", None),
        (b"192.0.2.", None),
        (b"192.0..1", None),
        (b"192.0.2.256", None),
        (b"9999999999.0.2.1", None),
        (b" 192.0.2.1", None),
        (b"-1.0.0.1", None),
        (b"", None),
    ],
)
def test_a_server_is_an_address_and_perhaps_a_port(line: bytes, server: tuple[str, int] | None) -> None:
    assert parse_server(line) == server


def test_servers_come_in_order_and_other_lines_do_not_count() -> None:
    text = b"# ours\n192.0.2.2\nmail.test\n\n[::1]:1 \n192.0.2.1\n"
    assert qmqp_servers({"qmqpservers": text}.get) == [("192.0.2.2", 628), ("::1", 1), ("192.0.2.1", 628)]
    assert qmqp_servers({"qmqpservers": b""}.get) == []
    assert qmqp_servers({}.get) is None


def envelope_of(data: bytes) -> list[bytes] | int:
    """What is read from a pipe with this in it, or the exit code."""
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, data)
        os.close(write_fd)
        return list(read_envelope(read_fd))
    except Failed as failed:
        return failed.code
    finally:
        os.close(read_fd)


BAD = queue_exit.BAD_ENVELOPE


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"Fs@x\0Ta@b\0Tc@d\0\0", [b"s@x", b"a@b", b"c@d"]),
        (b"F\0\0", [b""]),
        (b"Fs\0\0junk", [b"s"]),
        (b"Fs\0T\0Ty\0\0", [b"s", b"", b"y"]),
        (b"F" + b"a" * 3000 + b"\0T" + b"b" * 3000 + b"\0\0", [b"a" * 3000, b"b" * 3000]),
        (b"", BAD),
        (b"\0", BAD),
        (b"F", BAD),
        (b"Fs\0", BAD),
        (b"Fs\0Tx", BAD),
        (b"Fs\0Tx\0", BAD),
        (b"Gs\0Tx\0\0", BAD),
        (b"Ts\0Tx\0\0", BAD),
        (b"Fs\0Xx\0\0", BAD),
        (b"Fs\0Fx\0\0", BAD),
    ],
)
def test_an_envelope_is_read_as_qmail_reads_it(data: bytes, found: list[bytes] | int) -> None:
    assert envelope_of(data) == found


def test_an_envelope_that_comes_byte_by_byte_is_the_same() -> None:
    read_fd, write_fd = os.pipe()
    reading = read_envelope(read_fd)
    try:
        os.write(write_fd, b"Fs")
        os.write(write_fd, b"@x\0Ta")
        assert next(reading) == b"s@x"
        os.write(write_fd, b"@b")
        os.write(write_fd, b"\0")
        assert next(reading) == b"a@b"
        os.write(write_fd, b"\0")
        assert next(reading, None) is None
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_a_descriptor_that_cannot_be_read_is_a_read_error() -> None:
    read_fd, write_fd = os.pipe()
    try:
        with pytest.raises(Failed) as caught:
            next(read_envelope(write_fd))
        assert caught.value.code == queue_exit.READ_FAILED
    finally:
        os.close(read_fd)
        os.close(write_fd)
