"""QMTP servers that do not answer for each recipient, as mailfront does not: the time it takes, who gets it how often.

cr.yp.to/proto/qmtp.txt, section 2: one response for each envelope recipient address.
"""

import asyncio
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from notqmail.control.remote_settings import RemoteSettings, read_remote_settings
from notqmail.deliver.qmtp_dialogue import OTHER_ANSWERS_S, QmtpDialogue
from notqmail.deliver.remote import Job, Message, Surroundings
from notqmail.deliver.remote_async import deliver
from notqmail.deliver.remote_once import converse
from notqmail.deliver.remote_report import reports_of
from notqmail.wire.netstring import encode as ns
from notqmail.wire.reports import Report, success

if TYPE_CHECKING:
    from notqmail.deliver.tcpto import TimeoutTable
    from notqmail.unix.resolver_async import AsyncResolver

DEADLINE_S = 60.0
K, D = ns(b"Kok"), ns(b"Dno (#5.7.1)")
ACCEPTED = success(b"127.0.0.1 accepted message.\nRemote host said: ok\n")
ONE_OF_THREE = b"Remote host answered for 1 of 3 recipients; QMTP wants an answer for each.\n"
TEXT = b"Subject: x\n\nx\n"


class QmtpServer:
    """A context manager. `packages`: the recipients of each that came; `once`: one answer for a package with several.
    With `leaves` it hangs up after that, else it is silent.
    """

    def __init__(self, *, once: bool = True, leaves: bool = False, answer: bytes = K) -> None:
        self._once, self._leaves, self._answer = once, leaves, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.packages: list[list[bytes]] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "QmtpServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE_S)

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with link, link.makefile("rb") as stream:
                link.settimeout(DEADLINE_S)
                while (parts := [netstring(stream.read) for _ in range(3)])[2] is not None:
                    recipients = list(netstrings(parts[2]))
                    self.packages.append(recipients)
                    link.sendall(self._answer if self._once else self._answer * len(recipients))
                    if self._leaves and len(recipients) > 1:
                        break


def netstring(read: "object") -> bytes | None:
    """The next one of a stream, None at its end."""
    assert callable(read)
    length = b""
    while (byte := read(1)) != b":":
        if not byte:
            return None
        length += byte
    text: bytes = read(int(length))
    assert read(1) == b","
    return text


def netstrings(text: bytes | None) -> Iterator[bytes]:
    """All of them."""
    rest = text or b""
    while rest:
        length, _, rest = rest.partition(b":")
        yield rest[: int(length)]
        rest = rest[int(length) + 1 :]


class NoTimeouts:
    """Remembers nothing."""

    def lookup(self, address: bytes) -> tuple[bool, bool]:
        return False, False

    def note_timeout(self, address: bytes) -> None: ...

    def note_answer(self, address: bytes) -> None: ...


def settings(port: int) -> RemoteSettings:
    files = {"me": b"me.test\n", "qmtproutes": b":127.0.0.1;%d\n" % port, "timeoutremote": b"1\n"}
    return read_remote_settings(files.get)


@pytest.fixture
def job() -> Iterator[Job]:
    with tempfile.TemporaryFile() as file:
        file.write(TEXT)
        file.seek(0)
        yield Job(b"far.test", b"s@x.test", [b"a@far.test", b"b@far.test", b"c@far.test"], Message(file.fileno()))


def delivered(job: Job, around: Surroundings) -> list[Report]:
    """The reports, in the order of the recipients; each is told once."""
    told: dict[int, Report] = {}

    def tell(number: int, report: Report) -> None:
        assert number not in told
        told[number] = report

    asyncio.run(asyncio.wait_for(deliver(job, around, cast("AsyncResolver", None), tell), DEADLINE_S))
    return [told[number] for number in range(len(job.recipients))]


def surroundings(port: int) -> Surroundings:
    return Surroundings(settings(port), own=(), timeouts=cast("TimeoutTable", NoTimeouts()), draw=lambda: 0.5)


@pytest.mark.parametrize("leaves", [False, True], ids=["is silent", "hangs up"])
def test_who_answers_once_gets_the_rest_one_by_one_and_nobody_twice_more(job: Job, leaves: bool) -> None:
    with QmtpServer(leaves=leaves) as server:
        around = surroundings(server.port)
        first, *others = delivered(job, around)
        assert first == ACCEPTED
        assert [one.kind for one in others] == [b"Z", b"Z"]
        assert all(b"Possible duplicate! (#4.4.2)\n" + ONE_OF_THREE in one.text for one in others)
        assert delivered(job.only_for([1, 2]), around) == [ACCEPTED, ACCEPTED]
        assert delivered(job, around) == [ACCEPTED] * 3, "it is remembered"
    assert server.packages == [job.recipients] + [[one] for one in (*job.recipients[1:], *job.recipients)]
    assert server.connections == 3


def test_who_answers_for_each_is_given_all_at_once(job: Job) -> None:
    with QmtpServer(once=False) as server:
        around = surroundings(server.port)
        assert [delivered(job, around) for _ in range(2)] == [[ACCEPTED] * 3] * 2
    assert server.packages == [job.recipients] * 2
    assert not around.singly


def test_one_refusal_for_three_is_nobody_s_until_each_was_asked_for_alone(job: Job) -> None:
    with QmtpServer(answer=D) as server:
        around = surroundings(server.port)
        assert [one.kind for one in delivered(job, around)] == [b"Z"] * 3
        assert [one.kind for one in delivered(job, around)] == [b"D"] * 3


def test_a_connection_that_ends_between_single_packages_puts_off_the_rest(job: Job) -> None:
    with QmtpServer(leaves=True) as server:
        around = surroundings(server.port)
        around.singly.add((b"127.0.0.1", server.port))
        server._listener.settimeout(DEADLINE_S)
        assert delivered(job, around) == [ACCEPTED] * 3
    with QmtpServer(once=False, answer=b"") as server:  # takes a package, says nothing
        around = surroundings(server.port)
        around.singly.add((b"127.0.0.1", server.port))
        reports = delivered(job, around)
    assert [one.kind for one in reports] == [b"Z"] * 3
    assert b"Possible duplicate" in reports[0].text
    assert [one.text for one in reports[1:]] == [b"Connected to 127.0.0.1 but connection died. (#4.4.2)\n"] * 2
    assert server.packages == [[job.recipients[0]]]


@pytest.mark.parametrize("leaves", [False, True], ids=["is silent", "hangs up"])
def test_the_program_says_the_same(job: Job, leaves: bool) -> None:
    with QmtpServer(leaves=leaves) as server, socket.create_connection(("127.0.0.1", server.port)) as link:
        outcome = converse(link, QmtpDialogue(b"127.0.0.1"), job, 1.0)
    first, *others = reports_of(outcome, 3)
    assert first == ACCEPTED
    assert all(one.kind == b"Z" and ONE_OF_THREE in one.text for one in others)


def test_patience_is_short_only_between_two_answers() -> None:
    dialogue = QmtpDialogue(b"192.0.2.1")
    assert dialogue.patience_s(1_200.0) == 1_200.0
    with tempfile.TemporaryFile() as file:
        dialogue.begin(Job(b"h", b"s", [b"a", b"b"], Message(file.fileno())))
        list(dialogue.body(Message(file.fileno())))
    assert dialogue.patience_s(1_200.0) == 1_200.0
    dialogue.session.receive(K)
    assert (dialogue.patience_s(1_200.0), dialogue.patience_s(5.0)) == (OTHER_ANSWERS_S, 5.0)
    dialogue.session.receive(K)
    assert dialogue.patience_s(1_200.0) == 1_200.0
