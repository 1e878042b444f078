"""The bounce message to the byte (qmail-send(8))."""

import pytest

from notqmail.message.bounce_text import bounce_head, bounce_middle, bounce_paragraph


@pytest.mark.parametrize(
    ("address", "report", "paragraph"),
    [
        (b"a@b", b"Sorry.\n", b"<a@b>:\nSorry.\n\n"),
        (b"a@b", b"Sorry.", b"<a@b>:\nSorry.\n\n"),
        (b"a@b", b"", b"<a@b>:\n\n"),
        (b"a b@c", b"x\n", b"<a b@c>:\nx\n\n"),  # not quoted
        (b"a\nb@c", b"x\n", b"<a_b@c>:\nx\n\n"),
        (b"a@b", b"one\n\ntwo\n", b"<a@b>:\none\n/two\n\n"),
        (b"a@b", b"one\n\n\n\ntwo\n", b"<a@b>:\none\n///two\n\n"),
        (b"a@b", b"\none\n", b"<a@b>:\n/one\n\n"),
        (b"a@b", b"one\n\n", b"<a@b>:\none\n\n\n"),  # the last byte is not looked at
        (b"a@b", b"one\n\n\n", b"<a@b>:\none\n/\n\n"),
        (b"a@b", b"\n", b"<a@b>:\n\n\n"),
    ],
)
def test_a_recipients_paragraph(address: bytes, report: bytes, paragraph: bytes) -> None:
    assert bounce_paragraph(address, report) == paragraph


def test_a_single_bounce() -> None:
    head = bounce_head(
        now_s=0, bounce_from=b"MAILER-DAEMON", bounce_host=b"me.org", recipient=b"joe smith@x.org",
        original_sender=b"joe smith@x.org",
    )  # fmt: skip
    assert head == (
        b"Date: 1 Jan 1970 00:00:00 -0000\n"
        b"From: MAILER-DAEMON@me.org\n"
        b'To: "joe smith"@x.org\n'
        b"Subject: failure notice\n"
        b"\n"
        b"Hi. This is the qmail-send program at me.org.\n"
        b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        b"This is a permanent error; I've given up. Sorry it didn't work out.\n"
        b"\n"
    )
    assert bounce_middle(b"joe smith@x.org") == (
        b'--- Below this line is a copy of the message.\n\nReturn-Path: <"joe smith"@x.org>\n'
    )


def test_a_double_bounce() -> None:
    head = bounce_head(
        now_s=0, bounce_from=b"mail daemon", bounce_host=b"me.org", recipient=b"postmaster@me.org",
        original_sender=b"",
    )  # fmt: skip
    assert head == (
        b"Date: 1 Jan 1970 00:00:00 -0000\n"
        b'From: "mail daemon"@me.org\n'
        b"To: postmaster@me.org\n"
        b"Subject: failure notice\n"
        b"\n"
        b"Hi. This is the qmail-send program at me.org.\n"
        b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"
        b"\n"
    )
    assert bounce_middle(b"") == b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n"


def test_the_bounce_of_mail_with_one_address_per_recipient_shows_the_short_sender() -> None:
    assert bounce_middle(b"pre-@host-@[]").endswith(b"\nReturn-Path: <pre-@host>\n")
