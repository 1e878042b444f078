"""Command-line options the way qmail's programs take them (getopt in djb's form).

Flags may be bundled, a value is attached or the next word, `--...` ends the options and is dropped, a lone `-`
ends them and stays. Written out because getopt(3)'s Python twin costs more to import than a program to run.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class BadOption(Exception):
    """An unknown option, or one without its value; str() is the line to print after the program's name."""


class Options:
    """The words after the program's name. Iterate for (letter, value) pairs; `rest` then holds the other words.

    Lazy on purpose: an option that starts another program does so before a later bad one is seen. A letter of
    `attached` takes the rest of its word, which may be nothing, as its value.
    """

    def __init__(self, words: "Sequence[bytes]", *, flags: bytes, valued: bytes = b"", attached: bytes = b"") -> None:
        self.rest = list(words)
        self._flags, self._valued, self._attached = flags, valued, attached

    def __iter__(self) -> "Iterator[tuple[bytes, bytes]]":
        """Raises BadOption."""
        rest = self.rest
        while rest and rest[0][:1] == b"-" and rest[0] != b"-":
            word = rest.pop(0)[1:]
            if word.startswith(b"-"):
                return
            while word:
                letter, word = word[:1], word[1:]
                if letter in self._flags:
                    yield letter, b""
                    continue
                if letter in self._valued and not word:
                    if not rest:
                        raise BadOption(f"option requires an argument -- {letter.decode('latin-1')}")
                    word = rest.pop(0)
                elif letter not in self._valued and letter not in self._attached:
                    raise BadOption(f"illegal option -- {letter.decode('latin-1')}")
                yield letter, word
                break
