"""What fuzzing, and looking for what a stranger can make grow, has found: each with the input that showed it."""

import asyncio
from pathlib import Path

import pytest

from notqmail.control.remote_settings import RemoteSettings
from notqmail.deliver.routes import ADDRESSES_MAX, EXCHANGERS_MAX, candidates
from notqmail.deliver.worker_link import BadPacket, Job, decode_jobs, encode_jobs
from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong
from notqmail.policy.relay import may_receive
from notqmail.unix.resolver import configured_servers, found, parse_server


def test_a_port_that_is_none_is_no_server() -> None:
    """It was an OverflowError at the first question, which ended qmail-remote."""
    assert parse_server("127.0.0.1:65535") == ("127.0.0.1", 65_535)
    for text in ("127.0.0.1:65536", "127.0.0.1:" + "9" * 5_000, "[::1]:99999", "127.0.0.1:-1"):
        assert parse_server(text) is None


def test_a_nul_in_resolv_conf_is_no_server(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"nameserver \0\nnameserver 127.0.0.2\n")
    assert configured_servers({}, str(path)) == [("127.0.0.2", 53)]


def test_a_packet_for_a_worker_ends_with_its_last_field() -> None:
    packet = encode_jobs([Job(1, b"u", b"/h", b"l", b"-", b"e", b"d", b"s")])
    assert len(decode_jobs(packet)) == 1
    with pytest.raises(BadPacket):
        decode_jobs(packet + b"x")


@pytest.mark.parametrize("size", [99, 100, 101])
def test_the_limit_of_a_header_does_not_depend_on_how_it_is_cut(size: int) -> None:
    """A long first line of a body without blank line was too long in two pieces and not in one."""
    text = b"To: a\n" + b"x" * (size - 7) + b"\n"

    def refused(*pieces: bytes) -> bool:
        splitter = HeaderSplitter(header_max=99)
        try:
            for piece in pieces:
                splitter.receive(piece)
            splitter.finish()
        except HeaderTooLong:
            return True
        return False

    assert refused(text) == refused(text[:-1], text[-1:]) == (size > 99)


def test_a_host_with_a_thousand_exchangers_gets_a_look_at_the_best() -> None:
    """Each was looked up twice, all at the same time, each with a socket: one domain could take all descriptors."""
    search = candidates(b"x.test", RemoteSettings(b"me"), own=(), draw=lambda: 0.0)
    next(search)
    questions = search.send([found(*((number, b"mx%d.test" % number) for number in range(1_000)))])
    assert [name for _, name in questions] == [b"mx%d.test" % number for number in range(EXCHANGERS_MAX)]
    with pytest.raises(StopIteration) as end:
        search.send([found(*(b"192.0.2.%d" % number for number in range(250)))] * EXCHANGERS_MAX)
    assert len(end.value.value) == ADDRESSES_MAX


def test_a_host_of_dots_costs_no_look_up_for_each_of_them() -> None:
    asked: list[bytes] = []

    def knows(host: bytes) -> bool:
        asked.append(host)
        return False

    assert not may_receive(b"a@" + b"." * 800, frozenset(), knows)
    assert asked == []
    assert may_receive(b"a@" + b"x" * 300 + b".here.test", frozenset({b".here.test"}), knows)


def test_a_peer_that_talks_while_we_send_makes_no_progress() -> None:
    """One byte now and then, and not one of ours taken, held a delivery for ever."""
    from notqmail.deliver.dialogues import SmtpDialogue
    from notqmail.deliver.remote_async import Connection
    from notqmail.wire.smtp_client import Envelope

    async def progress_after_talk() -> tuple[float, float]:
        dialogue = SmtpDialogue(b"192.0.2.1", b"me")
        session = dialogue.session
        connection = Connection(asyncio.get_running_loop(), dialogue, 60.0)
        session.begin(Envelope(b"", [b"a@b"]))
        session.receive(b"220 hi\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        connection._pieces = iter([b"unsent"])
        connection._progress_s = 1.0
        connection.data_received(b"x")
        while_sending = connection._progress_s
        connection._pieces = None
        connection._message = None
        connection.data_received(b"x")
        return while_sending, connection._progress_s

    while_sending, after = asyncio.run(progress_after_talk())
    assert while_sending == 1.0
    assert after > 1.0
