"""What must hold for every header, also for garbage."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.control.rewrite import Routing
from notqmail.message.header_fields import HeaderSplitter
from notqmail.message.tokens822 import (
    COMMENT,
    Token,
    Unparsable,
    plain_address,
    rewrite_addresses,
    tokenize,
    unparse,
)

garbage = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet='ab.@,:;<>()[]"\\ \t\n+é', max_size=60).map(lambda text: text.encode("latin-1")),
)


def tokens_or_nothing(text: bytes) -> list[Token] | None:
    try:
        return tokenize(text)
    except Unparsable:
        return None


@given(garbage)
def test_what_is_written_is_read_back_as_it_was(text: bytes) -> None:
    tokens = tokens_or_nothing(b"To: " + text)
    if tokens is not None:
        field = unparse(tokens)
        assert field.endswith(b"\n")
        again = tokenize(field.removesuffix(b"\n"))
        assert again == tokens
        assert unparse(again) == field


@given(garbage)
def test_rewriting_keeps_every_word_or_refuses(text: bytes) -> None:
    tokens = tokens_or_nothing(b"To: " + text)
    if tokens is None:
        return
    seen: list[list[Token]] = []

    def note(address: list[Token]) -> list[Token]:
        seen.append(address)
        return address

    try:
        rewritten = rewrite_addresses(tokens, note)
    except Unparsable:
        return

    def words(some: list[Token]) -> list[Token]:
        return sorted(token for token in some if token[0] not in (b",", COMMENT))

    assert words(rewritten) == words(tokens)  # only commas are added, only comments may move
    assert unparse(rewrite_addresses(rewritten, lambda address: address)) == unparse(rewritten)


@given(st.lists(st.sampled_from(["a@b", "joe", '"j s"@x', "N <a@b.c>", "k@[1.2]", "(c) d@e"]), max_size=8))
def test_every_listed_address_is_handed_over_once(addresses: list[str]) -> None:
    seen: list[bytes] = []

    def note(address: list[Token]) -> list[Token]:
        seen.append(plain_address(address))
        return address

    rewrite_addresses(tokenize(("To: " + ", ".join(addresses)).encode()), note)
    plain = {"a@b": b"a@b", "joe": b"joe", '"j s"@x': b"j s@x", "N <a@b.c>": b"a@b.c", "k@[1.2]": b"k@[1.2]",
             "(c) d@e": b"d@e"}  # fmt: skip
    assert seen[::-1] == [plain[address] for address in addresses]


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_the_header_does_not_depend_on_how_the_message_is_cut(message: bytes, cuts: list[int]) -> None:
    def split(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
        splitter = HeaderSplitter()
        for piece in pieces:
            splitter.receive(piece)
        splitter.finish()
        return splitter.fields, splitter.body

    edges = [0, *sorted(cuts), len(message)]
    pieces = [message[start:end] for start, end in itertools.pairwise(edges)]
    assert split(pieces) == split([message])


@pytest.mark.parametrize(
    "unit",
    [b"(", b"()", b"\\a", b'"', b'\\"', b"a\\ ", b"[", b"<", b">", b"a ", b"a,", b";", b"a@", b'""', b"a:", b"<a"],
)
def test_long_garbage_takes_no_more_than_its_length(unit: bytes) -> None:
    started = time.process_time()
    for opening in (b"", b'"', b"(", b"["):
        tokens = tokens_or_nothing(b"To: " + opening + unit * (200_000 // len(unit)))
        if tokens is None:
            continue
        try:
            unparse(rewrite_addresses(tokens, lambda address: address))
        except Unparsable:
            pass  # garbage may be refused, quickly
    assert time.process_time() - started < 20  # quadratic would be minutes


@given(garbage, garbage)
def test_a_virtual_prefix_is_put_on_and_taken_off(box: bytes, prefix: bytes) -> None:
    routing = Routing(local_domains=(), virtual_domains={b".org": prefix}, percent_domains=(), default_host=b"me")
    recipient = box + b"@x.org"
    assert routing.strip_virtual_prefix(routing.route(recipient)[1]) == (
        recipient if prefix else routing.strip_virtual_prefix(recipient)
    )
