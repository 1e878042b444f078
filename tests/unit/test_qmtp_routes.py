"""control/qmtproutes: where mail goes by QMTP, and where qmail-qmtpc looks."""

import pytest

from notqmail.control.remote_settings import Relay, RemoteSettings, parse_qmtp_relay, read_remote_settings
from notqmail.deliver.dialogues import NO_QMTP_CONNECTION, SmtpDialogue, dialogue_with, unreachable
from notqmail.deliver.qmtp_dialogue import QmtpDialogue, qmtp_candidates
from notqmail.deliver.remote import NO_CONNECTION
from notqmail.deliver.remote_once import answered
from notqmail.deliver.routes import NO_QMTPS, Candidate, NoRoute, candidates
from notqmail.testing.resolver import FakeResolver
from notqmail.unix.resolver import found


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (b"relay.test", b"relay.test", 209),
        (b"relay.test:6280", b"relay.test", 6280),
        (b"relay.test;6280", b"relay.test", 6280),
        (b"relay.test;", b"relay.test", 209),
        (b"relay.test:", b"relay.test", 209),
        (b"relay.test;x", b"relay.test", 209),
        (b"192.0.2.1;1", b"192.0.2.1", 1),
        (b"[192.0.2.1]:1", b"[192.0.2.1]", 1),
        (b"2001:db8::1;1", b"[IPv6:2001:db8::1]", 1),
        (b"[2001:db8::1];1", b"[IPv6:2001:db8::1]", 1),
        (b"[2001:db8::1]:1", b"[IPv6:2001:db8::1]", 1),
        (b"[IPv6:2001:db8::1]", b"[IPv6:2001:db8::1]", 209),
    ],
)
def test_a_qmtp_route_has_its_port_behind_a_colon_or_a_semicolon(text: bytes, host: bytes, port: int) -> None:
    assert parse_qmtp_relay(text) == Relay(host, port, by_qmtp=True)


FILES = {
    "me": b"me.test\n",
    "qmtproutes": b"a.test:q;1\n.b.test:q2\nempty.test:\n",
    "smtproutes": b"a.test:s:26\nx.b.test:s2\n.empty.test:s3\n:s4\n",
}


@pytest.mark.parametrize(
    ("host", "relay"),
    [
        (b"a.test", Relay(b"q", 1, by_qmtp=True)),  # qmtproutes first, for the same key
        (b"A.Test", Relay(b"q", 1, by_qmtp=True)),
        (b"x.a.test", Relay(b"s4")),
        (b"x.b.test", Relay(b"s2")),  # but the longer key before that
        (b"y.b.test", Relay(b"q2", 209, by_qmtp=True)),
        (b"empty.test", None),  # MX, and SMTP
        (b"x.empty.test", Relay(b"s3")),
        (b"far.test", Relay(b"s4")),
    ],
)
def test_for_each_key_qmtproutes_is_asked_before_smtproutes(host: bytes, relay: Relay | None) -> None:
    assert read_remote_settings(FILES.get).relay_for(host) == relay


def test_a_default_qmtp_route_takes_what_no_other_route_names() -> None:
    settings = RemoteSettings(b"me", routes={b"a.test": b"s"}, qmtp_routes={b"": b"q"})
    assert settings.relay_for(b"a.test") == Relay(b"s")
    assert settings.relay_for(b"b.test") == Relay(b"q", 209, by_qmtp=True)


def settings_of(**controls: bytes) -> RemoteSettings:
    return read_remote_settings({"me": b"me.test\n", **controls}.get)


def test_candidates_of_a_qmtp_route_are_spoken_to_in_qmtp() -> None:
    resolver = FakeResolver(addresses={b"q": found(b"192.0.2.1", b"2001:db8::1")})
    settings = settings_of(qmtproutes=b"y.test:q;210\n")
    there = answered(candidates(b"y.test", settings, own=(), draw=lambda: 0.0), resolver)
    assert there == [
        Candidate(b"192.0.2.1", port=210, host=b"q", by_qmtp=True),
        Candidate(b"2001:db8::1", port=210, host=b"q", by_qmtp=True),
    ]
    assert isinstance(dialogue_with(there[0], settings), QmtpDialogue)
    assert isinstance(dialogue_with(Candidate(b"192.0.2.1"), settings), SmtpDialogue)
    assert (unreachable(there), unreachable([Candidate(b"192.0.2.1")])) == (NO_QMTP_CONNECTION, NO_CONNECTION)


def test_what_should_go_over_tls_waits_and_never_goes_in_clear() -> None:
    settings = settings_of(qmtproutes=b"y.test:[192.0.2.1];6209\n")
    with pytest.raises(NoRoute) as caught:
        answered(candidates(b"y.test", settings, own=(), draw=lambda: 0.0), FakeResolver())
    assert caught.value.report == NO_QMTPS
    assert NO_QMTPS.kind == b"Z"


def test_qmail_qmtpc_knows_qmtproutes_and_mx_but_no_smtproutes() -> None:
    resolver = FakeResolver(
        mx={b"y.test": found((10, b"m.test"))}, addresses={b"m.test": found(b"192.0.2.7")},
    )  # fmt: skip
    settings = settings_of(qmtproutes=b"z.test:[192.0.2.1];210\n", smtproutes=b"y.test:s\n")
    routed = answered(qmtp_candidates(b"z.test", settings, own=(), draw=lambda: 0.0), resolver)
    assert routed == [Candidate(b"192.0.2.1", port=210, host=b"[192.0.2.1]", by_qmtp=True)]
    by_mx = answered(qmtp_candidates(b"y.test", settings, own=(), draw=lambda: 0.0), resolver)
    assert by_mx == [Candidate(b"192.0.2.7", port=209, preference=10, host=b"m.test", by_qmtp=True)]
    literal = answered(qmtp_candidates(b"[192.0.2.9]", settings, own=(), draw=lambda: 0.0), resolver)
    assert literal == [Candidate(b"192.0.2.9", port=209, host=b"[192.0.2.9]", by_qmtp=True)]
