"""The disks that a power cut may leave, made from the record of a disk.

What a completed flush covers is there. Of the writes behind it any may be there, and any may be torn at the border of a
sector: real disks write a sector whole or not at all, and promise nothing else. A cut is a place in the record and a
choice of these; both by a seeded chance.
"""

import os
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from power_recorder import DONE, FLUSH, MARK, WRITE, Event, copied

STYLES = ("none", "all", "some", "few", "most", "all but one", "only one")
_SOME = {"some": 0.5, "few": 0.15, "most": 0.85}
_TORN = 0.2  # of the writes that survive, in every second cut
_NEAR = 4  # events behind a mark or before a flush are cut at more often


class Cut:
    """One cut: `at` events of the record had happened; `text` says what the disk kept."""

    def __init__(self, at: int, image: int, marks: list[bytes], text: str, unsettled: int) -> None:
        self.at, self.image, self.marks, self.text, self.unsettled = at, image, marks, text, unsettled


class Record:
    """What a disk was asked to do, from `image`, its first content, on."""

    def __init__(self, image: int, events: list[Event], *, sector: int = 512, lying: bool = False) -> None:
        """`lying`: the disk says yes to each flush and forgets it. For seeing that flushes matter."""
        self._image, self.events, self._sector, self._lying = image, events, sector, lying
        self.begin = events.index((MARK, 0, b"begin"))
        self.end = events.index((MARK, 0, b"end"))
        self.flushes = [index for index, event in enumerate(events) if event[0] == FLUSH]
        self.writes = sum(event[0] == WRITE for event in events[self.begin : self.end])
        self._settled_at = self._settling()

    def _settling(self) -> dict[int, int]:
        """For each write, by index: the index of the flush that covers it."""
        found: dict[int, int] = {}
        for index, (what, written, _) in enumerate(self.events):
            if what == DONE:
                at = bisect_right(self.flushes, index)
                if at < len(self.flushes):
                    found[written] = self.flushes[at]
        return found

    def cuts(self, count: int, chance: random.Random) -> Iterator[Cut]:
        """So many different ones, in the order of the record. Each image is closed when the next one is asked for."""
        places = sorted(self._place(chance) for _ in range(count))
        solid, applied, seen = copied(self._image), 0, set[tuple[int, ...]]()
        loose: list[int] = []  # writes before the cut that no flush has covered, by index
        try:
            for at in places:
                loose += [index for index in range(applied, at) if self.events[index][0] == WRITE]
                applied = at
                loose = self._settle(solid, loose, at)
                text, pieces = self._chosen(loose, chance)
                key = (bisect_left(self.flushes, at), self._marked(at), *(hash(piece) for piece in pieces))
                if key in seen:
                    continue
                seen.add(key)
                image = copied(solid)
                try:
                    for offset, data in pieces:
                        os.pwrite(image, data, offset)
                    marks = [data for what, _, data in self.events[self.begin : at] if what == MARK]
                    yield Cut(at, image, marks, text, len(loose))
                finally:
                    os.close(image)
        finally:
            os.close(solid)

    def _marked(self, at: int) -> int:
        return max(index for index in range(self.begin, at) if self.events[index][0] == MARK)

    def _place(self, chance: random.Random) -> int:
        """How much of the record has happened: by chance anywhere, or just before a flush, or just behind a mark."""
        at = chance.randrange(self.begin + 1, self.end + 1)
        wanted = chance.choice((None, FLUSH, FLUSH, MARK))
        if wanted is None:
            return at
        for index in range(at, self.end):
            if self.events[index][0] == wanted:
                near = index + (1 if wanted == MARK else 0)
                return min(max(near + chance.randrange(-_NEAR, _NEAR) // 3, self.begin + 1), self.end)
        return at

    def _settle(self, solid: int, loose: list[int], at: int) -> list[int]:
        """Puts what is covered by a flush before `at` on the disk for good; returns the rest."""
        rest = []
        for index in loose:
            if not self._lying and self._settled_at.get(index, self.end + 1) < at:
                _, offset, data = self.events[index]
                os.pwrite(solid, data, offset)
            else:
                rest.append(index)
        return rest

    def _chosen(self, loose: list[int], chance: random.Random) -> tuple[str, list[tuple[int, bytes]]]:
        """What survives of the loose writes: in words, and as pieces of (offset, data)."""
        style = chance.choice(STYLES)
        odd = chance.choice(loose) if loose else -1
        kept = [index for index in loose if _survives(style, index, odd, chance)]
        tearing = chance.random() < 0.5
        pieces, torn = [], 0
        for index in kept:
            _, offset, data = self.events[index]
            if tearing and len(data) > self._sector and style != "all" and chance.random() < _TORN:
                pieces += self._torn(offset, data, chance)
                torn += 1
            else:
                pieces.append((offset, data))
        return f"{style}: {len(kept)} of {len(loose)} writes since the last flush, {torn} of them torn", pieces

    def _torn(self, offset: int, data: bytes, chance: random.Random) -> list[tuple[int, bytes]]:
        """The beginning of a write, its end, or sectors here and there."""
        sectors = range(0, len(data), self._sector)
        border = chance.choice(sectors)
        way = chance.randrange(3)
        if way == 0:
            return [(offset, data[:border])]
        if way == 1:
            return [(offset + border, data[border:])]
        return [(offset + at, data[at : at + self._sector]) for at in sectors if chance.random() < 0.5]


def _survives(style: str, index: int, odd: int, chance: random.Random) -> bool:
    if style in _SOME:
        return chance.random() < _SOME[style]
    return {"none": False, "all": True, "all but one": index != odd, "only one": index == odd}[style]
