"""Targets: whole sessions, from the first byte to the last, with everything around them in memory."""

import os
import socket
import sys
import tempfile
from pathlib import Path

from fuzz_driver import same_however_cut, target
from fuzz_wire import END_WORDS

sys.path.insert(0, str(Path(__file__).parents[1]))

from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.receive.enqueue import ADDRESS_MAX, Refused
from notqmail.receive.queue_callers import PACKAGE_MAX
from notqmail.receive.queue_once import read_envelope
from notqmail.receive.queue_serve import QueueServer
from notqmail.receive.smtpd import DONE, FAILED
from notqmail.send.clean import Cleaner, serve
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.clock import Clock
from notqmail.wire import queue_exit
from notqmail.wire.netstring import decode_all, encode
from notqmail.wire.reply_reader import REPLY_MAX
from notqmail.wire.reports import Report, permanent, success
from notqmail.wire.smtp_client import Envelope, Session
from notqmail.wire.stuffing import Stuffer
from smtpd_fakes import FakeQueue, new_session

SMTP_WORDS = (
    *END_WORDS, b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<> SIZE=5\r\n", b"QUIT\r\n",
    b"RCPT TO:<c@here.test>\r\n", b"RCPT TO:<c@far.test>\r\n", b"DATA\r\n", b"NOOP\r\n", b"VRFY\r\n", b"HELP\r\n",
    b"MAIL FROM:<a@b>\r\nRCPT TO:<c@here.test>\r\nDATA\r\n", b"RCPT TO:<x@[127.0.0.1]>\r\n", b"SIZE=99999999",
)  # fmt: skip
SETTINGS = (
    SmtpdSettings(b"mail.test", rcpthosts=frozenset({b"here.test", b".sub.test"}), databytes=200, recipients_max=3),
    SmtpdSettings(b"mail.test", local_ip_host=b"here.test", badmailfrom=frozenset({b"a@b", b"@bad.test"})),
)
REPORTS = (success(), Report(b"Z", b"later\r\n250 ok (#4.3.0)"), permanent(b"no (#5.7.1)"), None)


@target("smtp-server", *SMTP_WORDS)
def a_client_of_ours(data: bytes) -> None:
    """The first byte chooses settings, environment and queue; the rest is what the client says."""
    choice, said = data[:1] or b"\0", data[1:]

    def conversed(pieces: list[bytes]) -> object:
        queue = FakeQueue(REPORTS[choice[0] & 3], answers_later=bool(choice[0] & 4))
        environ = {b"RELAYCLIENT": b""} if choice[0] & 8 else {}
        session = new_session(queue, SETTINGS[choice[0] >> 4 & 1], environ)
        heard = session.greet()
        for piece in pieces:
            heard += session.receive(piece)
            while session.waiting:
                assert queue.report is not None
                heard += session.answer(queue.report, 7)
            if session.exit_code is not None:
                break
        ended = session.exit_code
        session.vanish()
        assert ended in (None, DONE, FAILED)
        assert all(sink.state != "open" for sink in queue.sinks), "a message is neither queued nor dropped"
        return heard, ended, [(sink.state, sink.text * (sink.state == "closed")) for sink in queue.sinks]

    heard = same_however_cut(said, conversed)
    assert isinstance(heard, tuple)
    for line in heard[0].split(b"\r\n")[:-1]:
        assert line[:3].isdigit() and line[3:4] in (b" ", b"-") and len(line) <= 998
        assert not {0, 10, 13} & set(line)
    for state, text in heard[2]:
        assert state != "closed" or len(text) < len(said) + 200


BODY = b"Subject: hello\n\n.\nMAIL FROM:<smuggled@x>\n..\n"


@target(
    "smtp-client", b"220 hi\r\n", b"250 ok\r\n", b"250-PIPELINING\r\n", b"250-SIZE 9\r\n250 8BITMIME\r\n",
    b"354 go\r\n", b"221 bye\r\n", b"421 no\r\n", b"550 no\r\n", b"450 later\r\n", b"\n", b"\r", b"\0", b"250-",
    b"x" * 300,
)  # fmt: skip
def a_server_of_theirs(data: bytes) -> None:
    """The first byte says how many recipients; the rest is what the peer says."""
    count, said = (data[:1] or b"\0")[0] % 5, data[1:]

    def conversed(pieces: list[bytes]) -> object:
        session = Session(b"192.0.2.1", b"mail.test")
        recipients = [b"r%d@x" % number for number in range(count)]
        sent = session.begin(Envelope(b"s@x", recipients, size=len(BODY), has_8bit=lambda: True))
        for piece in pieces:
            if session.outcome is not None:
                break
            sent += session.receive(piece)
            if session.wants_body:
                stuffer = Stuffer()
                sent += b"<body>" + stuffer.feed(BODY) + stuffer.finish() + session.end_body() + session.after_body()
            assert session.kept_bytes <= REPLY_MAX + len(piece)
        session.connection_died()
        assert session.outcome is not None
        return sent, session.outcome.encode()

    result = same_however_cut(said, conversed)
    assert isinstance(result, tuple)
    sent, outcome = result
    records = outcome.split(b"\0")[:-1]
    assert records[-1][:1] in (b"K", b"Z", b"D")
    assert len(records) <= count + 1 and all(record[:1] in (b"r", b"s", b"h") for record in records[:-1])
    if records[-1][:1] == b"K":
        assert b"<body>" in sent and any(record[:1] == b"r" for record in records[:-1])
    for line in sent.partition(b"<body>")[0].split(b"\r\n"):
        assert b"\n" not in line and b"\r" not in line and len(line) < 1_000


