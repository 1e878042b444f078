"""maildir2mbox with the power cut at every step: each message is in the Maildir or in the mbox, the old mail always."""

import os
import random

from notqmail.fetch import maildir2mbox
from notqmail.testing.fake_disk import FakeDisk, PowerCut

NOW_S = 2_000_000
OLD = b"From old Sun Nov 22 16:39:29 2026\nSubject: old\n\nold\n\n"
MESSAGES = {b"m/new/1": b"Subject: one\n\none\n", b"m/cur/2:2,S": b"Return-Path: <a@b>\nSubject: two\n\ntwo\n"}


def disk_before() -> FakeDisk:
    disk = FakeDisk()
    disk.create(b"/box/mail", (OLD,))
    for path, text in MESSAGES.items():
        disk.create(path, (text,))
    disk.sync([*MESSAGES, b"/box/mail", b"/box", b"m/new", b"m/cur"])
    return disk


class Below:
    """The same disk with m/ before each relative path."""

    def __init__(self, disk: FakeDisk) -> None:
        self._disk = disk

    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        call = getattr(self._disk, name)

        def below(first, *rest):  # type: ignore[no-untyped-def]
            if isinstance(first, list):
                return call([_below(path) for path in first], *rest)
            return call(_below(first), *(_below(word) if name == "rename" else word for word in rest))

        return below


def _below(path: bytes) -> bytes:
    return path if path.startswith(b"/") else b"m/" + path


def lock(_path: bytes) -> int:
    return os.open("/dev/null", os.O_RDONLY)


def move(disk: FakeDisk) -> None:
    maildir2mbox.move(Below(disk), NOW_S, b"/box/mail", b"/box/mail.tmp", lock, lambda text: None)  # type: ignore[arg-type]


def check(found: dict[bytes, bytes]) -> None:
    mbox = found[b"/box/mail"]
    assert mbox.startswith(OLD)
    for path, text in MESSAGES.items():
        assert found.get(path) == text or text in mbox, f"{path!r} is lost"
    assert mbox == OLD or all(text in mbox for text in MESSAGES.values()), "half of it"


def test_whatever_the_power_cut_leaves_no_message_is_lost() -> None:
    whole = disk_before()
    before = whole.effects
    move(whole)
    steps = whole.effects - before
    assert steps >= 5
    seen = set()
    for step in range(steps + 1):
        disk = disk_before()
        disk.cut_at = before + step
        try:
            move(disk)
        except PowerCut:
            pass  # what this is about
        for survivor in disk.survivors(random.Random(step)):
            found = survivor.everything()
            check(found)
            seen.add(tuple(sorted(found)))
            move(survivor)  # and after the restart it all comes to its end
            assert not [path for path in survivor.everything() if path.startswith(b"m/")]
            check(survivor.everything())
    assert len(seen) > 3, "the cuts do not differ"


def test_each_step_that_fails_leaves_every_message() -> None:
    whole = disk_before()
    before = whole.effects
    move(whole)
    for step in range(before, whole.effects):
        disk = disk_before()
        disk.fail_at = step
        try:
            move(disk)
        except maildir2mbox.Failed:
            assert set(MESSAGES) <= set(disk.everything())
        check(disk.everything())
