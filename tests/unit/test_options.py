"""Options as qmail's programs take them: djb's getopt."""

import pytest

from notqmail.unix.options import BadOption, Options


def parsed(*words: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    options = Options(words, flags=b"ab", valued=b"f", attached=b"E")
    return list(options), options.rest


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        ([], [], []),
        ([b"x", b"-a"], [], [b"x", b"-a"]),  # the first other word ends the options
        ([b"-a", b"-b", b"x"], [(b"a", b""), (b"b", b"")], [b"x"]),
        ([b"-ab"], [(b"a", b""), (b"b", b"")], []),
        ([b"-fv", b"x"], [(b"f", b"v")], [b"x"]),
        ([b"-f", b"v", b"x"], [(b"f", b"v")], [b"x"]),
        ([b"-f", b"-a"], [(b"f", b"-a")], []),
        ([b"-f", b""], [(b"f", b"")], []),
        ([b"-afv"], [(b"a", b""), (b"f", b"v")], []),
        ([b"-a", b"--", b"-b"], [(b"a", b"")], [b"-b"]),
        ([b"--anything", b"x"], [], [b"x"]),  # as --
        ([b"-", b"-a"], [], [b"-", b"-a"]),
        ([b"-E", b"x"], [(b"E", b"")], [b"x"]),
        ([b"-aEab", b"-b"], [(b"a", b""), (b"E", b"ab"), (b"b", b"")], []),
        ([b"", b"-a"], [], [b"", b"-a"]),
    ],
)
def test_words_become_options(words: list[bytes], options: list[tuple[bytes, bytes]], rest: list[bytes]) -> None:
    assert parsed(*words) == (options, rest)


def test_bad_options_are_named() -> None:
    with pytest.raises(BadOption, match=r"^illegal option -- x$"):
        parsed(b"-axb")
    with pytest.raises(BadOption, match=r"^option requires an argument -- f$"):
        parsed(b"-af")


def test_options_before_a_bad_one_are_seen_first() -> None:
    options = iter(Options([b"-a", b"-x"], flags=b"a"))
    assert next(options) == (b"a", b"")
    with pytest.raises(BadOption):
        next(options)
