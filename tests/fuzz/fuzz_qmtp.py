"""Targets: QMTP and QMQP, both sides of each."""

import sys
from pathlib import Path

from fuzz_driver import same_however_cut, target

sys.path.insert(0, str(Path(__file__).parents[1]))

from notqmail.control.qmqp_servers import parse_server
from notqmail.control.remote_settings import parse_qmtp_relay
from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.receive import qmqpd, qmtpd
from notqmail.receive.package_session import BROKEN, DONE, UNABLE, PackageSession, World
from notqmail.wire.netstring import BadNetstring, decode_all
from notqmail.wire.package_stream import FIELD_MAX
from notqmail.wire.qmqp_net import verdict
from notqmail.wire.qmtp_client import Package, Session
from notqmail.wire.reports import Report, permanent, success
from smtpd_fakes import FakeQueue, StoppedClock, no_more_hosts

WORDS = (
    b"\n", b"\r", b"\r\n", b",", b":", b"0:,", b"1:\n,", b"1:\r,", b"3:\nhi,", b"8:a@b.test,", b"11:c@here.test,",
    b"14:11:c@here.test,,", b"10:c@far.test,", b"999:" + b"x" * 999 + b",", b"1000:" + b"x" * 1000 + b",",
    b"200000000:", b"2000000009:", b"99999999999:", b"0" * 101, b"\0", b"3:a\0b,",
)  # fmt: skip
SETTINGS = SmtpdSettings(b"", rcpthosts=frozenset({b"here.test"}), databytes=100, recipients_max=3)
REPORTS = (success(), Report(b"Z", b"later, 5:Kyes, (#4.3.0)"), permanent(b"no (#5.7.1)"), None)
CODES = (None, DONE, BROKEN, UNABLE)


def conversed(session: PackageSession, queue: FakeQueue, world: World, pieces: list[bytes]) -> object:
    """Feeds it; what was heard, how it ended, what was queued."""
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
    assert ended in CODES
    assert world.envelopes.used == 0, "what an envelope took is given back"
    assert all(sink.state != "open" for sink in queue.sinks), "a message is neither queued nor dropped"
    queued = [(sink.body, sink.sender, sink.recipients) for sink in queue.queued]
    for _, sender, recipients in queued:
        assert all(b"\0" not in one and len(one) <= FIELD_MAX for one in [sender, *recipients])
    return heard, ended, queued


def check_server(said: bytes, conversed_in: object) -> None:
    """What holds for both protocols."""
    assert isinstance(conversed_in, tuple)
    heard, _, queued = conversed_in
    for answer in decode_all(heard):
        assert answer[:1] in (b"K", b"Z", b"D")
    for body, sender, recipients in queued:
        assert sender in said
        assert len(body) + len(sender) + sum(map(len, recipients)) <= len(said) + 6 * len(recipients)


@target("qmtp-server", *WORDS)
def a_qmtp_client_of_ours(data: bytes) -> None:
    """The first byte chooses environment and queue; the rest is what the client says."""
    choice, said = data[:1] or b"\0", data[1:]
    environ = {b"RELAYCLIENT": b"@gate"} if choice[0] & 8 else {}

    def run(pieces: list[bytes]) -> object:
        queue = FakeQueue(REPORTS[choice[0] & 3], answers_later=bool(choice[0] & 4))
        world = World(StoppedClock(), queue.open)
        return conversed(qmtpd.Session(SETTINGS, environ, world, no_more_hosts), queue, world, pieces)

    check_server(said, same_however_cut(said, run))


@target("qmqp-server", *WORDS)
def a_qmqp_client_of_ours(data: bytes) -> None:
    """As for QMTP."""
    choice, said = data[:1] or b"\0", data[1:]

    def run(pieces: list[bytes]) -> object:
        queue = FakeQueue(REPORTS[choice[0] & 3], answers_later=bool(choice[0] & 4))
        world = World(StoppedClock(), queue.open)
        return conversed(qmqpd.Session({}, world), queue, world, pieces)

    check_server(said, same_however_cut(said, run))


@target(
    "qmtp-client", b"1:K,", b"13:Kok 1 qp 4711,", b"3:Zno,", b"3:Dno,", b"0:,", b"65537:", b"99999999999:", b"\0", b","
)
def a_qmtp_server_that_answers_us(said: bytes) -> None:
    """Three recipients; then the connection dies."""

    def run(pieces: list[bytes]) -> object:
        session = Session(b"192.0.2.1")
        session.begin(Package(b"s@x", [b"a", b"b", b"c"], 0))
        session.end_body()
        for piece in pieces:
            assert session.receive(piece) == b""
        session.connection_died()
        outcome = session.outcome
        assert outcome is not None
        assert not session.may_begin
        assert len(outcome.records) <= 3
        assert b"\0" not in outcome.report.text + b"".join(text for _, text in outcome.records)
        if outcome.report.succeeded:
            assert len(outcome.records) == 3 and b"r" in [letter for letter, _ in outcome.records]
        return outcome.encode()

    encoded = same_however_cut(said, run)
    try:
        answers = decode_all(said)
    except BadNetstring:
        return
    if len(answers) >= 3 and all(answer[:1] == b"K" for answer in answers[:3]):
        assert isinstance(encoded, bytes) and encoded.startswith(b"r\0r\0r\0K")


@target("qmqp-client", b"3:Kok,", b"Z", b"D", b"192.0.2.1", b":628", b"[::1]", b"[", b"]", b";209", b"[IPv6:", b".")
def a_qmqp_server_that_answers_us_and_what_a_site_may_write(data: bytes) -> None:
    """Whatever comes first of K, Z and D; and lines of control files."""
    found = verdict(data)
    assert (found is None) == (not {*b"KZD"} & {*data})
    server = parse_server(data)
    assert server is None or (0 < server[1] < 65_536 and server[0])
    assert parse_qmtp_relay(data).by_qmtp
