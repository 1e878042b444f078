"""deliver.routes: which addresses to try, in which order."""

import pytest

from notqmail.control.remote_settings import RemoteSettings
from notqmail.deliver.remote_once import answered
from notqmail.deliver.routes import (
    AMBIGUOUS,
    NO_ADDRESS_YET,
    NO_EXCHANGER,
    Candidate,
    NoRoute,
    candidates,
    parse_literal,
)
from notqmail.testing.resolver import FakeResolver
from notqmail.unix.resolver import HARD, SOFT, Answer, found

OWN = frozenset({b"0.0.0.0", b"192.0.2.250"})


def look_up(host, resolver=None, *, routes=None, draws=(0.1, 0.2, 0.3, 0.4)):
    settings = RemoteSettings(b"me", routes=routes)
    search = candidates(host, settings, own=OWN, draw=iter(draws).__next__)
    return answered(search, resolver or FakeResolver())


def refusal(*args, **kwargs):
    with pytest.raises(NoRoute) as caught:
        look_up(*args, **kwargs)
    return caught.value.report


def addresses_of(host, resolver=None, **kwargs):
    return [candidate.address for candidate in look_up(host, resolver, **kwargs)]


def test_exchangers_are_tried_by_preference_and_each_with_all_its_addresses_in_the_answers_order():
    resolver = FakeResolver(
        mx={b"y.example": found((20, b"b.example"), (10, b"a.example"))},
        addresses={b"a.example": found(b"192.0.2.9", b"192.0.2.1", b"2001:db8::1"), b"b.example": found(b"192.0.2.2")},
    )
    assert look_up(b"y.example", resolver) == [
        Candidate(b"192.0.2.9", preference=10, host=b"a.example"),
        Candidate(b"192.0.2.1", preference=10, host=b"a.example"),
        Candidate(b"2001:db8::1", preference=10, host=b"a.example"),
        Candidate(b"192.0.2.2", preference=20, host=b"b.example"),
    ]


def test_chance_orders_equal_preferences_only():
    resolver = FakeResolver(
        mx={b"y": found((5, b"a"), (5, b"b"), (1, b"c"))},
        addresses={b"a": found(b"192.0.2.1"), b"b": found(b"192.0.2.2"), b"c": found(b"192.0.2.3")},
    )
    assert addresses_of(b"y", resolver, draws=(0.1, 0.2, 0.9)) == [b"192.0.2.3", b"192.0.2.1", b"192.0.2.2"]
    assert addresses_of(b"y", resolver, draws=(0.2, 0.1, 0.9)) == [b"192.0.2.3", b"192.0.2.2", b"192.0.2.1"]


def test_a_host_without_exchangers_is_its_own():
    resolver = FakeResolver(addresses={b"y": found(b"192.0.2.1")})
    assert addresses_of(b"y", resolver) == [b"192.0.2.1"]
    assert resolver.asked == [("MX", b"y"), ("ADDRESSES", b"y")]


@pytest.mark.parametrize(
    ("mx", "addresses", "report"),
    [
        ({b"y": Answer(SOFT)}, {b"y": found(b"192.0.2.1")}, NO_ADDRESS_YET),  # never fall back on a doubt
        ({}, {b"y": Answer(SOFT)}, NO_ADDRESS_YET),
        ({b"y": found((1, b"a"))}, {}, NO_EXCHANGER),
        ({b"y": found((1, b"a"), (2, b"b"))}, {b"a": Answer(HARD), b"b": Answer(SOFT)}, NO_ADDRESS_YET),
    ],
)
def test_no_address(mx, addresses, report):
    assert refusal(b"y", FakeResolver(mx=mx, addresses=addresses)) == report


def test_an_exchanger_that_cannot_be_found_is_passed_over():
    resolver = FakeResolver(
        mx={b"y": found((1, b"a"), (2, b"b"))}, addresses={b"a": Answer(SOFT), b"b": found(b"192.0.2.2")}
    )
    assert addresses_of(b"y", resolver) == [b"192.0.2.2"]


