"""control.remote_settings: what qmail-remote's control files say."""

import pytest

from notqmail.control.files import Missing
from notqmail.control.remote_settings import Relay, RemoteSettings, parse_relay, read_remote_settings


def settings(**files):
    return read_remote_settings(files.get)


def test_defaults_need_only_a_name():
    found = settings(me=b"me.example\n")
    assert (found.helo_name, found.routes, found.connect_timeout_s, found.timeout_s) == (b"me.example", {}, 60, 1200)
    assert found.outgoing_ips == []


def test_without_any_name_there_are_no_settings():
    with pytest.raises(Missing):
        settings(timeoutremote=b"5\n")


def test_every_file_is_read():
    found = settings(
        me=b"x", helohost=b"mx.example\n", smtproutes=b"#no\nA.example:relay:26\n", timeoutconnect=b"7\n",
        timeoutremote=b"9 seconds\n", outgoingip=b"192.0.2.7\n2001:db8::7\n",
    )  # fmt: skip
    assert found.helo_name == b"mx.example"
    assert found.relay_for(b"a.EXAMPLE") == Relay(b"relay", 26)
    assert (found.connect_timeout_s, found.timeout_s) == (7, 9)
    assert found.outgoing_ips == [b"192.0.2.7", b"2001:db8::7"]


def test_a_timeout_of_nothing_or_of_ages_is_one_the_machine_can_keep():
    assert settings(me=b"x", timeoutremote=b"0").timeout_s == 1
    assert settings(me=b"x", timeoutconnect=b"99999999999999999999").connect_timeout_s == 10_000_000


ROUTES = {
    b"exact.example": b"one",
    b".example": b"suffix",
    b".sub.example": b"",
    b"": b"smart",
}


@pytest.mark.parametrize(
    ("host", "relay"),
    [
        (b"exact.example", b"one"),
        (b"EXACT.example", b"one"),
        (b"a.example", b"suffix"),
        (b"a.b.example", b"suffix"),
        (b"example", b"smart"),  # .example is not example
        (b"x.sub.example", None),  # an empty value says MX
        (b"sub.example", b"suffix"),
        (b"", b"smart"),
        (b".example", b"suffix"),
        (b"elsewhere", b"smart"),
        (b"[192.0.2.1]", b"smart"),  # a literal is routed like any host
    ],
)
def test_the_first_key_that_exists_decides(host, relay):
    found = RemoteSettings(b"me", routes=ROUTES).relay_for(host)
    assert (found.host if found else None) == relay


def test_without_a_matching_route_there_is_none():
    assert RemoteSettings(b"me", routes={b"a": b"b"}).relay_for(b"c.d") is None
    assert RemoteSettings(b"me").relay_for(b"c.d") is None


def test_relays_are_equal_when_host_and_port_are():
    assert Relay(b"a", 25) == Relay(b"a") and hash(Relay(b"a", 25)) == hash(Relay(b"a"))
    for other in (Relay(b"b"), Relay(b"a", 26), (b"a", 25)):
        assert Relay(b"a") != other
    assert repr(Relay(b"a")) == "Relay(b'a', 25)"


@pytest.mark.parametrize(
    ("text", "relay"),
    [
        (b"host", Relay(b"host", 25)),
        (b"host:26", Relay(b"host", 26)),
        (b"host:26:27", Relay(b"host", 26)),
        (b"host:", Relay(b"host", 25)),
        (b"host:x", Relay(b"host", 25)),
        (b"192.0.2.1:99", Relay(b"192.0.2.1", 99)),
        (b"[192.0.2.1]:99", Relay(b"[192.0.2.1]", 99)),
        (b"[IPv6:2001:db8::1]", Relay(b"[IPv6:2001:db8::1]", 25)),
        (b"[IPv6:2001:db8::1]:26", Relay(b"[IPv6:2001:db8::1]", 26)),
        (b"[unclosed:26", Relay(b"[unclosed", 26)),
        (b":26", Relay(b"", 26)),
        (b"host:99999", Relay(b"host", 99999)),  # no port: connecting will fail, for now
    ],
)
def test_relay(text, relay):
    assert parse_relay(text) == relay
