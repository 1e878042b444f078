"""What has gone wrong before, with names: the inputs of known advisories, to our programs.

- CVE-2005-1513, -1514, -1515 and the Qualys advisory of 2020-05-19 about them: gigabytes in one command, one address or
  one header line made C qmail's counters overflow. Ours cannot overflow, but could grow: here they must not. The inputs
  are scaled to megabytes, the memory is counted (tracemalloc).
- CVE-2020-3811 and -3812, of the same advisory, are of Debian's qmail-verify, which neither notqmail nor we have.
- CVE-2023-51764 (Postfix), -51765 (Sendmail), -51766 (Exim), -52354 (chasquid): SMTP smuggling. Our server must not end
  a message early; our client must not send what ends one early anywhere.
"""

import os
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong
from notqmail.policy.limits import COMMANDS_WITHOUT_MAIL_MAX, ENVELOPES_BYTES_MAX, EnvelopeBytes
from notqmail.receive.enqueue import Refused
from notqmail.receive.queue_once import read_envelope
from notqmail.receive.smtpd import Session, World
from notqmail.wire import command_lines, queue_exit, smtp_client, smtp_server, spawn_link
from notqmail.wire.dot import DotDecoder
from notqmail.wire.netstring import BadNetstring
from notqmail.wire.qmqp import PackageReader
from notqmail.wire.reply_reader import REPLY_MAX
from notqmail.wire.reports import success
from notqmail.wire.stuffing import END, Stuffer
from smtpd_fakes import FakeQueue, new_session, say

CHUNK = b"x" * 65_536
MEGABYTES = 24  # in all; whoever kept it would be seen
KEPT_MAX = 2_000_000  # bytes; some hold a whole piece and a copy of it


def growth(feed: Callable[[], object]) -> int:
    """The most memory that `feed` had at a time, in bytes."""
    tracemalloc.start()
    try:
        feed()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def much() -> Iterator[bytes]:
    for _ in range(MEGABYTES * 16):
        yield CHUNK


# --- CVE-2005-1513, -1514, -1515; Qualys 2020 ------------------------------------------------------------------------


def test_cve_2005_1514_a_command_without_end_is_not_kept() -> None:
    session = new_session()

    def feed() -> None:
        for chunk in much():
            assert session.receive(chunk) == b""

    assert growth(feed) < KEPT_MAX
    assert session.kept_bytes <= command_lines.LINE_MAX + 1
    assert say(session, b"", b"NOOP") == [b"500 line too long (#5.5.2)", b"250 ok"]


def test_cve_2005_1514_a_command_without_blank_is_not_kept_either() -> None:
    session = new_session()
    assert growth(lambda: [session.receive(b"\xff" * 65_536) for _ in range(300)]) < KEPT_MAX


def test_cve_2005_1513_an_address_without_end_is_refused() -> None:
    session = new_session()
    heard = b""
    for chunk in (b"MAIL FROM:<", *much(), b">\r\n"):
        heard += session.receive(chunk)
    assert heard == smtp_server.LINE_TOO_LONG.plain
    assert say(session, b"MAIL FROM:<" + b"a" * 900 + b">") == [b"555 syntax error (#5.5.4)"]


def test_cve_2005_1513_a_message_of_one_line_streams_through() -> None:
    decoder = DotDecoder()

    def feed() -> None:
        length = sum(len(decoder.receive(chunk)) for chunk in much())
        assert length == MEGABYTES * 1_048_576

    assert growth(feed) < KEPT_MAX


def test_cve_2005_1515_recipients_are_bounded_in_number_and_in_bytes() -> None:
    settings = SmtpdSettings(b"mail.test", recipients_max=1_000)
    session = new_session(settings=settings)
    say(session, b"MAIL FROM:<>")
    replies = [say(session, b"RCPT TO:<%s>" % (b"x" * 899))[0] for _ in range(1_500)]
    assert replies.count(b"250 ok") == 1_000
    assert set(replies[1_000:]) == {b"452 too many recipients (#4.5.3)"}


