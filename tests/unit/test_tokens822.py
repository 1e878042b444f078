"""RFC 822 tokens as qmail-inject reads and writes them."""

import pytest

from notqmail.message.tokens822 import (
    ATOM,
    COMMENT,
    LITERAL,
    QUOTED,
    Token,
    Unparsable,
    plain_address,
    rewrite_addresses,
    tokenize,
    unparse,
)

TOKENS = [
    (b"", []),
    (b" \t\r\n", []),
    (b"a", [(ATOM, b"a")]),
    (b"a.b@c", [(ATOM, b"a"), (b".", b"."), (ATOM, b"b"), (b"@", b"@"), (ATOM, b"c")]),
    (b"a b", [(ATOM, b"a"), (ATOM, b"b")]),
    (b"<,:;>", [(c, c) for c in (b"<", b",", b":", b";", b">")]),
    (b"(a (b) c)", [(COMMENT, b"a b c")]),  # the inner parentheses are not kept
    (b"(\\))", [(COMMENT, b")")]),
    (b"()", [(COMMENT, b"")]),
    (b'"a \\" b"', [(QUOTED, b'a " b')]),
    (b'"a\\\\"b', [(QUOTED, b"a\\"), (ATOM, b"b")]),
    (b'""', [(QUOTED, b"")]),
    (b"[1.2]", [(LITERAL, b"1.2")]),
    (b"[a\\]b]", [(LITERAL, b"a]b")]),
    (b"a\\bc", [(ATOM, b"abc")]),
    (b"a(c)", [(ATOM, b"a"), (COMMENT, b"c")]),
    (b"a)b", [(QUOTED, b"a)b")]),  # only at its start is it an error
    (b"a]b", [(QUOTED, b"a]b")]),
    (b"a\xe9", [(QUOTED, b"a\xe9")]),
    (b"a\x01", [(QUOTED, b"a\x01")]),
    (b"a\0b", [(QUOTED, b"a\0b")]),
    (b"a\\\\b", [(QUOTED, b"a\\b")]),
    (b"a\\ b", [(QUOTED, b"a b")]),  # the deliberate difference: not an atom with a blank in it
    (b"a\\@b", [(QUOTED, b"a@b")]),
    (b'a\\"b', [(ATOM, b'a"b')]),
]


@pytest.mark.parametrize(("text", "tokens"), TOKENS)
def test_text_becomes_tokens(text: bytes, tokens: list[Token]) -> None:
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    "text",
    [b")", b"]", b"a )", b"(", b"(a", b"(a(b)", b"(a\\)", b"(\\", b'"', b'"a', b'"a\\"', b'"\\', b"[", b"[a\\]",
     b"[a\\", b"a\\", b"\\"],
)  # fmt: skip
def test_text_that_is_no_list_of_tokens_is_refused(text: bytes) -> None:
    with pytest.raises(Unparsable):
        tokenize(text)


def written(field: bytes) -> bytes:
    return unparse(tokenize(field))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b"To:a", b"To: a\n"),
        (b"To : a", b"To: a\n"),
        (b"To:", b"To:\n"),
        (b"To: a , b", b"To: a, b\n"),
        (b"To: a,", b"To: a,\n"),
        (b"To: a b<c>(d)", b"To: a b <c>(d)\n"),  # a blank before <, none behind >
        (b"To: a @ b . c", b"To: a@b.c\n"),
        (b"To: g:a;", b"To: g: a;\n"),
        (b"To: a(c)", b"To: a (c)\n"),
        (b'To: "a"[b]', b'To: "a" [b]\n'),
        (b'To: "a[b](c)\\\\"', b'To: "a\\[b\\]\\(c\\)\\\\"\n'),
        (b"To: a\xe9", b'To: "a\xe9"\n'),
        (b'To: "a\n b"', b'To: "a\\\n b"\n'),
    ],
)
def test_tokens_become_a_field(field: bytes, text: bytes) -> None:
    assert written(field) == text