# --- what comes through descriptors ----------------------------------------------------------------------------------


def packets(pieces: list[bytes]) -> int:
    """A descriptor whose reads give these pieces one by one, then the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for piece in pieces:
        if piece:
            ours.send(piece)
    ours.close()
    return theirs.detach()


@target("queue-envelope", b"F", b"T", b"\0", b"Fa@b\0Tc@d\0\0", b"x" * 1_003)
def envelopes(data: bytes) -> None:
    def read(pieces: list[bytes]) -> object:
        descriptor = packets(pieces)
        found = []
        try:
            for address in read_envelope(descriptor):
                found.append(address)
        except Refused as refused:
            return refused.exit_code
        finally:
            os.close(descriptor)
        return found

    # Two ways to be wrong at once (too long, and never ended) may be answered with either.
    result = same_however_cut(data, lambda pieces: _one_refusal(read(pieces)))
    if isinstance(result, list):
        assert data.startswith(b"F" + b"\0T".join(result) + b"\0\0")


def _one_refusal(result: object) -> object:
    refusals = (queue_exit.READ_FAILED, queue_exit.BAD_ENVELOPE, queue_exit.ADDRESS_TOO_LONG)
    assert isinstance(result, list) or result in refusals
    if isinstance(result, list) and any(len(address) > ADDRESS_MAX for address in result):
        return "refused"  # by the writer behind it
    return result if isinstance(result, list) else "refused"


@target("clean-command", b"foop/", b"todo/", b"12", b"\0", b"todo/12\0", b"../../etc/passwd\0", b"9" * 30)
def clean_commands(data: bytes) -> None:
    def obeyed(pieces: list[bytes]) -> object:
        disk = FakeDisk()
        for path in (b"mess/12/12", b"intd/12", b"todo/12", b"todo/0", b"mess/0/0"):
            disk.create(path, (b"x",))
        commands, (replies, answering) = packets(pieces), os.pipe()
        try:
            code = serve(Cleaner(disk, Clock()), commands, answering)
            os.close(answering)
            answers = b""
            while chunk := os.read(replies, 65_536):
                answers += chunk
        finally:
            os.close(commands)
            os.close(replies)
        left = [path for path in (b"mess/12/12", b"intd/12", b"todo/12", b"todo/0", b"mess/0/0") if disk.state(path)]
        return code, answers, left

    result = same_however_cut(data, obeyed)
    assert isinstance(result, tuple)
    assert result[0] == 0 and len(result[1]) == data.count(b"\0")
    if b"foop/" not in data:
        assert b"mess/12/12" in result[2]


# --- the queue's writer ----------------------------------------------------------------------------------------------


def package(message: bytes, *addresses: bytes) -> bytes:
    """One as a client would send it."""
    return encode(encode(message) + b"".join(map(encode, addresses)))


@target(
    "queue-server", package(b"m\n", b"a@b", b"c@d"), encode(b"!"), package(b"", b""), package(b"", b"a\0b", b"c"),
    encode(b"@5,0:,"), encode(b"@99999999999999999999,0:,"), b"99999999:", b"0:,", b"x", package(b"", b"y" * 1_003),
)  # fmt: skip
def a_client_of_the_queue(data: bytes) -> None:
    def conversed(pieces: list[bytes]) -> object:
        disk = FakeDisk()
        with tempfile.TemporaryDirectory(prefix="nq") as home:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(home + "/s")
            listener.listen()
            listener.setblocking(False)
            server = QueueServer(home.encode(), disk, Clock(), listener, uids=None)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(home + "/s")
                server.turn(0)
                answers = _say(server, client, pieces)
            for _ in range(3):
                server.turn(0)  # sees the end
            listener.close()
        queued = len(list(disk.names(b"todo")))
        assert not list(disk.names(b"pid")), "nothing unfinished is left"
        return [answer[:1] for answer in decode_all(answers)], queued

    result = same_however_cut(data, conversed)
    assert isinstance(result, tuple)
    letters, queued = result
    assert letters.count(b"K") == queued, "each yes is a message in todo, and each message there a yes"
    assert len(data) < PACKAGE_MAX


def _say(server: QueueServer, client: socket.socket, pieces: list[bytes]) -> bytes:
    """What the server answers to these pieces, each seen by itself."""
    client.setblocking(False)
    heard = b""
    for piece in pieces:
        try:
            client.send(piece)
        except OSError:
            break  # it has hung up
        server.turn(0)
        heard += _heard(client)
    for _ in range(3):
        server.turn(0)
        heard += _heard(client)
    return heard


def _heard(client: socket.socket) -> bytes:
    try:
        return client.recv(65_536)
    except (BlockingIOError, ConnectionResetError):
        return b""