def test_all_sessions_together_keep_a_bounded_number_of_recipients() -> None:
    queue, envelopes = FakeQueue(success()), EnvelopeBytes()
    world = World(new_session()._world.clock, queue.open, lambda _host: False, frozenset, envelopes)
    sessions = [Session(SmtpdSettings(b"mail.test"), {}, world) for _ in range(2)]
    envelopes.used = ENVELOPES_BYTES_MAX - 1_000  # the others'
    for session in sessions:
        say(session, b"MAIL FROM:<>")
    assert say(sessions[0], b"RCPT TO:<" + b"x" * 800 + b">") == [b"250 ok"]
    assert say(sessions[1], b"RCPT TO:<" + b"x" * 800 + b">") == [b"452 too many recipients (#4.5.3)"]
    sessions[0].vanish()
    assert say(sessions[1], b"RCPT TO:<" + b"x" * 800 + b">", b"DATA", b".")[0] == b"250 ok"
    assert envelopes.used == ENVELOPES_BYTES_MAX - 1_000, "a queued message's recipients are not the session's"
    say(sessions[1], b"MAIL FROM:<>", b"RCPT TO:<x>", b"QUIT")
    sessions[1].vanish()
    assert envelopes.used == ENVELOPES_BYTES_MAX - 1_000


def test_qualys_2020_an_envelope_without_end_is_refused_early() -> None:
    """qmail-local's and qmail-queue's side: one address of gigabytes."""
    reader, writer = os.pipe()

    def write() -> None:
        try:
            os.write(writer, b"Fsender@x\0T")
            for chunk in much():
                os.write(writer, chunk)
        except BrokenPipeError:
            pass  # refused: that is what this is about
        finally:
            os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with pytest.raises(Refused) as refused:
            list(read_envelope(reader))
        assert refused.value.exit_code == queue_exit.ADDRESS_TOO_LONG
    finally:
        os.close(reader)
        thread.join()


def test_qualys_2020_a_header_without_end_is_refused() -> None:
    splitter = HeaderSplitter()
    splitter.receive(b"To: ")
    with pytest.raises(HeaderTooLong):
        for chunk in much():
            splitter.receive(chunk)


def test_a_package_without_end_is_refused_by_its_length() -> None:
    with pytest.raises(BadNetstring):
        PackageReader(limit=1_000).receive(b"200000000:")


def test_a_report_without_end_keeps_its_beginning() -> None:
    reader = spawn_link.ReportReader()
    assert growth(lambda: [reader.receive(chunk) for chunk in (b"\x01K", *much())]) < KEPT_MAX
    [(slot, report)] = reader.receive(b"\0")
    assert slot == 1 and report is not None and len(report.text) == spawn_link.REPORT_MAX - 1