def test_a_host_that_does_not_exist_is_named_without_its_odd_bytes():
    assert refusal(b"no such\nhost").text == b"Sorry, I couldn't find any host named no?such?host. (#5.1.2)\n"
    assert refusal(b"").kind == b"D"


def test_a_null_exchanger_takes_no_mail_and_nothing_else_is_asked():
    resolver = FakeResolver(mx={b"y": found((0, b"."))}, addresses={b"y": found(b"192.0.2.1")})
    report = refusal(b"y", resolver)
    assert report.kind == b"D" and b"(#5.1.10)" in report.text
    assert resolver.asked == [("MX", b"y")]


def test_an_address_where_an_exchangers_name_belongs_is_used():
    resolver = FakeResolver(mx={b"y": found((7, b"192.0.2.4"))})
    assert look_up(b"y", resolver) == [Candidate(b"192.0.2.4", preference=7, host=b"192.0.2.4")]


def test_exchangers_no_better_than_ourselves_are_never_tried():
    resolver = FakeResolver(
        mx={b"y": found((1, b"a"), (2, b"me"), (2, b"b"), (3, b"c"))},
        addresses={b"a": found(b"192.0.2.1"), b"me": found(b"192.0.2.250"), b"b": found(b"192.0.2.2"),
                   b"c": found(b"192.0.2.3")},
    )  # fmt: skip
    assert addresses_of(b"y", resolver) == [b"192.0.2.1"]


@pytest.mark.parametrize("host", [b"me", b"[192.0.2.250]", b"192.0.2.250", b"0.0.0.0"])
def test_being_the_best_exchanger_ourselves_is_refused(host):
    assert refusal(host, FakeResolver(addresses={b"me": found(b"192.0.2.250")})) == AMBIGUOUS


def test_a_route_is_obeyed_even_to_ourselves_and_needs_no_mx():
    resolver = FakeResolver(addresses={b"relay": found(b"192.0.2.250", b"192.0.2.9")})
    assert look_up(b"y", resolver, routes={b"y": b"relay:26"}) == [
        Candidate(b"192.0.2.250", port=26, host=b"relay"), Candidate(b"192.0.2.9", port=26, host=b"relay"),
    ]  # fmt: skip
    assert resolver.asked == [("ADDRESSES", b"relay")]


def test_a_route_to_a_literal_asks_nothing():
    resolver = FakeResolver()
    assert addresses_of(b"y", resolver, routes={b"": b"[IPv6:2001:DB8::1]:26"}) == [b"2001:db8::1"]
    assert resolver.asked == []


def test_a_route_to_nowhere_names_the_relay():
    assert b"named relay." in refusal(b"y", routes={b"": b"relay"}).text
    assert refusal(b"y", FakeResolver(addresses={b"relay": Answer(SOFT)}), routes={b"": b"relay"}) == NO_ADDRESS_YET


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"1.2.3.4", b"1.2.3.4"),
        (b"[1.2.3.4]", b"1.2.3.4"),
        (b"[001.2.3.04]", b"1.2.3.4"),
        (b"[IPv6:::1]", b"::1"),
        (b"[ipv6:2001:DB8:0::1]", b"2001:db8::1"),
        (b"[IPv6:1.2.3.4]", None),
        (b"[IPv6:]", None),
        (b"[IPv6:\xff]", None),
        (b"[IPv6:::1\0]", None),
        (b"[::1]", None),  # RFC 5321 wants the tag
        (b"1.2.3", None),
        (b"1.2.3.4.5", None),
        (b"1.2.3.256", None),
        (b"1.2.3.", None),
        (b"1.2.3.4 ", None),
        (b"1.2.3.+4", None),
        (b"[1.2.3.4", None),
        (b"[]", None),
        (b"", None),
        (b"1.2.3.\xb2", None),
    ],
)
def test_literal(text, address):
    assert parse_literal(text) == address
