"""The resident's driver: many jobs in one event loop, each with its own connection and its own time-outs.

Backpressure: a long message is read from its file only as fast as the peer takes it; at most WRITE_BUFFER_BYTES and
one chunk of it are in memory. A time-out is a span without any progress: no byte received, none of ours taken.
"""

import asyncio
import errno
import os
import socket

from notqmail.deliver.dialogues import dialogue_with, unreachable
from notqmail.deliver.remote import (
    NO_MESSAGE,
    NO_RESOURCES,
    NoResources,
    open_socket,
)
from notqmail.deliver.remote_report import refused_at_the_end, reports_of
from notqmail.deliver.routes import NoRoute, candidates
from notqmail.unix.resolver import MX
from notqmail.wire.reports import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from notqmail.deliver.dialogues import Dialogue
    from notqmail.deliver.remote import Job, Message, Surroundings
    from notqmail.deliver.routes import Asking, Candidate
    from notqmail.unix.resolver import Answer
    from notqmail.unix.resolver_async import AsyncResolver
    from notqmail.wire.reports import Report
    from notqmail.wire.smtp_client import Outcome

    Tell = Callable[[int, Report], None]

WRITE_BUFFER_BYTES = 262_144
SINGLY_MAX = 1_000
"""So many servers that answer once are remembered."""


async def deliver(job: "Job", around: "Surroundings", resolver: "AsyncResolver", tell: "Tell") -> None:
    """Delivers, or says why not: `tell(number, report)` once for each recipient, as soon as it is known.

    Whatever the network does is a report, no exception.
    """
    settings = around.settings
    everybody = range(len(job.recipients))
    report = NO_RESOURCES
    try:
        search = candidates(job.host, settings, own=around.own, draw=around.draw)
        found = await answered(search, resolver)
        report = unreachable(found)
        for candidate in found:
            link = await connected(candidate, around)
            if link is not None:
                connection = await open_connection(link, dialogue_with(candidate, settings), settings.timeout_s)
                try:
                    return await by_connection(job, connection, (candidate.address, candidate.port), around, tell)
                finally:
                    connection.quit()
    except NoRoute as nowhere:
        report = nowhere.report
    except NoResources:
        report = NO_RESOURCES
    for number in everybody:
        tell(number, report)


async def by_connection(
    job: "Job", connection: "Connection", server: tuple[bytes, int], around: "Surroundings", tell: "Tell"
) -> None:
    """All of a job at once; each recipient for himself where the server is known to answer only once."""
    everybody = range(len(job.recipients))
    if server not in around.singly:
        await hand_over(job, everybody, connection, tell)
        if connection.answers_once and len(around.singly) < SINGLY_MAX:
            around.singly.add(server)
        return
    for number in everybody:
        if number and not connection.may_transact:
            tell(number, temporary(b"Connected to %b but connection died. (#4.4.2)\n" % server[0]))
            continue
        await hand_over(job.only_for([number]), [number], connection, tell)


async def hand_over(job: "Job", numbers: "Sequence[int]", connection: "Connection", tell: "Tell") -> None:
    """One transaction. Who was refused behind the last one accepted is asked once more on the same connection, without
    those before: many servers take only so many at once. Nobody's refusal is final before, for nobody's would be in C,
    where everybody comes alone.

    It comes to an end: only who came after an accepted one is asked again.
    """
    outcome = await connection.transact(job)
    reports = reports_of(outcome, len(job.recipients))
    again = refused_at_the_end(outcome) if connection.may_find_too_many else ()
    for at, report in enumerate(reports):
        if at not in again:
            tell(numbers[at], report)
    if again and outcome.report.succeeded and connection.may_transact:
        return await hand_over(job.only_for(again), [numbers[at] for at in again], connection, tell)
    for at in again:
        tell(numbers[at], temporary(reports[at].text))


async def answered(asking: "Asking", resolver: "AsyncResolver") -> "list[Candidate]":
    """Runs the search for addresses, asking at once what may be asked at once. Raises NoRoute."""
    try:
        questions = next(asking)
        while True:
            if len(questions) == 1:
                answers = [await _ask(resolver, *questions[0])]
            else:
                answers = await asyncio.gather(*(_ask(resolver, kind, name) for kind, name in questions))
            questions = asking.send(answers)
    except StopIteration as end:
        result: list[Candidate] = end.value
        return result


async def _ask(resolver: "AsyncResolver", kind: bytes, name: bytes) -> "Answer":
    return await (resolver.mx(name) if kind == MX else resolver.addresses(name))


async def connected(candidate: "Candidate", around: "Surroundings") -> socket.socket | None:
    """A connection, or None: not now, refused or timed out. Only time-outs are remembered against an address."""
    barred, known = around.timeouts.lookup(candidate.address)
    if barred:
        return None
    try:
        link = open_socket(candidate, around.settings.outgoing_ips)
    except OSError:
        return None  # no such family on this machine: no way to this address
    link.setblocking(False)
    established = False
    try:
        await _connect(link, (candidate.address.decode(), candidate.port), around.settings.connect_timeout_s)
        established = True
    except TimeoutError:
        around.timeouts.note_timeout(candidate.address)
        return None
    except (OSError, OverflowError):  # OverflowError: the route's port is no port
        pass  # refused or unreachable: below
    finally:
        if not established:
            link.close()
    if known:
        around.timeouts.note_answer(candidate.address)
    return link if established else None


