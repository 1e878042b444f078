"""Mail that cannot be delivered comes back in the form that bounce parsers know (QSBMF), told by a fake DNS."""

import re
import signal
from collections.abc import Iterator

import pytest
from interop_system import System, wait_for

from notqmail.testing.dns_server import SERVFAIL, FakeDnsServer

ORIGINAL = b"From: me@here.test\nTo: them@there.test\nSubject: will not arrive\n\noriginal text\n"
GAVE_UP = b"I'm not going to try again; this message has been in the queue too long."


@pytest.fixture
def dns(system: System) -> Iterator[FakeDnsServer]:
    """A DNS server that knows nothing yet; our system asks it and no other."""
    with FakeDnsServer() as server:
        host, port = server.address
        system.environ["DNSCACHEIP"] = f"{host}:{port}"
        yield server


def returned(message: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """(introduction, [(address, why)], what is below the break) of a QSBMF message; asserts its form."""
    body = message.partition(b"\n\n")[2]
    paragraphs, line, below = body.partition(b"\n--- Below this line is ")
    assert line, body
    introduction, *recipients = paragraphs.strip(b"\n").split(b"\n\n")
    assert introduction.startswith(b"Hi. This is the qmail-send program at localhost.localdomain.\n")
    found = []
    for paragraph in recipients:
        match = re.fullmatch(rb"<(.*)>:\n(.*)", paragraph, re.DOTALL)
        assert match, paragraph
        found.append((match[1], match[2]))
    return introduction, found, below


def send(system: System, recipient: str, sender: str) -> None:
    """Hands one message to the queue."""
    done = system.run("qmail-inject", "-a", f"-f{sender}", recipient, data=ORIGINAL)
    assert done.returncode == 0, done.stderr


def test_an_unknown_host_bounces_at_once(system: System, dns: FakeDnsServer) -> None:
    system.start(smtpd=False)
    send(system, "someone@no-such-host.test", system.address)
    (bounce,) = system.wait_mail()
    assert bounce.startswith(b"Return-Path: <>\nDelivered-To: " + system.address.encode() + b".localdomain\n")
    assert b"\nSubject: failure notice\n" in bounce
    introduction, recipients, below = returned(bounce)
    assert b"This is a permanent error; I've given up. Sorry it didn't work out." in introduction
    assert recipients == [
        (b"someone@no-such-host.test", b"Sorry, I couldn't find any host named no-such-host.test. (#5.1.2)")
    ]
    assert below.startswith(
        b"a copy of the message.\n\nReturn-Path: <" + system.address.encode() + b".localdomain>\nReceived: "
    )
    assert below.endswith(ORIGINAL)
    system.wait_empty()


def test_a_failing_dns_bounces_only_after_queuelifetime(system: System, dns: FakeDnsServer) -> None:
    dns.misbehave("troubled.test", SERVFAIL)
    system.control("queuelifetime", "0\n")
    system.start(smtpd=False)
    send(system, "someone@troubled.test", system.address)

    def tried_again_until_mail_came() -> bool:
        system.signal_send(signal.SIGALRM)  # all messages are due now; older than 0 s they are in a second at most
        return any((system.maildir / "new").iterdir())

    wait_for(tried_again_until_mail_came, "the bounce", look=system.log_text)
    (bounce,) = system.wait_mail()
    _, recipients, below = returned(bounce)
    ((address, why),) = recipients
    assert address == b"someone@troubled.test"
    assert why.startswith(b"Sorry, I couldn't find any host by that name. (#4.1.2)\n")
    assert why.endswith(GAVE_UP)
    assert below.endswith(ORIGINAL)
    system.wait_empty()


def test_a_bounce_that_bounces_goes_to_the_postmaster(system: System, dns: FakeDnsServer) -> None:
    system.start(smtpd=False)
    send(system, "someone@no-such-host.test", "nobody@gone-too.test")
    (double,) = system.wait_mail()
    assert double.startswith(b"Return-Path: <#@[]>\n")
    assert b"\nDelivered-To: postmaster@localhost.localdomain\n" in double
    introduction, recipients, below = returned(double)
    assert b"I tried to deliver a bounce message to this address, but the bounce bounced!" in introduction
    assert [address for address, _ in recipients] == [b"nobody@gone-too.test"]
    assert below.startswith(b"the original bounce.\n\nReturn-Path: <>\nReceived: ")
    assert below.endswith(ORIGINAL)
    system.wait_empty()


def test_a_triple_bounce_is_discarded_with_a_log_line(system: System, dns: FakeDnsServer) -> None:
    system.control("doublebounceto", "nobody-here\n")
    system.start(smtpd=False)
    send(system, "someone@no-such-host.test", "nobody@gone-too.test")
    system.wait_log(b"triple bounce: discarding bounce/")
    system.wait_empty()
    assert not list((system.maildir / "new").iterdir())


def test_all_failures_of_one_message_come_back_in_one_bounce(system: System, dns: FakeDnsServer) -> None:
    system.start(smtpd=False)
    done = system.run(
        "qmail-inject", "-a", f"-f{system.address}", "a@no-such-host.test", "no-such-box@localhost", data=ORIGINAL
    )
    assert done.returncode == 0, done.stderr
    (bounce,) = system.wait_mail()
    _, recipients, _ = returned(bounce)
    assert sorted(recipients) == [
        (b"a@no-such-host.test", b"Sorry, I couldn't find any host named no-such-host.test. (#5.1.2)"),
        (b"no-such-box@localhost.localdomain", b"Sorry, no mailbox here by that name. (#5.1.1)"),
    ]
    system.wait_empty()