def test_a_client_that_only_makes_noise_is_sent_away() -> None:
    for noise in (b"NOOP", b"RSET", b"VRFY x", b"HELP", b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<a@far>"):
        session = new_session(settings=SmtpdSettings(b"mail.test", rcpthosts=frozenset()))
        say(session, b"MAIL FROM:<>")
        heard = session.receive((noise + b"\r\n") * 20_000)
        assert heard.endswith(b" too many commands without mail (#4.7.0)\r\n")
        assert session.exit_code == 1
        assert heard.count(b"\r\n") <= 5 * COMMANDS_WITHOUT_MAIL_MAX + 1


def test_a_client_that_brings_mail_may_stay() -> None:
    session = new_session(FakeQueue(success()))
    for _ in range(COMMANDS_WITHOUT_MAIL_MAX):
        said = say(session, b"RSET", b"MAIL FROM:<>", b"RCPT TO:<a@b>", b"DATA", b".")
        assert said[-1].startswith(b"250 ok ")


def test_a_client_may_name_as_many_recipients_as_are_allowed() -> None:
    session = new_session(FakeQueue(success()))
    say(session, b"MAIL FROM:<>", *[b"RCPT TO:<a@b>"] * (2 * COMMANDS_WITHOUT_MAIL_MAX))
    assert say(session, b"DATA", b".")[-1].startswith(b"250 ok ")


# --- the other direction: a server that we deliver to ----------------------------------------------------------------

HELLO = b"220 hi\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n"


def in_the_body() -> smtp_client.Session:
    session = smtp_client.Session(b"192.0.2.1", b"mail.test")
    session.begin(smtp_client.Envelope(b"a@b", [b"c@d"]))
    session.receive(HELLO)
    assert session.wants_body
    return session


def test_a_server_that_talks_while_it_should_listen_is_dropped() -> None:
    session = in_the_body()

    def feed() -> None:
        for chunk in much():
            session.receive(chunk)

    assert growth(feed) < KEPT_MAX
    assert session.outcome is not None
    assert session.outcome.report.text == b"Connected to 192.0.2.1 but connection died. (#4.4.2)\n"
    assert session.kept_bytes < REPLY_MAX + 2 * len(CHUNK)


def test_a_server_that_talks_on_after_the_end_is_not_listened_to() -> None:
    session = smtp_client.Session(b"192.0.2.1", b"mail.test")
    session.begin(smtp_client.Envelope(b"a@b", [b"c@d"]))
    session.receive(b"554 no\r\n")
    assert growth(lambda: [session.receive(chunk) for chunk in much()]) < KEPT_MAX


def test_a_reply_of_many_short_lines_costs_no_square() -> None:
    session = smtp_client.Session(b"192.0.2.1", b"mail.test")
    session.begin(smtp_client.Envelope(b"a@b", [b"c@d"]))
    copied = growth(lambda: session.receive(b"250-\n" * 50_000))
    assert copied < KEPT_MAX
    assert session.outcome is not None


# --- SMTP smuggling --------------------------------------------------------------------------------------------------

LOOK_ALIKES = [
    pytest.param(b"\n.\n", id="CVE-2023-51764 Postfix, LF.LF"),
    pytest.param(b"\n.\r\n", id="CVE-2023-51764 Postfix, -51766 Exim, LF.CRLF"),
    pytest.param(b"\r\n.\n", id="CVE-2023-51766 Exim, CRLF.LF"),
    pytest.param(b"\r.\r", id="CVE-2023-51765 Sendmail, CR.CR"),
    pytest.param(b"\r.\r\n", id="CR.CRLF"),
    pytest.param(b"\r\n.\r", id="CRLF.CR"),
    pytest.param(b"\n.\r", id="LF.CR"),
    pytest.param(b"\r.\n", id="CR.LF"),
    pytest.param(b"\n\n.\r\n", id="CVE-2023-52354 chasquid, LF LF.CRLF"),
    pytest.param(b"\r\r\n.\r\r\n", id="CR CRLF.CR CRLF"),
    pytest.param(b"\r\n\0.\r\n", id="CRLF NUL.CRLF"),
    pytest.param(b"\r\n.\0\r\n", id="CRLF.NUL CRLF"),
]
SMUGGLED = b"MAIL FROM:<admin@here.test>\r\nRCPT TO:<victim@here.test>\r\nDATA\r\nFrom: admin\r\n\r\nsmuggled\r\n.\r\n"
DIALOGUE = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@here.test>\r\nDATA\r\n"


@pytest.mark.parametrize("ending", LOOK_ALIKES)
def test_nothing_is_smuggled_in(ending: bytes) -> None:
    wire = DIALOGUE + b"Subject: a\r\n\r\nfirst" + ending + SMUGGLED + b"QUIT\r\n"
    for cut in range(len(DIALOGUE), len(wire)):
        queue = FakeQueue(success())
        session = new_session(queue)
        session.receive(wire[:cut])
        if session.exit_code is None:
            session.receive(wire[cut:])
        senders = {sink.sender for sink in queue.queued}
        assert senders <= {b"a@b"}, "the smuggled envelope was obeyed"
        assert len(queue.queued) <= 1
        if b"\n" in ending.replace(b"\r\n", b""):
            assert not queue.queued, "a bare line feed: nothing of it may be used"


@pytest.mark.parametrize("ending", LOOK_ALIKES)
def test_nothing_is_smuggled_out(ending: bytes) -> None:
    """Whatever is stored, a message leaves with one end, and without any line end but CRLF."""
    for message in (b"first" + ending + SMUGGLED, ending, ending * 3, b"first" + ending):
        stored = message if message[-1:] in (b"\r", b"\n") else message + b"\n"
        for cut in range(len(stored) + 1):
            stuffer = Stuffer()
            wire = stuffer.feed(stored[:cut]) + stuffer.feed(stored[cut:]) + stuffer.finish() + END
            inside = b"\r\n" + wire[: -len(END)]
            assert not any(end in inside for end in (b"\r\n.\r\n", b"\r\n.\n", b"\r\n.\r"))
            assert b"\r" not in inside.replace(b"\r\n", b"") and b"\n" not in inside.replace(b"\r\n", b"")
