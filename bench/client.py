"""A plain SMTP client for what smtp-source cannot do: many recipients, times of single messages, idle sessions."""

import socket
from collections.abc import Iterable

TIMEOUT_S = 60.0
_BATCH = 100  # recipients written before their replies are read: fewer bytes than any socket buffer holds


class Refused(RuntimeError):
    """The server said something else than asked for; str() is what."""


class Session:
    """A session that has said EHLO; a context manager. Everything raises Refused, OSError."""

    def __init__(self, port: int, address: str = "127.0.0.1", *, timeout_s: float = TIMEOUT_S) -> None:
        self.link = socket.create_connection((address, port), timeout_s)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self.link.makefile("rb")
        self.expect(b"2")

    def __enter__(self) -> "Session":
        self.ask(b"EHLO source.test", b"2")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.link.sendall(b"QUIT\r\n")
        except OSError:
            pass  # it has left before us
        self.close()

    def close(self) -> None:
        """Without a word."""
        self._input.close()
        self.link.close()

    def expect(self, digit: bytes) -> bytes:
        """Reads one reply."""
        while True:
            line = self._input.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(digit):
            raise Refused(f"wanted {digit.decode()}xx, got {line!r}")
        return line

    def ask(self, command: bytes, digit: bytes) -> bytes:
        """A command and its reply."""
        self.link.sendall(command + b"\r\n")
        return self.expect(digit)

    def send(self, sender: str, recipients: Iterable[str], content: bytes) -> None:
        """One message; `content` is dot-stuffed already and ends with its line. Returns at the last 250."""
        self.ask(b"MAIL FROM:<%b>" % sender.encode(), b"2")
        left = [b"RCPT TO:<%b>\r\n" % recipient.encode() for recipient in recipients]
        while left:  # both sides of the comparison announce PIPELINING
            now, left = left[:_BATCH], left[_BATCH:]
            self.link.sendall(b"".join(now))
            for _ in now:
                self.expect(b"2")
        self.ask(b"DATA", b"3")
        self.link.sendall(content + b".\r\n")
        self.expect(b"2")


def content(size: int, subject: str = "bench") -> bytes:
    """A message of about `size` bytes, header and all, with CRLF."""
    head = f"From: <sender@source.test>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@source.test>\r\n\r\n".encode()
    line = b"x" * 70 + b"\r\n"
    return head + line * max(1, (size - len(head)) // len(line))
