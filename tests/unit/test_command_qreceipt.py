"""qreceipt: who gets a notice, and what is in it."""

from collections.abc import Mapping

import pytest

from notqmail.deliver.commands.qreceipt import USAGE, notice, qreceipt
from notqmail.message.header_fields import HEADER_MAX
from notqmail.unix.leaving import Leaving
from notqmail.wire.reports import Report, permanent, success, temporary

FIELD = b"Notice-Requested-Upon-Delivery-To: "
ENVIRON = {b"SENDER": b"s@x"}


class KeptSubmission:
    def __init__(self, answer: Report) -> None:
        self.answer, self.qp, self.text = answer, 1, b""
        self.envelope: tuple[bytes, list[bytes]] | None = None

    def write(self, data: bytes) -> None:
        self.text += data

    def abandon(self) -> None:
        raise AssertionError("nothing here is abandoned")

    def close(self, sender: bytes, recipients: list[bytes]) -> Report:
        self.envelope = (sender, list(recipients))
        return self.answer


def run(
    message: bytes | list[bytes | OSError], *, target: bytes = b"joe@h", environ: Mapping[bytes, bytes] = ENVIRON,
    answer: Report | None = None,
) -> KeptSubmission:  # fmt: skip
    """What was sent, its envelope None when nothing was."""
    submission = KeptSubmission(answer or success())
    pieces = iter([message] if isinstance(message, bytes) else message)

    def read_more() -> bytes:
        piece = next(pieces, b"")
        if isinstance(piece, OSError):
            raise piece
        return piece

    qreceipt([target], home=b"/", environ=environ, read_more=read_more, submission_for=lambda *_: submission)  # type: ignore[arg-type,return-value]
    return submission


WANTED = [
    b"joe@h", b"joe@h, ann@h", b"ann@h, joe@h", b"Joe <joe@h>", b'"joe"@h', b"j\\oe@h", b"joe @ h", b"joe@h (c)",
    b"g: joe@h;", b"g: ann@h, joe@h;, x", b"joe@h ann@h", b"ann@h joe@h", b"joe@h,", b",,joe@h", b"<joe@h> more",
    b"ann\n joe@h", b"ann,\n\tjoe@h", b"\xe9@h, joe@h", b"a\0@h, joe@h",
]  # fmt: skip
NOT_WANTED = [
    b"JOE@h", b"ann@h", b"", b"<>", b"(joe@h)", b"<@r:joe@h>", b"joe@h.", b"joe@[h]", b"xjoe@h", b"joe@h\0", b"joe",
]  # fmt: skip
GARBLED = [b"joe@h>", b") joe@h", b'"joe@h', b"a;b;c", b"a:b", b"joe@h ]", b"(joe@h", b"joe@h \\"]


@pytest.mark.parametrize("addresses", WANTED)
def test_a_notice_goes_to_who_asked_for_this_address(addresses: bytes) -> None:
    sent = run(FIELD + addresses + b"\nMessage-ID: <1@x>\n\nbody\n")
    assert sent.envelope == (b"", [b"s@x"])
    assert sent.text == (
        b"From: DELIVERY NOTICE SYSTEM <s@x>\nTo: <s@x>\nSubject: success notice\n\n"
        b"Hi! This is the qreceipt program. Your message was delivered to the\n"
        b"following address: joe@h. Thanks for asking.\nYour Message-ID: <1@x>\n"
    )


@pytest.mark.parametrize("addresses", NOT_WANTED)
def test_no_notice_for_another_address(addresses: bytes) -> None:
    assert run(FIELD + addresses + b"\n\nbody\n").envelope is None


@pytest.mark.parametrize("addresses", GARBLED)
def test_a_garbled_request_is_quoted(addresses: bytes) -> None:
    with pytest.raises(Leaving) as raised:
        run(FIELD + addresses + b"\n\n")
    line = b"qreceipt: fatal: unable to parse this: " + FIELD + addresses
    assert (raised.value.code, raised.value.line) == (100, line)


@pytest.mark.parametrize("sender", [b"", b"#@[]", b"a\nBcc: b@x", b"a\rb@x"])
def test_no_notice_to_a_bounce_or_to_an_address_with_a_line_end(sender: bytes) -> None:
    assert run(FIELD + b"joe@h\n\n", environ={b"SENDER": sender}).envelope is None


