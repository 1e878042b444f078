"""unix.resolver and its asynchronous sister against a DNS server that answers in every way there is."""

import asyncio

import pytest

from notqmail.testing import dns_server
from notqmail.testing.dns_server import FakeDnsServer
from notqmail.unix.resolver import (
    HARD,
    SOFT,
    Answer,
    DnsResolver,
    both_families,
    configured_servers,
    found,
    parse_server,
)
from notqmail.unix.resolver_async import AsyncDnsResolver

TRY_S = 0.15


@pytest.fixture
def server():
    with FakeDnsServer() as running:
        running.records("y.example", "MX", "10 a.y.example.", "5 b.y.example.")
        running.records("null.example", "MX", "0 .")
        running.records("two.example", "A", "192.0.2.1", "192.0.2.2")
        running.records("two.example", "AAAA", "2001:db8::2")
        running.records("four.example", "A", "192.0.2.4")
        running.records("alias.example", "CNAME", "second.example.")
        running.records("second.example", "CNAME", "four.example.")
        running.records("loop.example", "CNAME", "loop.example.")
        yield running


def ask_blocking(servers, kind, host):
    return getattr(DnsResolver(servers, try_s=TRY_S), kind)(host)


def ask_async(servers, kind, host):
    async def ask():
        return await getattr(AsyncDnsResolver(servers, steady_s=lambda: 0.0, try_s=TRY_S), kind)(host)

    return asyncio.run(ask())


def ask_uvloop(servers, kind, host):
    uvloop = pytest.importorskip("uvloop")

    async def ask():
        return await getattr(AsyncDnsResolver(servers, steady_s=lambda: 0.0, try_s=TRY_S), kind)(host)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(ask())


@pytest.fixture(scope="module", autouse=True)
def uvloop_has_what_it_keeps():
    """The first loop of a process makes a pipe for signals that uvloop keeps for ever: that is no test's leak."""
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()


@pytest.fixture(params=[ask_blocking, ask_async, ask_uvloop])
def ask(request, server):
    return lambda kind, host: request.param([server.address], kind, host)


@pytest.mark.parametrize(
    ("kind", "host", "answer"),
    [
        ("mx", b"y.example", found((10, b"a.y.example"), (5, b"b.y.example"))),
        ("mx", b"Y.EXAMPLE.", found((10, b"a.y.example"), (5, b"b.y.example"))),
        ("mx", b"null.example", found((0, b"."))),
        ("mx", b"two.example", Answer(HARD)),  # the name is there, the record is not
        ("mx", b"nowhere.example", Answer(HARD)),
        ("addresses", b"two.example", found(b"192.0.2.1", b"192.0.2.2", b"2001:db8::2")),
        ("addresses", b"four.example", found(b"192.0.2.4")),
        ("addresses", b"alias.example", found(b"192.0.2.4")),
        ("addresses", b"nowhere.example", Answer(HARD)),
        ("addresses", b"loop.example", Answer(SOFT)),
        ("mx", b"a..b", Answer(HARD)),  # no name the DNS could hold
        ("mx", b"x" * 64 + b".example", Answer(HARD)),
        ("mx", b"\xff\0 odd.example", Answer(HARD)),
        ("addresses", b"", Answer(HARD)),
    ],
)
def test_answers(ask, kind, host, answer):
    got = ask(kind, host)
    if kind == "mx":
        lowered = tuple((preference, name.lower()) for preference, name in got.values)  # compression may change case
        assert (got.kind, lowered) == (answer.kind, answer.values)
    else:
        assert got == answer


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (dns_server.SERVFAIL, SOFT),
        (dns_server.REFUSED, SOFT),
        (dns_server.SILENT, SOFT),
        (dns_server.GARBAGE, SOFT),
        (dns_server.CUT_TCP, SOFT),
        (dns_server.WRONG_ID, "found"),
        (dns_server.TRUNCATED, "found"),
        (dns_server.OLD, "found"),
    ],
)
def test_a_server_that_misbehaves_costs_a_doubt_at_most(ask, server, how, kind):
    server.misbehave("two.example", how)
    answer = ask("addresses", b"two.example")
    assert answer.kind == kind
    if kind == "found":
        assert answer.values == (b"192.0.2.1", b"192.0.2.2", b"2001:db8::2")
    if how == dns_server.TRUNCATED:
        assert ("two.example", "A", "tcp") in server.questions


