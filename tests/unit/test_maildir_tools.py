"""fetch/maildir.py's making, fetch/maildir2mbox.py and message/mbox.py; as notqmail 1.09 where nothing else is said."""

import fcntl
import os
import re
import threading

import pytest

from notqmail.fetch import maildir, maildir2mbox
from notqmail.message.mbox import from_line_of_stored, quote_from_lines
from notqmail.unix.durable import Disk, WriteFailed

OLD = b"From old Sun Nov 22 16:39:29 2026\nx\n\n"
NOW_S = 1_795_000_000


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A Maildir `m`, entered, beside which the mbox will be."""
    maildir.make(os.fsencode(tmp_path / "m"))
    monkeypatch.chdir(tmp_path / "m")
    return tmp_path


def put(box, path, content, modified_s):
    (box / "m" / path).write_bytes(content)
    os.utime(box / "m" / path, (modified_s, modified_s))


def move(box, lock=maildir2mbox.lock_file, disk=None):
    warnings = []
    mbox, new_mbox = os.fsencode(box / "mbox"), os.fsencode(box / "tmpbox")
    maildir2mbox.move(disk or Disk(), NOW_S, mbox, new_mbox, lock, warnings.append)
    return warnings


# -- making ----------------------------------------------------------------------------------------------------------


def test_a_maildir_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "new one"
    maildir.make(os.fsencode(path))
    assert sorted(os.listdir(path)) == ["cur", "new", "tmp"]
    assert {oct(part.stat().st_mode & 0o777) for part in (path, *path.iterdir())} == {"0o700"}


def test_a_maildir_that_exists_is_left_alone(tmp_path):
    with pytest.raises(maildir.CannotMake) as failed:
        maildir.make(os.fsencode(tmp_path))
    assert failed.value.step == b"mkdir " + os.fsencode(tmp_path)
    assert os.listdir(tmp_path) == []


# -- From_ lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first_line", "sender"),
    [
        (b"Return-Path: <>", b"MAILER-DAEMON"),
        (b"Return-Path: <>x", b"MAILER-DAEMON"),
        (b"Return-Path: <a b\tc@x>", b"a-b-c@x"),
        (b"Return-Path: <a@b", b"a@"),
        (b"Return-Path: <", b""),
        (b"Return-Path: <a@b>\r", b"a@b>"),
        (b"return-path: <a@b>", b"XXX"),
        (b"Return-Path:<a@b>", b"XXX"),
        (b"Subject: x", b"XXX"),
        (b"", b"XXX"),
    ],
)
def test_the_from_line_s_sender(first_line, sender):
    assert from_line_of_stored(first_line, 1_794_998_999) == b"From " + sender + b" Wed Nov 18 10:49:59 2026\n"


# -- moving ----------------------------------------------------------------------------------------------------------


def test_the_oldest_comes_first_and_lines_are_quoted(box):
    put(box, "cur/2:2,S", b"Return-Path: <a b@x>\nFrom x\n>From y\n> From\n\n", 1_794_999_000)
    put(box, "new/1", b"From the beginning\n", 1_794_998_000)
    (box / "mbox").write_bytes(OLD)
    assert move(box) == []
    assert (box / "mbox").read_bytes() == (
        OLD + b"From XXX Wed Nov 18 10:33:20 2026\n>From the beginning\n\n"
        b"From a-b@x Wed Nov 18 10:50:00 2026\nReturn-Path: <a b@x>\n>From x\n>>From y\n> From\n\n\n"
    )
    assert (box / "mbox").stat().st_mode & 0o777 == 0o600
    assert os.listdir("new") == os.listdir("cur") == []
    assert sorted(os.listdir(box)) == ["m", "mbox"]


@pytest.mark.parametrize(
    ("text", "entry"),
    [(b"", b"\n"), (b"x", b"x\n\n"), (b"a\nx", b"a\nx\n\n"), (b"From x", b">From x\n\n"), (b"a\n\n", b"a\n\n\n")],
)
def test_a_last_line_without_a_line_end_is_kept(box, text, entry):
    """C maildir2mbox drops it."""
    put(box, "new/1", text, 1_794_998_000)
    move(box)
    assert (box / "mbox").read_bytes() == b"From XXX Wed Nov 18 10:33:20 2026\n" + entry


@pytest.mark.parametrize(
    ("old", "between"), [(b"", b""), (b"x\n\n", b""), (b"x\n", b"\n"), (b"x", b"\n\n"), (b"\n", b"\n")]
)
def test_an_mbox_that_ends_in_the_middle_gets_an_empty_line(box, old, between):
    put(box, "new/1", b"s\n", 1_794_998_000)
    (box / "mbox").write_bytes(old)
    move(box)
    assert (box / "mbox").read_bytes() == old + between + b"From XXX Wed Nov 18 10:33:20 2026\ns\n\n"


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_large_messages_pass_whole(box, size):
    text = b"Return-Path: <a@b>\n" + b"y" * size + b"\nFrom x\n" + b"z\n" * size
    put(box, "new/1", text, 1_794_998_000)
    move(box)
    assert (box / "mbox").read_bytes() == b"From a@b Wed Nov 18 10:33:20 2026\n" + text.replace(
        b"\nFrom", b"\n>From"
    ) + b"\n"


def test_a_first_line_without_an_end_is_no_return_path(box):
    put(box, "new/1", b"Return-Path: <" + b"a" * 3 * maildir2mbox.FIRST_LINE_MAX + b">\n", 1_794_998_000)
    move(box)
    assert (box / "mbox").read_bytes().startswith(b"From XXX ")


def test_nothing_new_touches_nothing(box):
    move(box)
    assert os.listdir(box) == ["m"]


def test_what_was_left_of_an_earlier_try_is_written_over(box):
    put(box, "new/1", b"s\n", 1_794_998_000)
    (box / "tmpbox").write_bytes(b"junk")
    move(box)
    assert b"junk" not in (box / "mbox").read_bytes() and not (box / "tmpbox").exists()


class Failing(Disk):
    def __init__(self, call):
        super().__init__()
        setattr(self, call, self._fail)

    def _fail(self, *given):
        raise WriteFailed(28, "full")


@pytest.mark.parametrize(
    ("call", "text"),
    [("create", b"write to %b"), ("sync", b"write to %b"), ("rename", b"move %b to "), ("read_chunks", b"read ")],
)
def test_a_failure_leaves_every_message_and_says_which_step(box, call, text):
    put(box, "new/1", b"s\n", 1_794_998_000)
    (box / "mbox").write_bytes(OLD)
    with pytest.raises(maildir2mbox.Failed) as failed:
        move(box, disk=Failing(call))
    expected = b"unable to " + text.replace(b"%b", os.fsencode(box / "tmpbox"))
    assert failed.value.text.startswith(expected) and failed.value.text.endswith(b": out of disk space")
    assert os.listdir("new") == ["1"] and (box / "mbox").read_bytes() == OLD


def test_a_message_that_cannot_be_removed_is_warned_about(box):
    put(box, "new/1", b"s\n", 1_794_998_000)
    warnings = move(box, disk=Failing("unlink"))
    assert warnings == [b"$MAILDIR/new/1 will be delivered twice; unable to unlink: out of disk space"]


def test_who_waited_for_the_lock_of_a_replaced_mbox_takes_the_new_one_s(tmp_path):
    """C maildir2mbox goes on with the lock of the old one, and two of them write at once."""
    path = tmp_path / "mbox"
    path.write_bytes(b"old")
    held = os.open(path, os.O_WRONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    got = []
    waiter = threading.Thread(target=lambda: got.append(maildir2mbox.lock_file(os.fsencode(path))))
    waiter.start()
    (tmp_path / "new").write_bytes(b"new")
    os.rename(tmp_path / "new", path)
    os.close(held)
    waiter.join(60)
    assert os.path.samestat(os.fstat(got[0]), path.stat())
    os.close(got[0])


@pytest.mark.parametrize("text", [b"?From x\n>?From y\n>From z\nFrom a\n", b">>?From x\n F\nFrom", b"\nFrom From \n>>"])
def test_lines_are_quoted_the_same_however_they_come(text):
    """Two cuts, at every two places."""
    wanted = re.sub(rb"(?m)^(>*From )", rb">\1", text)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            pieces = [text[:first], text[first:second], text[second:]]
            assert b"".join(quote_from_lines(pieces)) == wanted, pieces


def test_a_mailbox_that_cannot_be_listed_or_locked_is_named(box):
    put(box, "new/1", b"s\n", 1_794_998_000)

    def held(path):
        raise OSError(11, "held")

    with pytest.raises(maildir2mbox.Failed) as failed:
        move(box, lock=held)
    assert failed.value.text.startswith(b"unable to lock %b: " % os.fsencode(box / "mbox"))
    (box / "m" / "cur").rmdir()
    with pytest.raises(maildir2mbox.Failed) as failed:
        move(box)
    assert failed.value.text.startswith(b"unable to scan $MAILDIR/cur: ")
    assert (box / "m" / "new" / "1").exists()


class Unreadable(Disk):
    """One message is there and cannot be read."""

    def read_chunks(self, path, size=65_536):
        if path == b"new/1":
            raise OSError(5, "I/O error")
        return super().read_chunks(path, size)


def test_a_message_that_cannot_be_read_stops_it_before_anything_is_replaced(box):
    put(box, "new/1", b"s\n", 1_794_998_000)
    (box / "mbox").write_bytes(OLD)
    with pytest.raises(maildir2mbox.Failed) as failed:
        move(box, disk=Unreadable())
    assert failed.value.text.startswith(b"unable to read $MAILDIR/new/1: ")
    assert (box / "mbox").read_bytes() == OLD


def test_a_new_file_that_cannot_be_made_is_another_trouble_than_a_full_disk(box):
    put(box, "new/1", b"s\n", 1_794_998_000)
    with pytest.raises(maildir2mbox.Failed) as failed:
        maildir2mbox.move(Disk(), NOW_S, os.fsencode(box / "mbox"), os.fsencode(box / "no" / "x"),
                          maildir2mbox.lock_file, lambda text: None)  # fmt: skip
    assert failed.value.text.startswith(b"unable to create %b: " % os.fsencode(box / "no" / "x"))


def test_what_nobody_will_finish_is_swept_first(box):
    put(box, "tmp/old", b"x", NOW_S - maildir.SWEEP_AGE_S - 1)
    move(box)
    assert os.listdir(box / "m" / "tmp") == []
