"""The header of a submission and its envelope (qmail-inject(8), qmail-header(5))."""

from typing import Any

import pytest

from notqmail.message.complete_address import AddressCompletion
from notqmail.message.submission_header import Identity, Stamp, SubmissionHeader
from notqmail.message.tokens822 import UnparsableLine

DATE = b"Date: 14 Nov 2023 22:13:20 -0000\n"
MESSAGE_ID = b"Message-ID: <20231114221320.77.qmail@id.org>\n"
FROM = b"From: joe@host.example.org\n"


def header(*fields: bytes, environ: dict[bytes, bytes] | None = None, **wishes: Any) -> SubmissionHeader:
    made = SubmissionHeader(
        identity=Identity(environ or {b"USER": b"joe"}),
        completion=AddressCompletion(
            default_host=b"host.example.org", default_domain=b"example.org", plus_domain=b"plus.org"
        ),
        stamp=Stamp(now_s=1_700_000_000, pid=77, id_host=b"id.org"),
        **wishes,
    )
    for field in fields:
        made.add(field)
    return made


def test_what_is_missing_is_put_on_top_in_order() -> None:
    assert header(b"Subject: x\n").finish() == (
        DATE + MESSAGE_ID + FROM + b"Cc: recipient list not shown: ;\n" + b"Subject: x\n"
    )


def test_what_is_there_is_kept() -> None:
    fields = (b"Date: then\n", b"Message-ID: <x>\n", b"From: a@b.c\n", b"To: d@e.f\n", b"X:y\n")
    assert header(*fields).finish() == b"".join(fields)


def test_a_cc_is_as_good_as_a_to_but_a_bcc_is_not() -> None:
    assert b"not shown" not in header(b"Cc: a\n").finish()
    assert b"not shown" in header(b"Bcc: a\n").finish()


def test_secret_and_envelope_fields_never_leave() -> None:
    made = header(b"Bcc: a\n", b"Resent-Bcc: b\n", b"Return-Path: <c>\n", b"CONTENT-LENGTH: 3\n")
    assert made.finish() == (
        b"Resent-" + DATE + b"Resent-" + MESSAGE_ID + b"Resent-" + FROM
        + b"Resent-Cc: recipient list not shown: ;\n"
    )  # fmt: skip


def test_recipients_come_right_to_left_field_after_field() -> None:
    made = header(b"To: a, b\n", b"Cc: g: c, d;\n", b"Bcc: e\n", b"Apparently-To: f\n", b"Reply-To: no\n")
    made.finish()
    assert made.recipients == [user + b"@host.example.org" for user in (b"b", b"a", b"d", b"c", b"e", b"f")]


def test_a_resent_messages_recipients_are_the_resent_ones() -> None:
    made = header(b"To: a\n", b"Resent-To: b@x.y\n", b"Resent-Cc: c@x.y\n", b"Resent-Bcc: d@x.y\n")
    text = made.finish()
    assert made.recipients == [b"b@x.y", b"c@x.y", b"d@x.y"]
    assert text == (
        b"Resent-" + DATE + b"Resent-" + MESSAGE_ID + b"Resent-" + FROM
        + b"To: a@host.example.org\nResent-To: b@x.y\nResent-Cc: c@x.y\n"
    )  # fmt: skip


@pytest.mark.parametrize("name", [b"Resent-Date", b"Resent-Message-ID", b"Resent-Sender", b"Resent-Reply-To"])
def test_any_resent_field_makes_a_resent_message(name: bytes) -> None:
    made = header(b"To: a\n", name + b": x\n")
    assert b"Resent-Cc: recipient list not shown: ;\n" in made.finish()
    assert made.recipients == []


def test_header_recipients_are_left_alone_when_not_asked_for() -> None:
    made = header(b"To: a\n", use_recipients=False)
    assert b"To: a@host.example.org\n" in made.finish()
    assert made.recipients == []


