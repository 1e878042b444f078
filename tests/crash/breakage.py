"""Breaking an order of steps on purpose: effects are recorded, some left out or swapped, and the power cut at each.

`Recorder` is a FakeDisk that writes down every effect with a label: the function that wanted it, what it was, and
what for, as in `_stage: link mess`. The same labels come again for every message, so a broken program is the recorded
one with *all* steps of a label changed, as if the line in the source were. `replay` yields the disk before each step
of such a program; what survives there is checked by the test.

One thing this cannot say: a number that would have been another one. A new file keeps the number it was given when
recorded.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import notqmail
from notqmail.testing.fake_disk import FakeDisk

# They do what their caller wants; the caller's name says more.
_FOR_OTHERS = {
    "_create", "_forget", "_sync", "_try", "_remove", "sync", "flush", "discard", "append", "append_whole", "create",
    "unlink", "remove", "<listcomp>", "perform", "_effect", "keep_preprocessed",
    "keep_ended", "barrier", "_durably", "_push", "keep_files", "keep_names", "_all_or_each", "<lambda>", "_unlink_tmp",
    "acting",
}  # fmt: skip


_PACKAGE = str(Path(notqmail.__file__).parent) + os.sep
_QUEUE = ("mess", "info", "local", "remote", "pid", "intd", "todo", "bounce")


class Step:
    """One effect, or something the world saw (`what` is "said"). `replay` does it again on another disk."""

    role = ""  # the program whose step it is
    only_order = False  # a sync where a barrier is wanted
    files: tuple[bytes, ...] = ()  # of its paths, those that are no directories

    def __init__(self, label: str, what: str, arguments: tuple[object, ...], now_s: int, number: int = 0) -> None:
        self.label, self.what, self.arguments, self.now_s, self.number = label, what, arguments, now_s, number

    def replay(self, disk: FakeDisk) -> None:
        disk.now_s = self.now_s
        getattr(disk, self.what)(*self.arguments)
        if self.what == "create":
            disk.renumber(self.arguments[0], self.number)  # type: ignore[attr-defined]

    def without(self, kind: str) -> "Step":
        """A sync that forgets what is of this kind."""
        (paths,) = self.arguments
        assert isinstance(paths, list)
        return Step(self.label, self.what, ([path for path in paths if _kind(path) != kind],), self.now_s)

    def kinds(self) -> list[str]:
        (paths,) = self.arguments
        assert isinstance(paths, list)
        return sorted({_kind(path) for path in paths})


class ReplayDisk(FakeDisk):
    """A FakeDisk whose new files get the numbers they had."""

    def renumber(self, path: bytes, number: int) -> None:
        file = self._entries[path]
        if file.number != number:
            self._free_numbers = [free for free in self._free_numbers if free != number]
            file.number = number
            self._highest_number = max(self._highest_number, number)


class Recorder(FakeDisk):
    """See the module. `steps` is what happened; `role` is whose doing it is now."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.role = ""

    def said(self, words: str, *arguments: object) -> None:
        """Something the world saw: an acknowledgement, a delivery."""
        self._note(Step(words, "said", (words, *arguments), self.now_s))

    def _note(self, step: Step) -> None:
        step.role = self.role
        self.steps.append(step)

    def _record(self, what: str, path: object, arguments: tuple[object, ...], number: int = 0) -> None:
        frame = sys._getframe(2)
        while frame.f_back is not None and (
            frame.f_code.co_name in _FOR_OTHERS or not frame.f_code.co_filename.startswith(_PACKAGE)
        ):
            frame = frame.f_back
        text = f"{frame.f_code.co_name}: {what} {path}"
        self._note(Step(text, what, arguments, self.now_s, number))

    def create(self, path: bytes, chunks: object, mode: int = 0o600) -> int:
        content = b"".join(chunks)  # type: ignore[arg-type]
        number = super().create(path, [content], mode)
        # The message and its envelope are both made in pid/.
        kind = _kind(path) + (" (envelope)" if path.startswith(b"pid/") and content.startswith(b"u") else "")
        self._record("create", kind, (path, [content], mode), number)
        return number

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        if path in self._entries:
            self._record("append", _kind(path), (path, data, mode))
        super().append(path, data, mode)

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        super().write_at(path, offset, data)
        self._record("write_at", _kind(path), (path, offset, data))

    def link(self, old: bytes, new: bytes) -> None:
        super().link(old, new)
        self._record("link", _kind(new), (old, new))

    def rename(self, old: bytes, new: bytes) -> None:
        super().rename(old, new)
        self._record("rename", _kind(new), (old, new))

    def truncate(self, path: bytes, size: int) -> None:
        super().truncate(path, size)
        self._record("truncate", _kind(path), (path, size))

    def unlink(self, path: bytes) -> None:
        content = self.read(path)
        super().unlink(path)
        kind = _kind(path) + (" (envelope)" if path.startswith(b"pid/") and content.startswith(b"u") else "")
        self._record("unlink", kind, (path,))

    def sync(self, paths: Sequence[bytes]) -> None:
        super().sync(paths)
        self._record("sync", "+".join(sorted({_kind(path) for path in paths})), (list(paths),))

    def barrier(self, files: Sequence[bytes], directories: Sequence[bytes], before: bytes) -> None:
        super().barrier(files, directories, before)
        self.steps[-1].only_order = True
        self.steps[-1].files = tuple(files)

    def set_modified(self, path: bytes, modified_s: int) -> None:
        super().set_modified(path, modified_s)
        self._note(Step("", "set_modified", (path, modified_s), self.now_s))


def _kind(path: bytes) -> str:
    """`mess/3` and `mess/3/17` differ: the directory and the file in it."""
    first, *rest = path.decode().split("/")
    if first in ("mess", "info", "local", "remote") and len(rest) == 1:
        return first + "/"
    if not rest:
        return first + "/"
    if first == "ledger":
        return "ledger"
    return f"{first} {rest[0]}" if first not in _QUEUE else first


def left_out(steps: list[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Programs without one of the syncs, and with one that forgets one kind of path."""
    syncs: dict[str, set[str]] = {}
    for step in steps:
        if step.what == "sync" and step.label:
            syncs.setdefault(step.label, set()).update(step.kinds())
    for label, kinds in syncs.items():
        yield f"no {label}", [step for step in steps if step.label != label]
        if len(kinds) > 1:
            for kind in sorted(kinds):
                yield (
                    f"{label}, without {kind}",
                    [step.without(kind) if step.label == label else step for step in steps],
                )


def swapped(steps: list[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Programs in which one step and the one after it change places."""
    labelled = [index for index, step in enumerate(steps) if step.label]
    pairs: dict[tuple[str, str], None] = {}
    for here, after in pairwise(labelled):
        first, second = steps[here].label, steps[after].label
        if first != second and not (steps[here].what == steps[after].what == "said"):
            pairs[first, second] = None
    for first, second in pairs:
        changed = list(steps)
        for here, after in pairwise(labelled):
            if (changed[here].label, changed[after].label) == (first, second):
                changed[here], changed[after] = changed[after], changed[here]
        yield f"{second} BEFORE {first}", changed


def replay(steps: list[Step], disk: ReplayDisk, said: Callable[..., None]) -> Iterator[ReplayDisk]:
    """The disk before each step and after the last. Raises OSError where the changed program could not go on."""
    for step in steps:
        yield disk
        if step.what == "said":
            said(*step.arguments)
        else:
            step.replay(disk)
    yield disk
