"""A POP3 session that ends while the power goes: nobody loses a message that he did not delete.

From new/ to cur/ a message goes by a rename, as with every reader of a Maildir, and nothing is synced: that a rename
shows the new name, or the old one, or both is relied on, as all file systems with a journal have it. The strict model
would show neither, so what it may decide is narrowed by that. A deletion may be undone by a power cut: the reader has
the message once more, and RFC 1939 has UIDL for that.
"""

import random
from collections.abc import Callable

import pytest

from notqmail.fetch import maildir, pop3d
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.testing.disk_models import Entries, File

NOW_S = 2_000_000
MESSAGES = {
    b"new/1": b"one\n", b"new/2": b"two\n", b"cur/3:2,S": b"three\n", b"cur/4:2,": b"four\n", b"new/5": b"five\n",
}  # fmt: skip
DELETED = {b"two\n", b"four\n"}


class RenamesWhole(StrictModel):
    """The strict model, but for a rename: of its two names at least one has the file."""

    def __init__(self, durable: "dict[bytes, File] | None" = None) -> None:
        super().__init__(durable)
        self._renamed: list[tuple[bytes, bytes, File]] = []

    def change(self, entries: "Entries") -> None:
        """As StrictModel.change."""
        if len(entries) == 2:
            (new, file), (old, _) = entries.items()
            assert file is not None
            self._renamed.append((old, new, file))
        super().change(entries)

    def after(self, chosen: "list[Entries]") -> "dict[bytes, File]":
        """As StrictModel.after."""
        entries = super().after(chosen)
        for old, new, file in self._renamed:
            if entries.get(old) is not file and entries.get(new) is not file:
                entries[new] = file
        return entries


def mailbox(model: type[StrictModel] | type[OrderedModel]) -> FakeDisk:
    disk = FakeDisk(model=model)
    for path, text in MESSAGES.items():
        disk.create(path, (text,))
    disk.create(b"tmp/old", (b"unfinished",))
    disk.sync([*disk.changed_directories(), *disk.everything()])
    disk.effects = 0
    return disk


def say(disk: FakeDisk, *commands: tuple[bytes, bytes]) -> bytes:
    """A session of these commands; what it answers."""
    maildir.sweep(disk, NOW_S)  # type: ignore[arg-type]
    session = pop3d.Session(disk, maildir.messages(disk, NOW_S))  # type: ignore[arg-type]
    return b"".join(piece for command in commands for piece in session.answer(command))


def numbers_of_deleted(disk: FakeDisk) -> list[int]:
    listed = maildir.messages(disk, NOW_S)  # type: ignore[arg-type]
    return [number for number, stored in enumerate(listed, 1) if disk.read(stored.path) in DELETED]


def delete_and_quit(disk: FakeDisk) -> bytes:
    deletions = [(b"DELE", b"%d" % number) for number in numbers_of_deleted(disk)]
    return say(disk, *deletions, (b"QUIT", b""))


def texts(disk: FakeDisk) -> set[bytes]:
    return {text for path, text in disk.everything().items() if not path.startswith(b"tmp/")}


@pytest.mark.parametrize("model", [RenamesWhole, OrderedModel])
def test_what_was_not_deleted_is_there_whenever_the_power_goes(
    model: type[StrictModel] | type[OrderedModel], survivors_limit: int,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    disk = mailbox(model)
    delete_and_quit(disk)
    kept = set(MESSAGES.values()) - DELETED
    assert texts(disk) == kept and disk.names(b"new") == []
    steps = disk.effects
    assert steps == 5  # one swept from tmp/, two deleted, two of the new ones seen
    chance, restarts = random.Random(1), 0
    for cut in range(steps + 1):
        disk = mailbox(model)
        disk.cut_at = cut
        try:
            delete_and_quit(disk)
        except PowerCut:
            pass  # what this is about
        for survivor in [*disk.survivors(chance, survivors_limit), disk.killed()]:
            assert kept <= texts(survivor), f"cut before effect {cut}"
            assert texts(survivor) <= set(MESSAGES.values()), "a message that nobody sent"
            assert delete_and_quit(survivor).endswith(b"+OK \r\n")
            assert kept == texts(survivor)
            restarts += 1
    assert restarts > 20
    record_property("crash: restarts, qmail-pop3d", restarts)


@pytest.mark.parametrize("model", [RenamesWhole, OrderedModel])
def test_without_quit_nothing_is_removed(model: type[StrictModel] | type[OrderedModel]) -> None:
    disk = mailbox(model)
    before = {path: text for path, text in disk.everything().items() if not path.startswith(b"tmp/")}
    say(disk, (b"DELE", b"1"), (b"DELE", b"2"), (b"RETR", b"3"), (b"NOOP", b""))
    for survivor in [*disk.survivors(random.Random(1)), disk.killed()]:
        assert before.items() <= survivor.everything().items()
