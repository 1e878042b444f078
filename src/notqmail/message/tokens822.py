"""Address fields as RFC 822 tokens: read, rewritten address by address, written again (qmail-header(5)). Pure.

It promises: `tokenize` raises Unparsable or returns; what `unparse` writes is read back as the same tokens; both
take time proportional to the text. It follows RFC 822's lexical rules the way qmail-inject does (RFC 822 3.3 and
6.1, cr.yp.to/immhf), which is laxer than any RFC: two words without a comma are two addresses.

One deliberate difference from notqmail 1.09: an atom with an escaped blank or special (`joe\\ smith`) becomes a
quoted string, as it would otherwise be written as something else than was read.
"""

Token = tuple[bytes, bytes]  # its kind and its text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Rewrite = Callable[[list[Token]], list[Token]]

# The kind of a token. A special is its own kind and its own text.
ATOM, QUOTED, LITERAL, COMMENT = b"a", b'"', b"[", b"("
AT, DOT, COMMA, COLON, SEMICOLON, LEFT, RIGHT = b"@", b".", b",", b":", b";", b"<", b">"

AT_TOKEN, COMMA_TOKEN = (AT, AT), (COMMA, COMMA)
_SPECIALS = {kind[0]: (kind, kind) for kind in (AT, DOT, COMMA, COLON, SEMICOLON, LEFT, RIGHT)}
_BLANKS = frozenset(b" \t\r\n")
_WORDS = frozenset((ATOM, QUOTED, LITERAL, COMMENT))
_CLOSING = {ATOM: b"", QUOTED: b'"', LITERAL: b"]", COMMENT: b")"}
_ENDS_ATOM = bytes(0 if byte in b' \t\r\n(["<>;:@,.' else 1 for byte in range(256))
_PLAIN = bytes(byte for byte in range(33, 127) if byte not in b")]\\<>;:@,.")
_ESCAPED = b'"[]()\\\r\n'
_PHRASE = frozenset((COMMENT, ATOM, QUOTED, AT, DOT))  # what may stand before <address>

LINE_MAX = 80
"""How long a line may grow before a comma ends it, its own `LF blank` counted: 78 visible bytes."""


class Unparsable(Exception):
    """The text is no list of tokens, or the tokens are no list of addresses."""


class UnparsableLine(Exception):
    """The same, where the offending text is known: a field, or a name from a control file or the environment."""

    def __init__(self, line: bytes) -> None:
        super().__init__("unable to parse this line")
        self.line = line


def tokenize(text: bytes) -> list[Token]:
    """The tokens of a field (without its last line feed) or of an address. Raises Unparsable.

    A word's text is without its quotes and backslashes; a comment's also without the parentheses nested in it.
    """
    tokens: list[Token] = []
    atom_ends = text.translate(_ENDS_ATOM)
    position, length = 0, len(text)
    while position < length:
        byte = text[position]
        special = _SPECIALS.get(byte)
        if special is not None:
            tokens.append(special)
            position += 1
        elif byte in _BLANKS:
            position += 1
        elif byte == 0x28:
            word, position = _comment(text, position)
            tokens.append((COMMENT, word))
        elif byte == 0x22:
            word, position = _enclosed(text, position, b'"')
            tokens.append((QUOTED, word))
        elif byte == 0x5B:
            word, position = _enclosed(text, position, b"]")
            tokens.append((LITERAL, word))
        elif byte in b")]":
            raise Unparsable
        else:
            end = atom_ends.find(0, position)
            word, position = _atom(text, position, length if end == -1 else end)
            tokens.append((QUOTED if word.translate(None, _PLAIN) else ATOM, word))
    return tokens


def _atom(text: bytes, position: int, end: int) -> tuple[bytes, int]:
    """The atom at `position`, which ends at `end` unless a backslash says otherwise, and where it ends."""
    if text.find(b"\\", position, end) == -1:
        return text[position:end], end
    word = bytearray()
    while position < len(text) and _ENDS_ATOM[text[position]]:
        if text[position] == 0x5C:
            position += 1
            if position == len(text):
                raise Unparsable
        word.append(text[position])
        position += 1
    return bytes(word), position


def _enclosed(text: bytes, position: int, closing: bytes) -> tuple[bytes, int]:
    """The inside of a quoted string or a literal, and the position behind it."""
    word = bytearray()
    position += 1
    end = text.find(closing, position)
    while end != -1:
        backslash = text.find(b"\\", position, end)
        if backslash == -1:
            return bytes(word + text[position:end]), end + 1
        word += text[position:backslash]
        word += text[backslash + 1 : backslash + 2]
        position = backslash + 2
        if position > end:  # the closing byte was an escaped one
            end = text.find(closing, position)
    raise Unparsable


def _comment(text: bytes, position: int) -> tuple[bytes, int]:
    """The inside of a comment with comments in it, and the position behind it."""
    word = bytearray()
    depth = 0
    while position < len(text):
        byte = text[position]
        position += 1
        if byte == 0x28:
            depth += 1
        elif byte == 0x29:
            depth -= 1
            if not depth:
                return bytes(word), position
        elif byte == 0x5C:
            word += text[position : position + 1]
            position += 1
        else:
            word.append(byte)
    raise Unparsable


