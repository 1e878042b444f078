"""Sender expansion, the bounce's envelope, and the log's escaping (qmail-send(8))."""

import pytest

from notqmail.message.log_text import log_text
from notqmail.message.verp import bounce_envelope, bounce_sender, expand_sender


@pytest.mark.parametrize(
    ("sender", "recipient", "expanded"),
    [
        (b"list-@host.org-@[]", b"joe@example.org", b"list-joe=example.org@host.org"),
        (b"list-@host.org-@[]", b"a@b@example.org", b"list-a@b=example.org@host.org"),
        (b"list-@host.org-@[]", b"virt-u@v.org", b"list-virt-u=v.org@host.org"),  # the rewritten recipient
        (b"list-@host.org-@[]", b"joe", b"list-@host.org-@[]"),  # no @ in the recipient
        (b"list--@[]", b"joe@example.org", b"list--@[]"),  # no @ before the mark
        (b"-@[]", b"joe@example.org", b"-@[]"),
        (b"@-@[]", b"joe@example.org", b"joe=example.org@"),
        (b"a@b@h-@[]", b"j@e", b"a@bj=e@h"),
        (b"#@[]", b"joe@example.org", b"#@[]"),
        (b"joe@example.org", b"a@b", b"joe@example.org"),
        (b"", b"a@b", b""),
    ],
)
def test_senders_are_expanded_per_recipient(sender: bytes, recipient: bytes, expanded: bytes) -> None:
    assert expand_sender(sender, recipient) == expanded


@pytest.mark.parametrize(
    ("sender", "envelope"),
    [
        (b"joe@example.org", (b"", b"joe@example.org")),
        (b"list-@host.org-@[]", (b"", b"list-@host.org")),
        (b"", (b"#@[]", b"postmaster@me.org")),
        (b"-@[]", (b"#@[]", b"postmaster@me.org")),  # what is left of it is empty
        (b"#@[]", None),
    ],
)
def test_who_gets_the_bounce(sender: bytes, envelope: tuple[bytes, bytes] | None) -> None:
    assert bounce_envelope(sender, b"postmaster@me.org") == envelope


def test_the_mark_is_taken_off_once() -> None:
    assert bounce_sender(b"a@b-@[]-@[]") == b"a@b-@[]"


def test_log_text_is_one_printable_word() -> None:
    assert log_text(b"a b\nc%d\x00\x7f\xc3\xa9~!") == b"a_b/c_d____~!"
    everything = log_text(bytes(range(256)))
    assert len(everything) == 256
    assert all(33 <= byte <= 126 and byte != 0x25 for byte in everything)
