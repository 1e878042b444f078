"""Short addresses made whole, as qmail-inject does to headers and arguments (qmail-header(5)). Pure.

`joe` gets the default host, `joe@mac` the default domain, `joe@mac+` the plus domain. An address is a list of
tokens822 tokens in reading order; comments may stand among them.
"""

from notqmail.message.tokens822 import (
    AT,
    AT_TOKEN,
    ATOM,
    COLON,
    DOT,
    LITERAL,
    Unparsable,
    UnparsableLine,
    tokenize,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.message.tokens822 import Token


class AddressCompletion:
    """The three defaults. Raises tokens822.UnparsableLine when one of them is no host name at all."""

    __slots__ = ("_default_domain", "_default_host", "_plus_domain")

    def __init__(self, *, default_host: bytes, default_domain: bytes, plus_domain: bytes) -> None:
        self._default_host = _name_tokens(b"@" + default_host)
        self._default_domain = _name_tokens(b"." + default_domain)
        self._plus_domain = _name_tokens(b"." + plus_domain)

    def complete(self, tokens: "list[Token]") -> "list[Token]":
        """The whole address. `<>` and `box@[]` stay as they are; a source route, a final dot and a final @ go."""
        if [kind for kind, _ in tokens[-2:]] == [AT, LITERAL] and not tokens[-1][1]:
            return tokens
        tokens = _without_trimmings(tokens)
        if not tokens:
            return tokens
        if AT_TOKEN not in tokens:
            tokens = tokens + self._default_host
        kind, text = tokens[-1]
        if kind == ATOM and text.endswith(b"+"):
            tokens = [*tokens[:-1], (ATOM, text[:-1]), *self._plus_domain]
        if not _host_is_whole(tokens):
            tokens = tokens + self._default_domain
        return tokens


def _name_tokens(text: bytes) -> "list[Token]":
    try:
        return tokenize(text)
    except Unparsable:
        raise UnparsableLine(text) from None


def _without_trimmings(tokens: "list[Token]") -> "list[Token]":
    """Without a source route `@a,@b:` in front (all of it, when no colon ends it), one dot and one @ at the end."""
    if tokens and tokens[0] == AT_TOKEN:
        kinds = [kind for kind, _ in tokens]
        tokens = tokens[kinds.index(COLON) + 1 :] if COLON in kinds else []
    if tokens and tokens[-1][0] == DOT:
        tokens = tokens[:-1]
    if tokens and tokens[-1] == AT_TOKEN:
        tokens = tokens[:-1]
    return tokens


def _host_is_whole(tokens: "list[Token]") -> bool:
    """Whether there is a dot or a literal behind the last @."""
    for kind, _ in reversed(tokens):
        if kind in (DOT, LITERAL):
            return True
        if kind == AT:
            return False
    return True