def unparse(tokens: "Iterable[Token]") -> bytes:
    """The tokens as one header field with its line feed, folded after commas where a line would be too long."""
    pieces: list[bytes] = []  # one for each comma, which ends it
    parts: list[bytes] = []
    last = b""
    for kind, text in tokens:
        if last and _needs_blank(last, kind):
            parts.append(b" ")
        last = kind
        if kind in _WORDS:
            opening = b"" if kind == ATOM else kind
            parts += (opening, _escape(text), _CLOSING[kind])
        else:
            parts.append(text)
            if kind == COMMA:
                pieces.append(b"".join(parts))
                parts = []
    pieces.append(b"".join(parts))
    return _fold(pieces)


def _fold(pieces: list[bytes]) -> bytes:
    lines, line = [], [pieces[0]]
    length = len(pieces[0])
    for piece in pieces[1:]:
        if length + 2 + len(piece) <= LINE_MAX:
            line.append(piece)
            length += len(piece)
        else:
            lines.append(b"".join(line))
            line = [b" ", piece]  # the piece begins with a blank of its own
            length = 1 + len(piece)
    lines.append(b"".join(line))
    return b"\n".join(lines) + b"\n"


def _needs_blank(left: bytes, right: bytes) -> bool:
    return left in (COLON, COMMA) or right == LEFT or (left in _WORDS and right in _WORDS)


def _escape(word: bytes) -> bytes:
    if len(word.translate(None, _ESCAPED)) == len(word):
        return word
    escaped = bytearray()
    for byte in word:
        if byte in _ESCAPED:
            escaped.append(0x5C)
        escaped.append(byte)
    return bytes(escaped)


def plain_address(tokens: "Iterable[Token]") -> bytes:
    """The address as the envelope carries it: no quotes, no comments. Raises Unparsable when it has a NUL byte,
    which no envelope can carry."""
    address = b"".join([b"[" + text + b"]" if kind == LITERAL else text for kind, text in tokens if kind != COMMENT])
    if b"\0" in address:
        raise Unparsable
    return address


def rewrite_addresses(tokens: list[Token], rewrite: "Rewrite") -> list[Token]:
    """The field with every address replaced by what `rewrite` makes of it, and commas where they were forgotten.

    The first two tokens are the field's name and its colon. `rewrite` is called for the LAST address first, as
    address lists are read from right to left: only so is it known what a phrase belongs to. Raises Unparsable.
    """
    return tokens[:2] + _AddressList(tokens[2:], rewrite).run()


class _AddressList:
    """What is left to read (its end is next), the address being gathered, and the output; the last two reversed."""

    __slots__ = ("_address", "_in_group", "_left", "_out", "_rewrite", "_word_fits")

    def __init__(self, tokens: list[Token], rewrite: "Rewrite") -> None:
        self._left = tokens
        self._rewrite = rewrite
        self._address: list[Token] = []
        self._out: list[Token] = []
        self._in_group = False
        self._word_fits = True  # a word here still belongs to the address; otherwise a comma was forgotten

    def run(self) -> list[Token]:
        left, address = self._left, self._address
        while left:
            kind = left[-1][0]
            if kind in (ATOM, QUOTED, LITERAL):
                if not self._word_fits:
                    self._finish(comma=True)
                self._word_fits = False
                address.append(left.pop())
            elif kind == COMMENT:
                self._out.append(left.pop())
            elif kind == COMMA:
                self._finish()
                self._word_fits = True
                self._out.append(left.pop())
            elif kind == RIGHT:
                self._angle()
            elif kind == SEMICOLON:
                self._group_end()
            elif kind == COLON:
                self._group_name()
            else:  # AT, DOT, or a LEFT that nothing closes
                self._word_fits = True
                address.append(left.pop())
        self._finish()
        self._out.reverse()
        return self._out

    def _finish(self, *, comma: bool = False, even_if_empty: bool = False) -> None:
        """One address is complete."""
        if not self._address and not even_if_empty:
            return
        self._out += reversed(self._rewrite(self._address[::-1]))
        self._address.clear()
        if comma:
            self._out.append(COMMA_TOKEN)

    def _angle(self) -> None:
        """`phrase <address>`: everything between the brackets is the address, even nothing."""
        left = self._left
        self._finish(comma=True)
        self._out.append(left.pop())
        while left and left[-1][0] != LEFT:
            self._address.append(left.pop())
        self._finish(even_if_empty=True)
        if not left:
            raise Unparsable
        self._out.append(left.pop())
        while left and left[-1][0] in _PHRASE:
            self._out.append(left.pop())
        self._word_fits = False

    def _group_end(self) -> None:
        self._finish(comma=True)
        if self._in_group:
            raise Unparsable
        self._in_group = self._word_fits = True
        self._out.append(self._left.pop())

    def _group_name(self) -> None:
        """The colon of a group and its name, up to the comma before it."""
        left = self._left
        self._finish()
        if not self._in_group:
            raise Unparsable
        self._in_group, self._word_fits = False, True
        while left and left[-1][0] != COMMA:
            self._out.append(left.pop())
        if left:
            self._out.append(left.pop())