def test_a_dead_server_gives_way_to_the_next(server):
    with FakeDnsServer() as gone:
        dead = gone.address
    for asker in (ask_blocking, ask_async):
        assert asker([dead, server.address], "addresses", b"four.example") == found(b"192.0.2.4")
        assert asker([dead], "addresses", b"four.example") == Answer(SOFT)


def remembering(server, now):
    return AsyncDnsResolver([server.address], steady_s=lambda: now[0], try_s=TRY_S, remembered_max=4)


def test_answers_are_remembered_for_their_ttl_and_doubts_are_not(server):
    async def scenario():
        now = [0.0]
        resolver = remembering(server, now)
        for _ in range(3):
            assert (await resolver.addresses(b"four.example")).values == (b"192.0.2.4",)
            assert (await resolver.mx(b"FOUR.example")).kind == HARD
        assert len(server.questions) == 3  # A, AAAA, MX
        now[0] = 31.0  # the noes are good for 30 seconds, the address for 60
        await resolver.addresses(b"four.example")
        assert server.questions[3:] == [("four.example", "AAAA", "udp")]
        now[0] = 61.0
        await resolver.addresses(b"four.example")
        assert ("four.example", "A", "udp") in server.questions[4:]
        server.misbehave("y.example", dns_server.SERVFAIL)
        assert (await resolver.mx(b"y.example")).kind == SOFT
        server.misbehave("y.example", "")
        assert (await resolver.mx(b"y.example")).kind == "found"

    asyncio.run(scenario())


def test_the_same_question_is_asked_once_at_a_time_and_survives_an_asker_who_leaves(server):
    async def scenario():
        resolver = remembering(server, [0.0])
        first = asyncio.ensure_future(resolver.mx(b"y.example"))
        others = [asyncio.ensure_future(resolver.mx(b"y.example")) for _ in range(10)]
        await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.gather(*others)
        assert {answer.kind for answer in answers} == {"found"}
        assert server.questions == [("y.example", "MX", "udp")]

    asyncio.run(scenario())


def test_the_memory_is_bounded(server):
    async def scenario():
        resolver = remembering(server, [0.0])
        for number in range(20):
            await resolver.mx(b"n%d.example" % number)
        assert len(resolver._remembered) == 4

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("localhost", None),
        ("127.0.0.1:x", None),
        ("", None),
    ],
)
def test_server_address(text, server):
    assert parse_server(text) == server


def test_servers_come_from_the_environment_else_resolv_conf_else_this_machine(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("search x\n; comment\nnameserver 192.0.2.1\nnameserver\nnameserver fe80::1%eth0\noptions edns0\n")
    assert configured_servers({b"DNSCACHEIP": b"192.0.2.9 127.0.0.1:99"}, str(conf)) == [
        ("192.0.2.9", 53), ("127.0.0.1", 99),
    ]  # fmt: skip
    assert configured_servers({}, str(conf)) == [("192.0.2.1", 53), ("fe80::1", 53)]
    assert configured_servers({}, str(tmp_path / "none")) == [("127.0.0.1", 53)]


def test_two_families_count_as_one_answer():
    four, six = found(b"192.0.2.1", ttl_s=9), found(b"2001:db8::1", ttl_s=5)
    assert both_families(four, six).values == (b"192.0.2.1", b"2001:db8::1")
    assert both_families(four, six).ttl_s == 5
    assert both_families(four, Answer(SOFT)) == four
    assert both_families(Answer(HARD), Answer(SOFT)) == Answer(SOFT)
    assert both_families(Answer(HARD), Answer(HARD)) == Answer(HARD)