def test_a_line_holds_78_bytes_and_goes_on_with_two_blanks() -> None:
    fits = b"To: " + b"a" * 36 + b", " + b"b" * 35 + b","
    assert len(fits) == 78
    assert written(fits + b" c") == fits + b"\n  c\n"
    longer = b"To: " + b"a" * 36 + b", " + b"b" * 36 + b","
    assert written(longer + b" c") == b"To: " + b"a" * 36 + b",\n  " + b"b" * 36 + b", c\n"


def test_one_address_is_never_cut() -> None:
    field = b"To: " + b" ".join([b"word"] * 30) + b" <a@b>\n"
    assert written(field) == field


def test_continuation_lines_are_filled_too() -> None:
    lines = written(b"To: " + b", ".join([b"someone@example.org"] * 20)).split(b"\n")
    assert lines[0] == b"To: " + b" ".join([b"someone@example.org,"] * 3)
    assert lines[1] == b"  " + b" ".join([b"someone@example.org,"] * 3)
    assert all(len(line) <= 78 for line in lines)


def rewritten(field: bytes) -> tuple[bytes, list[bytes]]:
    """The field with each address put in brackets of ours, and the addresses as they were asked for."""
    seen: list[bytes] = []

    def mark(tokens: list[Token]) -> list[Token]:
        seen.append(plain_address(tokens))
        return [*tokens, (ATOM, b"!")]

    return unparse(rewrite_addresses(tokenize(field), mark)), seen


@pytest.mark.parametrize(
    ("field", "text", "addresses"),
    [
        (b"To:", b"To:\n", []),
        (b"To: a, b@c", b"To: a !, b@c !\n", [b"b@c", b"a"]),  # right to left
        (b"To: a b", b"To: a !, b !\n", [b"b", b"a"]),
        (b"To: a,, b,", b"To: a !, , b !,\n", [b"b", b"a"]),
        (b"To: N <a@b> c", b"To: N <a@b !>, c !\n", [b"c", b"a@b"]),
        (b"To: <a> <b>", b"To: <a !> <b !>\n", [b"b", b"a"]),  # no comma is put here, as in qmail
        (b"To: <>", b"To: <!>\n", [b""]),
        (b"To: N <a, b>", b"To: N <a, b !>\n", [b"a,b"]),
        (b"To: a (c) @ b", b"To: a@b ! (c)\n", [b"a@b"]),
        (b"To: g: a, b;", b"To: g: a !, b !;\n", [b"b", b"a"]),
        (b"To: g: a; b", b"To: g: a !;, b !\n", [b"b", b"a"]),
        (b"To: x, g h: ;, y", b"To: x !, g h: ;, y !\n", [b"y", b"x"]),
        (b"To: a;", b"To: a !;\n", [b"a"]),  # a group whose name never comes
        (b'To: "a b"@c', b'To: "a b"@c !\n', [b"a b@c"]),
        (b"To: a@[1.2]", b"To: a@[1.2] !\n", [b"a@[1.2]"]),
    ],
)
def test_address_lists_are_rewritten_from_the_right(field: bytes, text: bytes, addresses: list[bytes]) -> None:
    assert rewritten(field) == (text, addresses)


@pytest.mark.parametrize("field", [b"To: a: b", b"To: @r:a@b", b"To: a; b;", b"To: a>", b"To: >", b"To: g: h: a;;"])
def test_tokens_that_are_no_address_list_are_refused(field: bytes) -> None:
    with pytest.raises(Unparsable):
        rewritten(field)


def test_an_address_with_a_nul_byte_cannot_be_an_envelope_address() -> None:
    with pytest.raises(Unparsable):
        plain_address(tokenize(b"a\0b@c"))


def test_comments_and_quotes_are_not_in_the_envelope() -> None:
    assert plain_address(tokenize(b'"joe s" (x) @ [1.2]')) == b"joe s@[1.2]"