async def _connect(link: socket.socket, address: tuple[str, int], timeout_s: float) -> None:
    """connect(2) with a time-out; asyncio.timeout and sock_connect would add a tenth to a delivery. Raises OSError."""
    code = link.connect_ex(address)
    if code == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        timer = loop.call_later(timeout_s, _wake, ready, errno.ETIMEDOUT)
        loop.add_writer(link, _wake, ready, 0)
        try:
            code = await ready or link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        finally:
            timer.cancel()
            loop.remove_writer(link)
    if code:
        raise OSError(code, os.strerror(code))  # TimeoutError for ETIMEDOUT


def _wake(ready: "asyncio.Future[int]", code: int) -> None:
    if not ready.done():
        ready.set_result(code)


async def open_connection(link: socket.socket, dialogue: "Dialogue", timeout_s: float) -> "Connection":
    """Puts a connected socket under the loop's care."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(loop, dialogue, timeout_s), sock=link)
    return connection


class Connection(asyncio.Protocol):
    """One SMTP or QMTP connection: `transact` one job, perhaps another while `may_transact`, then `quit`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialogue: "Dialogue", timeout_s: float) -> None:
        self._loop, self._dialogue, self._session, self._timeout_s = loop, dialogue, dialogue.session, timeout_s
        self._transport: asyncio.Transport | None = None
        self._message: Message | None = None
        self._pieces: Iterator[bytes] | None = None  # of the body being sent
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._patience_s = timeout_s
        self._progress_s = loop.time()
        self._unsent = 0  # bytes in the write buffer when the timer last looked
        self._timer: asyncio.TimerHandle | None = None

    @property
    def may_transact(self) -> bool:
        """Whether this connection can take another job."""
        return self._session.may_begin and self._can_write()

    @property
    def may_find_too_many(self) -> bool:
        """Whether a refusal behind somebody who was accepted may mean only that there were too many."""
        return self._dialogue.may_find_too_many

    @property
    def answers_once(self) -> bool:
        """Whether the peer left it at one answer for several recipients."""
        return self._dialogue.answers_once

    async def transact(self, job: "Job") -> "Outcome":
        """Hands one message over."""
        self._message = job.message
        self._patience_s = self._timeout_s
        self._waiter = self._loop.create_future()
        self._progress_s = self._loop.time()
        if self._transport is None:  # gone before we began
            self._session.connection_died()
        else:
            self._timer = self._loop.call_later(self._timeout_s, self._look_for_progress)
            self._send(self._dialogue.begin(job))
            self._look_for_body()
            self._look_for_end()
        if self._session.outcome is None:
            await self._waiter
        if self._timer is not None:
            self._timer.cancel()
        assert self._session.outcome is not None
        return self._session.outcome

    def quit(self) -> None:
        """Takes leave without waiting for the answer; what the peer has not taken of a broken-off body is dropped."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._pieces is not None or transport.get_write_buffer_size() or self._session.outcome is None:
            transport.abort()
            return
        transport.write(self._dialogue.farewell)
        transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's is no subclass
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._pieces is None:  # a peer that talks and does not take our message makes no progress
            self._progress_s = self._loop.time()
        self._send(self._session.receive(data))
        self._look_for_less_patience()
        self._look_for_body()
        self._look_for_end()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._progress_s = self._loop.time()
        if self._pieces is not None:
            self._send_body()
            self._look_for_end()

    def eof_received(self) -> bool:
        return False  # the transport closes itself, and connection_lost tells

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._session.connection_died()
        self._look_for_end()

    def _send(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _can_write(self) -> bool:
        """Not so while connection_lost is still to come: what is written then goes nowhere."""
        return self._transport is not None and not self._transport.is_closing()

    def _look_for_body(self) -> None:
        if self._session.wants_body and self._pieces is None and self._message is not None:
            self._pieces = self._dialogue.body(self._message)
            self._send_body()

    def _send_body(self) -> None:
        assert self._pieces is not None
        try:
            while not self._paused and self._session.outcome is None and self._can_write():
                piece = next(self._pieces, None)
                if piece is None:
                    self._pieces = None
                    self._send(self._session.after_body())
                    return
                self._send(piece)
        except OSError:
            self._session.give_up(NO_MESSAGE)

    def _look_for_end(self) -> None:
        if self._session.outcome is not None and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_for_less_patience(self) -> None:
        """Once: from then on the timer comes sooner."""
        patience_s = self._dialogue.patience_s(self._timeout_s)
        if patience_s < self._patience_s and self._timer is not None:
            self._patience_s = patience_s
            self._timer.cancel()
            self._timer = self._loop.call_later(patience_s, self._look_for_progress)

    def _look_for_progress(self) -> None:
        """The one timer: set for when the time is up if nothing happens, and set again when something did."""
        now_s = self._loop.time()
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if unsent < self._unsent:
            self._progress_s = now_s
        self._unsent = unsent
        if now_s < self._progress_s + self._patience_s:
            self._timer = self._loop.call_at(self._progress_s + self._patience_s, self._look_for_progress)
            return
        self._session.connection_died()
        self._look_for_end()
