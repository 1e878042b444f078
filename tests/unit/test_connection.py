"""One connection of a listening resident: what it does with a client that is refused, silent, gone, or too quick."""

import asyncio
from types import SimpleNamespace

import pytest

from notqmail.control.files import Missing
from notqmail.policy.limits import ConnectionLimits
from notqmail.receive.connection import KEPT_BYTES_MAX, Client
from notqmail.receive.server import Server
from notqmail.wire import queue_exit
from notqmail.wire.reports import success


class Transport:
    """What the network would have seen."""

    def __init__(self, **info: object) -> None:
        self.info = {"peername": ("192.0.2.1", 1234), "sockname": ("192.0.2.9", 25), **info}
        self.written, self.events, self.closing = b"", list[str](), False
        self.get_extra_info = self.info.get

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True
        self.events.append("close")

    def abort(self) -> None:
        self.closing = True
        self.events.append("abort")

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.events.append("pause")

    def resume_reading(self) -> None:
        self.events.append("resume")


class Session:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.waiting, self.kept_bytes, self.exit_code = False, 0, None
        self.said, self.answers, self.vanished = b"", list[object](), 0

    def greet(self) -> bytes:
        return b"hello "

    def receive(self, data: bytes) -> bytes:
        if data == b"bug":
            raise ValueError("what?")
        if data == b"quit":
            self.exit_code = 0
        return b"<" + data + b">"

    def time_out(self) -> bytes:
        self.exit_code = 1
        return b"time "

    def go_down(self) -> bytes:
        self.exit_code = 1
        return b"bye "

    def answer(self, report: object, number: int) -> bytes:
        self.waiting = False
        self.answers.append((report, number))
        return b"answer "

    def vanish(self) -> None:
        self.vanished += 1


class House:
    """A server with one client on it."""

    def __init__(
        self,
        *,
        trouble: Exception | None = None,
        rules: object = None,
        limit: int = 1,
        all_max: int | None = None,
        **info: object,
    ) -> None:
        self.session, self.transport, self.logged = Session(), Transport(**info), list[str]()
        self.clients, self.future, self.environ = list[Client](), asyncio.Future[object](loop=NO_LOOP), {}
        self.limits = ConnectionLimits(limit if all_max is None else all_max, limit)
        self.trouble = trouble
        server = SimpleNamespace(
            loop=SimpleNamespace(time=lambda: 7.0), limits=self.limits, rules=rules, envelopes=None,
            environ={b"A": b"1"}, log=self.logged.append, joined=self.clients.append, left=self.clients.remove,
            service=SimpleNamespace(busy=b"busy ", no_controls=b"controls ", open_session=self.open_session),
            door=SimpleNamespace(submit=lambda *_: self.future),
        )  # fmt: skip
        self.client = Client(server)  # type: ignore[arg-type]
        self.client.connection_made(self.transport)  # type: ignore[arg-type]

    def open_session(self, environ: dict[bytes, bytes], sink: object, _: object) -> tuple[Session, float]:
        if self.trouble is not None:
            raise self.trouble
        self.environ = environ
        return self.session, 60.0

    def hand_over(self) -> None:
        self.session.waiting = True
        self.client.hand_over(None, b"s", [])  # type: ignore[arg-type]


NO_LOOP = SimpleNamespace(call_soon=lambda callback, *arguments, context: callback(*arguments), get_debug=lambda: False)


def test_a_session_begins_with_its_greeting_and_knows_both_ends() -> None:
    house = House()
    assert house.transport.written == b"hello " and house.client.timeout_s == 60.0
    assert house.environ == {
        b"A": b"1", b"TCPREMOTEIP": b"192.0.2.1", b"TCPREMOTEPORT": b"1234", b"TCPLOCALIP": b"192.0.2.9",
        b"TCPLOCALPORT": b"25",
    }  # fmt: skip
    house.client.data_received(b"x")
    house.client.data_received(b"quit")
    assert house.transport.written == b"hello <x><quit>" and house.transport.events == ["close"]
    house.client.connection_lost(None)
    assert (house.session.vanished, house.limits.count, house.clients) == (1, 0, [])


@pytest.mark.parametrize("gone", [{"peername": None}, {"sockname": None}])
def test_a_client_that_has_gone_already_is_only_let_go(gone: dict[str, object]) -> None:
    house = House(**gone)  # type: ignore[arg-type]
    assert house.transport.events == ["abort"] and house.transport.written == b""
    house.client.connection_lost(None)
    assert house.limits.count == 0 and house.clients == []


def test_one_client_too_many_from_an_address_is_not_one_too_many_of_all() -> None:
    house = House(limit=1, all_max=2)
    other = Client(house.client._server)
    other.connection_made(Transport())  # type: ignore[arg-type]
    assert house.logged == ["192.0.2.1: refused: too many connections from this address"]