@pytest.mark.parametrize(
    "message",
    [
        FIELD.upper() + b"joe@h\n\n",
        FIELD.replace(b":", b" \t:") + b"joe@h\n\n",
        FIELD + b"joe@h",
        FIELD + b"ann@h\n" + FIELD + b"joe@h\n" + FIELD + b"bob@h\n",
        b"From someone\n" + FIELD + b"joe@h\n",
    ],
)
def test_the_field_is_found(message: bytes) -> None:
    assert run(message).envelope is not None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n" + FIELD + b"joe@h\n\n",
        b"no header\n" + FIELD + b"joe@h\n\n",
        b"Subject: x\n " + FIELD + b"joe@h\n\n",
        b"From x\n " + FIELD + b"joe@h\n\n",
    ],
)
def test_what_is_not_a_header_field_asks_for_nothing(message: bytes) -> None:
    assert run(message).envelope is None


def test_the_last_message_id_is_quoted_as_it_stands() -> None:
    sent = run(b"Message-Id : <0@x>\n" + FIELD + b"joe@h\nMessage-ID: <1@x>\n folded\n")
    assert sent.text.endswith(b"asking.\nYour Message-ID: <1@x>\n folded\n")
    assert run(FIELD + b"joe@h\n\n").text.endswith(b"Thanks for asking.\n")


def test_the_sender_s_address_is_quoted_where_a_header_needs_it() -> None:
    assert notice(b"a b@c", b"t", b"").startswith(b'From: DELIVERY NOTICE SYSTEM <"a b"@c>\nTo: <"a b"@c>\n')


def test_only_the_header_is_read() -> None:
    sent = run([FIELD + b"joe@h\n", b"\nbody", OSError(5, "nobody should come this far")])
    assert sent.envelope is not None


def test_a_header_that_cannot_be_read_is_temporary() -> None:
    with pytest.raises(Leaving) as raised:
        run([FIELD + b"joe@h\n", OSError(5, "disk")])
    assert (raised.value.code, raised.value.line) == (111, b"qreceipt: fatal: read error")


def test_a_header_without_end_is_no_request_and_no_reason_to_hold_the_message_up() -> None:
    assert run([FIELD + b"ann@h\n", b"X: " + b"x" * HEADER_MAX, b"\n" + FIELD + b"joe@h\n\n"]).envelope is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_it_does_not_matter_how_the_header_comes(cut: int) -> None:
    message = FIELD + b"ann@h,\n joe@h\nMessage-ID: <1@x>\n\nbody\n"
    sent = run([message[at : at + cut] for at in range(0, len(message), cut)])
    assert sent.text == run(message).text != b""


@pytest.mark.parametrize(
    ("answer", "code", "line"),
    [
        (permanent(b"x"), 100, b"qreceipt: fatal: permanent qmail-queue error"),
        (temporary(b"x"), 111, b"qreceipt: fatal: temporary qmail-queue error"),
    ],
)
def test_the_queue_s_no_is_the_program_s(answer: Report, code: int, line: bytes) -> None:
    with pytest.raises(Leaving) as raised:
        run(FIELD + b"joe@h\n\n", answer=answer)
    assert (raised.value.code, raised.value.line) == (code, line)


@pytest.mark.parametrize(("words", "environ"), [([], ENVIRON), ([b"joe@h"], {})])
def test_without_an_address_or_a_sender_there_is_nothing_to_do(
    words: list[bytes], environ: Mapping[bytes, bytes]
) -> None:
    with pytest.raises(Leaving) as raised:
        qreceipt(words, home=b"/", environ=environ, read_more=bytes)
    assert (raised.value.code, raised.value.line) == (100, USAGE)


def test_a_queue_that_cannot_be_started_is_temporary() -> None:
    def refuses(*_: object) -> KeptSubmission:
        raise OSError(12, "no memory")

    pieces = iter([FIELD + b"joe@h\n\n"])
    with pytest.raises(Leaving) as raised:
        qreceipt([b"joe@h"], home=b"/", environ=ENVIRON, read_more=lambda: next(pieces, b""), submission_for=refuses)  # type: ignore[arg-type]
    assert (raised.value.code, raised.value.line) == (111, b"qreceipt: fatal: unable to fork")