BROKEN = [b"To: foo: bar, baz\n", b"Cc: a@b, @r1,@r2:u@v\n", b'Bcc: "joe\n', b"Apparently-To: )\n", b"To: a\\\n"]


@pytest.mark.parametrize("field", [*BROKEN, b"To: a\0b@c\n"])
def test_no_recipient_is_lost_to_a_field_that_does_not_parse(field: bytes) -> None:
    made = header(field)
    with pytest.raises(UnparsableLine) as refused:
        made.finish()
    assert refused.value.line == field


@pytest.mark.parametrize("field", BROKEN)
def test_a_broken_field_passes_when_its_recipients_are_not_asked_for(field: bytes) -> None:
    text = header(field, use_recipients=False).finish()
    assert (field in text) is not field.startswith(b"Bcc")
    made = header(field, b"Resent-To: b@x.y\n")
    made.finish()
    assert made.recipients == [b"b@x.y"]


def test_a_broken_resent_field_matters_in_a_resent_message() -> None:
    with pytest.raises(UnparsableLine):
        header(b"To: a\n", b"Resent-Cc: (\n").finish()


@pytest.mark.parametrize("name", [b"From", b"Sender", b"Reply-To", b"Errors-To", b"Return-Path", b"Resent-From"])
def test_a_senders_field_that_does_not_parse_is_refused_at_once(name: bytes) -> None:
    with pytest.raises(UnparsableLine):
        header(name + b": (\n", use_recipients=False)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, b"From: anonymous@host.example.org\n"),
        ({b"LOGNAME": b"a"}, b"From: a@host.example.org\n"),
        ({b"LOGNAME": b"a", b"USER": b"b"}, b"From: b@host.example.org\n"),
        ({b"USER": b"b", b"MAILUSER": b"c"}, b"From: c@host.example.org\n"),
        ({b"MAILUSER": b"c", b"QMAILUSER": b"d"}, b"From: d@host.example.org\n"),
        ({b"USER": b""}, b'From: ""@host.example.org\n'),
        ({b"USER": b"joe smith"}, b'From: "joe smith"@host.example.org\n'),
        ({b"USER": b"joe.smith"}, b"From: joe.smith@host.example.org\n"),
        ({b"USER": b"j", b"MAILHOST": b"h"}, b"From: j@h.example.org\n"),
        ({b"USER": b"j", b"MAILHOST": b"h", b"QMAILHOST": b"q+"}, b"From: j@q.plus.org\n"),
        ({b"USER": b"j", b"NAME": b"J. S."}, b'From: "J. S." <j@host.example.org>\n'),
        ({b"USER": b"j", b"NAME": b"J", b"MAILNAME": b'K "x"'}, b'From: "K \\"x\\"" <j@host.example.org>\n'),
        ({b"USER": b"j", b"MAILNAME": b"J", b"QMAILNAME": b"K\xe9"}, b'From: "K\xe9" <j@host.example.org>\n'),
    ],
)
def test_the_from_field_comes_from_the_environment(environ: dict[bytes, bytes], line: bytes) -> None:
    assert line in header(environ=environ or {b"HOME": b"/"}).finish()


def test_comment_style_from() -> None:
    text = header(environ={b"USER": b"j", b"NAME": b"J (x)"}, letters=b"c").finish()
    assert b"From: j@host.example.org (J \\(x\\))\n" in text


def test_fields_can_be_asked_to_be_replaced() -> None:
    text = header(b"From: a@b.c\n", b"Message-ID: <x>\n", b"Return-Path: <a@b.c>\n", letters=b"fis")
    assert text.finish() == DATE + MESSAGE_ID + FROM + b"Cc: recipient list not shown: ;\n"
    assert text.sender == b"joe@host.example.org"


