"""Short addresses made whole."""

import pytest

from notqmail.message.complete_address import AddressCompletion
from notqmail.message.tokens822 import UnparsableLine, plain_address, tokenize

COMPLETION = AddressCompletion(default_host=b"host.example.org", default_domain=b"example.org", plus_domain=b"plus.org")


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        (b"fred", b"fred@host.example.org"),
        (b"a@b", b"a@b.example.org"),
        (b"x@mac+", b"x@mac.plus.org"),
        (b"x@mac.cs+", b"x@mac.cs.plus.org"),
        (b"x@+", b"x@.plus.org"),
        (b"k@[1.2.3.4]", b"k@[1.2.3.4]"),
        (b"@route:foo@bar", b"foo@bar.example.org"),
        (b"@r1,@r2:u@v.org", b"u@v.org"),
        (b"@r:", b""),
        (b"@r", b""),
        (b"a@b.c.", b"a@b.c"),
        (b"a@b.", b"a@b.example.org"),
        (b"a@.b", b"a@.b"),
        (b"a@", b"a@host.example.org"),
        (b"a@.", b"a@host.example.org"),
        (b".", b""),
        (b"@", b""),
        (b"", b""),
        (b"a@[]", b"a@[]"),
        (b"@r:a@[]", b"@r:a@[]"),
        (b"a.b", b"a.b@host.example.org"),  # only dots of the host count
        (b"a.b@c", b"a.b@c.example.org"),
        (b'"a b"', b"a b@host.example.org"),
        (b'a@"b+"', b"a@b+.example.org"),  # only an atom has a plus at its end
    ],
)
def test_short_addresses_become_whole(short: bytes, whole: bytes) -> None:
    assert plain_address(COMPLETION.complete(tokenize(short))) == whole


def test_the_default_host_is_itself_completed() -> None:
    def whole(host: bytes) -> bytes:
        completion = AddressCompletion(default_host=host, default_domain=b"d.org", plus_domain=b"p.org")
        return plain_address(completion.complete(tokenize(b"a")))

    assert whole(b"mac") == b"a@mac.d.org"
    assert whole(b"mac+") == b"a@mac.p.org"
    assert whole(b"[1.2.3.4]") == b"a@[1.2.3.4]"


def test_completing_does_not_change_the_tokens_given() -> None:
    tokens = tokenize(b"x@mac+")
    COMPLETION.complete(tokens)
    assert tokens == tokenize(b"x@mac+")


def test_a_default_that_is_no_name_is_refused() -> None:
    with pytest.raises(UnparsableLine) as refused:
        AddressCompletion(default_host=b"h", default_domain=b"(", plus_domain=b"p")
    assert refused.value.line == b".("
