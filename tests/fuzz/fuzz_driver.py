"""What every fuzz target shares: being listed, being fed in pieces, and being run under an eye on time and memory.

A target is a function of bytes. It returns when the code under test kept its promise and raises when it did not: any
exception but the parser's own is a finding. `run` adds that each input is done within INPUT_S.
"""

import random
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType

CORPUS = Path(__file__).parent / "corpus"
INPUT_S = 5.0  # for some kilobytes; the slowest target needs some milliseconds
SIZE_MAX = 4_096  # bytes of an input, where a target does not say otherwise

Check = Callable[[bytes], None]


class Target:
    """`words` are pieces of the language that chance alone would not find; `size_max` bounds an input."""

    def __init__(self, name: str, check: Check, words: Sequence[bytes], size_max: int) -> None:
        self.name, self.check, self.words, self.size_max = name, check, tuple(words), size_max

    def corpus(self) -> list[bytes]:
        """The kept inputs, in the order of their names."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]


TARGETS: dict[str, Target] = {}


def target(name: str, *words: bytes, size_max: int = SIZE_MAX) -> Callable[[Check], Check]:
    """Lists a function as a target."""

    def listed(check: Check) -> Check:
        assert name not in TARGETS, name
        TARGETS[name] = Target(name, check, words, size_max)
        return check

    return listed


class TooSlow(AssertionError):
    """An input took longer than INPUT_S."""


@contextmanager
def time_limit(seconds: float = INPUT_S) -> Iterator[None]:
    """Raises TooSlow inside when the time is up (in the main thread)."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(one: Target, data: bytes) -> None:
    """One execution. Raises whatever is a finding."""
    with time_limit():
        one.check(data[: one.size_max])


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes in different pieces, whole first: which places are tried depends on the bytes alone."""
    yield [data]
    if len(data) < 2:
        return
    chance = random.Random(zlib.crc32(data))
    for count in (1, 1, 2, 5):
        places = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(count))})
        yield [data[start:end] for start, end in pairwise(places)]
    if len(data) <= 200:
        yield [data[at : at + 1] for at in range(len(data))]


def same_however_cut(data: bytes, result_of: Callable[[list[bytes]], object]) -> object:
    """Asserts that `result_of(pieces)` is the same for every cut; returns it."""
    ways = cuts(data)
    whole = result_of(next(ways))
    for pieces in ways:
        again = result_of(pieces)
        assert again == whole, f"cut into {[len(piece) for piece in pieces]}: {again!r} is not {whole!r}"
    return whole


def mutated(chance: random.Random, one: Target, pool: Sequence[bytes]) -> bytes:
    """A new input: one of the pool, changed in some places, with words of the language put in."""
    data = bytearray(chance.choice(pool) if pool else b"")
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        _MUTATIONS[chance.randrange(len(_MUTATIONS))](chance, one, pool, data)
    return bytes(data[: one.size_max])


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randint(0, len(data))


def _put_word(chance: random.Random, one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    at = _place(chance, data)
    data[at:at] = chance.choice(one.words or (b"\r\n",))


def _put_byte(chance: random.Random, _one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    data.insert(_place(chance, data), chance.choice((0, 10, 13, 32, 46, 255, chance.randrange(256))))


def _change_byte(chance: random.Random, _one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _flip_bit(chance: random.Random, _one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut_out(chance: random.Random, _one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    start = _place(chance, data)
    del data[start : start + chance.choice((1, 2, 8, 64))]


def _repeat(chance: random.Random, _one: Target, _pool: Sequence[bytes], data: bytearray) -> None:
    start = _place(chance, data)
    piece = bytes(data[start : start + chance.choice((1, 2, 5, 20))])
    data[start:start] = piece * chance.choice((1, 2, 10, 100))


def _splice(chance: random.Random, _one: Target, pool: Sequence[bytes], data: bytearray) -> None:
    other = chance.choice(pool) if pool else b""
    data[_place(chance, data) :] = other[chance.randint(0, len(other)) :]


_MUTATIONS = (_put_word, _put_word, _put_byte, _change_byte, _flip_bit, _cut_out, _repeat, _splice)