@pytest.mark.parametrize(
    ("letters", "environ", "sender"),
    [
        (b"", {b"USER": b"joe"}, b"joe@host.example.org"),
        (b"", {b"USER": b"joe s"}, b"joe s@host.example.org"),
        (b"", {b"USER": b"joe", b"QMAILSUSER": b"sue"}, b"sue@host.example.org"),
        (b"", {b"USER": b"joe", b"QMAILSHOST": b"h"}, b"joe@h.example.org"),
        (b"", {b"USER": b"joe", b"QMAILHOST": b"q", b"QMAILSHOST": b"h"}, b"joe@h.example.org"),
        (b"", {b"USER": b"joe", b"QMAILHOST": b"q"}, b"joe@q.example.org"),
        (b"r", {b"USER": b"joe"}, b"joe-@host.example.org-@[]"),
        (b"m", {b"USER": b"joe"}, b"joe-1700000000.77@host.example.org"),
        (b"rm", {b"USER": b"joe"}, b"joe-1700000000.77-@host.example.org-@[]"),
    ],
)
def test_the_default_sender(letters: bytes, environ: dict[bytes, bytes], sender: bytes) -> None:
    made = header(letters=letters, environ=environ)
    made.finish()
    assert made.sender == sender


@pytest.mark.parametrize(
    ("fields", "letters", "given", "sender"),
    [
        ([b"Return-Path: <a@b>\n"], b"", None, b"a@b.example.org"),
        ([b"Return-Path: a, b\n"], b"", None, b"b@host.example.org"),  # the rightmost
        ([b"Return-Path: a\n", b"Return-Path: b\n"], b"", None, b"a@host.example.org"),
        ([b"Return-Path: <>\n"], b"", None, b""),
        ([b"Return-Path: <a@b>\n"], b"r", None, b"a@b.example.org-@[]"),
        ([b"Return-Path: <a@b>\n"], b"m", None, b"a@b.example.org"),
        ([b"Return-Path: <a@b>\n"], b"s", None, b"joe@host.example.org"),
        ([b"Return-Path: <a@b>\n"], b"", b"x@y.z", b"x@y.z"),
        ([b"Return-Path: <a@b>\n"], b"r", b"", b""),
    ],
)
def test_return_path_and_f_decide_the_sender(
    fields: list[bytes], letters: bytes, given: bytes | None, sender: bytes
) -> None:
    made = header(*fields, letters=letters, sender=given)
    made.finish()
    assert made.sender == sender


LISTS = frozenset([b"list@lists.org"])


def test_mail_followup_to_names_everybody_in_to_and_cc() -> None:
    text = header(b"To: a@x.y, LIST@lists.org\n", b'Cc: "c d"@x.y\n', b"Bcc: e@x.y\n", lists=LISTS).finish()
    assert b'Mail-Followup-To: "c d"@x.y,\n  a@x.y,\n  LIST@lists.org\nTo: ' in text


@pytest.mark.parametrize(
    "fields",
    [
        [b"To: a@x.y\n"],
        [b"Bcc: list@lists.org\n"],
        [b"To: list@lists.org\n", b"Mail-Followup-To: a\n"],
        [b"Resent-To: list@lists.org\n", b"To: list@lists.org\n"],
    ],
)
def test_mail_followup_to_is_added_only_where_it_belongs(fields: list[bytes]) -> None:
    assert b"Mail-Followup-To: list" not in header(*fields, lists=LISTS).finish()


def test_a_followup_list_that_would_leave_people_out_is_not_made() -> None:
    text = header(b"To: list@lists.org\n", b"Cc: a: b\n", lists=LISTS, use_recipients=False).finish()
    assert b"Mail-Followup-To" not in text


def test_every_sender_field_is_completed_and_others_are_not_touched() -> None:
    names = b"Sender From Reply-To Return-Receipt-To Errors-To Resent-Sender Resent-From Resent-Reply-To".split()
    text = header(*(name + b": <a>\n" for name in names), b"X-From:  a\n", b"Subject: To:  a\n").finish()
    for name in names:
        assert name + b": <a@host.example.org>\n" in text
    assert text.endswith(b"X-From:  a\nSubject: To:  a\n")