@pytest.mark.parametrize(
    ("wanted", "files", "most"), [(1_000, 2_064, 1_000), (1_000, 2_063, 999), (1_000, 1_024, 480), (5, 20, 1)]
)
def test_half_of_the_files_that_may_be_open_are_for_connections_and_the_log_says_when_that_is_less(
    wanted: int, files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("notqmail.receive.server.allow_many_open_files", lambda: files)
    monkeypatch.setattr("notqmail.receive.server.complain", said.append)
    options = SimpleNamespace(rules=None, limit=wanted, limit_per_address=9)

    async def begin() -> Server:
        return Server(b"/nowhere", {}, None, options, SimpleNamespace(name="qmail-smtpd"))  # type: ignore[arg-type]

    server = asyncio.run(begin())
    admitted = sum(server.limits.admit(str(number)) for number in range(wanted + 1))
    assert admitted == most
    line = f"qmail-smtpd: at most {most} connections, not {wanted}: no more than {files} files may be open"
    assert said == ([line] if most < wanted else [])


def test_one_client_too_many_is_told_so_and_does_not_count() -> None:
    house = House(limit=0)
    assert house.transport.written == b"busy " and house.transport.events == ["close"]
    assert house.logged == ["192.0.2.1: refused: too many connections"]
    house.client.data_received(b"never mind")
    assert house.transport.written == b"busy " and not house.client.eof_received()
    house.client.was_silent(99.0)  # it does not even take its refusal
    assert house.transport.events == ["close", "abort"]
    house.client.connection_lost(None)
    assert house.limits.count == 0


@pytest.mark.parametrize("trouble", [Missing("me"), OSError(5, "disk")])
def test_without_readable_controls_the_client_is_sent_away_for_now(trouble: Exception) -> None:
    house = House(trouble=trouble)
    assert house.transport.written == b"controls " and house.transport.events == ["close"]
    assert "unable to read rules or controls" in house.logged[0]
    house.client.connection_lost(None)
    assert house.limits.count == 0


@pytest.mark.parametrize("denied", [True, False])
def test_rules_deny_a_client_or_add_to_its_environment(denied: bool) -> None:
    verdict = SimpleNamespace(denied=denied, environment={b"RELAYCLIENT": b""})
    house = House(rules=SimpleNamespace(look_up=lambda _: verdict))
    if denied:
        assert (house.transport.events, house.transport.written) == (["abort"], b"")
        assert house.logged == ["192.0.2.1: denied by the rules"]
    else:
        assert house.environ[b"RELAYCLIENT"] == b""


def test_a_bug_costs_one_client_its_connection() -> None:
    house = House()
    house.client.data_received(b"bug")
    assert house.transport.events == ["abort"] and house.logged == ["192.0.2.1: bug: ValueError: what?"]


def test_who_sends_far_ahead_of_the_answer_waits_for_it() -> None:
    house = House()
    house.hand_over()
    house.session.kept_bytes = KEPT_BYTES_MAX + 1
    house.client.data_received(b"a")
    house.client.data_received(b"b")
    assert house.transport.events == ["pause"]
    house.client.pause_writing()
    house.future.set_result((success(), 7))
    assert house.session.answers == [(success(), 7)] and house.transport.events == ["pause", "pause"]
    house.client.resume_writing()  # only now does nothing hold it
    assert house.transport.events == ["pause", "pause", "resume"]


def test_a_bug_on_the_way_to_the_queue_is_temporary() -> None:
    house = House()
    house.hand_over()
    house.future.set_exception(ValueError("what?"))
    assert house.session.answers == [(queue_exit.CRASHED, 0)]
    assert house.logged == ["192.0.2.1: bug: ValueError: what?"]


def test_who_says_no_more_still_gets_the_answer_and_who_left_needs_none() -> None:
    house = House()
    house.hand_over()
    assert house.client.eof_received()
    house.future.set_result((success(), 7))
    assert house.transport.written == b"hello answer " and house.transport.events == ["close"]
    gone = House()
    gone.hand_over()
    gone.client.connection_lost(None)
    gone.future.set_result((success(), 7))
    assert gone.session.answers == [] and gone.session.vanished == 1


def test_silence_ends_a_session_but_not_while_the_queue_is_the_silent_one() -> None:
    house = House()
    house.hand_over()
    house.client.was_silent(50.0)
    assert house.transport.written == b"hello " and house.transport.events == []
    house.session.waiting = False
    house.client.was_silent(99.0)
    assert house.transport.written == b"hello time " and house.client.active_s == 99.0
    house.client.was_silent(199.0)  # who does not take even that is cut off
    assert house.transport.events == ["close", "abort"]


def test_a_server_that_stops_says_goodbye_where_there_is_somebody_to_hear_it() -> None:
    house = House()
    house.client.go_down()
    house.client.data_received(b"x")  # too late
    assert house.transport.written == b"hello bye " and house.transport.events == ["close"]
    refused = House(limit=0)
    refused.client.go_down()
    assert refused.transport.events == ["close", "abort"]
    refused.client.pause_writing()
    refused.client.resume_writing()
    assert refused.transport.events == ["close", "abort"]
