"""deliver/mailboxes.py: Maildir and mbox, on a fake disk that forgets and on the real one."""

import errno
import fcntl
import itertools
import os
import random
import shutil
from types import SimpleNamespace

import pytest

from notqmail.deliver.mailboxes import (
    DeliveryFailed,
    MaildirJob,
    Message,
    UniqueNames,
    deliver_batch,
    deliver_mbox,
    quote_from_lines,
)
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.unix import durable
from notqmail.unix.bulk_sync import BulkSync, load_bulk_sync
from notqmail.unix.durable import Disk, WriteFailed

CLOCK = SimpleNamespace(now_us=lambda: 1_795_365_569_000_042)
TOP = b"Return-Path: <s@x>\nDelivered-To: u@d\n"


def _names(pid=77):
    return UniqueNames(CLOCK, pid=pid, host=b"h")


@pytest.fixture
def message(tmp_path):
    made = []

    def make(content):
        path = tmp_path / f"message{len(made)}"
        path.write_bytes(content)
        made.append(os.open(path, os.O_RDONLY))
        return Message(made[-1])

    yield make
    for descriptor in made:
        os.close(descriptor)


def test_names_do_not_repeat_and_hold_no_slash_or_colon():
    names = UniqueNames(CLOCK, pid=5, host=b"a/b:c")
    assert names.next() == b"1795365569.M42P5Q1.a\\057b\\072c"
    assert names.next() == b"1795365569.M42P5Q2.a\\057b\\072c"


def test_a_batch_lands_in_new_and_leaves_nothing_in_tmp(message):
    disk = FakeDisk()
    jobs = [MaildirJob(b"/m/", TOP, message(b"a\n")), MaildirJob(b"/n/", b"", message(b"b" * 200_000))]
    assert deliver_batch(jobs, disk, _names()) == [None, None]
    assert disk.everything() == {
        b"/m/new/1795365569.M42P77Q1.h": TOP + b"a\n",
        b"/n/new/1795365569.M42P77Q2.h": b"b" * 200_000,
    }


def _deliver_until(cut_at, jobs):
    disk = FakeDisk()
    disk.cut_at = cut_at
    try:
        return disk, deliver_batch(jobs, disk, _names())
    except PowerCut:
        return disk, None


def test_after_a_power_cut_at_any_step_new_holds_only_whole_messages_and_all_that_were_acknowledged(message):
    jobs = [MaildirJob(b"/m/", TOP, message(b"one\n")), MaildirJob(b"/m/", TOP, message(b"two\n"))]
    for cut_at in itertools.count():
        disk, results = _deliver_until(cut_at, jobs)
        for after in disk.survivors(random.Random(cut_at)):
            found = sorted(text for path, text in after.everything().items() if path.startswith(b"/m/new/"))
            assert set(found) <= {TOP + b"one\n", TOP + b"two\n"}
            if results is not None:
                assert results == [None, None]
                assert found == [TOP + b"one\n", TOP + b"two\n"]
        if results is not None:
            break
    assert cut_at > 8  # it was cut at every step


def test_a_disk_that_fails_at_any_step_acknowledges_only_what_is_there(message):
    jobs = [MaildirJob(b"/m/", TOP, message(b"one\n")), MaildirJob(b"/m/", TOP, message(b"two\n"))]
    for fail_at in range(10):
        disk = FakeDisk()
        disk.fail_at = fail_at
        results = deliver_batch(jobs, disk, _names(), enter=lambda _: True)
        assert set(results) <= {None, b"Temporary error on maildir delivery. (#4.3.0)"}
        for after in disk.survivors(random.Random(fail_at)):
            found = [text for path, text in after.everything().items() if path.startswith(b"/m/new/")]
            for result, text in zip(results, (b"one\n", b"two\n"), strict=True):
                assert result is not None or TOP + text in found


def _nothing(_descriptor):
    pass


ORDERED = BulkSync(_nothing, _nothing, _nothing, lambda _device: True)


@pytest.mark.parametrize("disk", [Disk(), Disk(bulk=load_bulk_sync()), Disk(bulk=ORDERED)])
def test_one_bad_maildir_does_not_hold_back_the_others(tmp_path, message, disk):
    for name in ("good", "closed"):
        for part in ("tmp", "new", "cur"):
            (tmp_path / name / part).mkdir(parents=True)
    (tmp_path / "closed" / "new").rmdir()
    here = os.fsencode(tmp_path)
    jobs = [
        MaildirJob(here + b"/missing/", TOP, message(b"a\n")),
        MaildirJob(here + b"/closed/", TOP, message(b"b\n")),
        MaildirJob(here + b"/good/", TOP, message(b"c\n")),
    ]
    assert deliver_batch(jobs, disk, _names()) == [
        b"Unable to chdir to maildir. (#4.2.1)",
        b"Temporary error on maildir delivery. (#4.3.0)",
        None,
    ]
    assert [path.read_bytes() for path in (tmp_path / "good" / "new").iterdir()] == [TOP + b"c\n"]
    assert [path for name in ("good", "closed") for path in (tmp_path / name / "tmp").iterdir()] == []


class Mover(Disk):
    """While one is at work, somebody takes away another's Maildir."""

    def __init__(self, victim, when):
        super().__init__()
        self._victim, self._when = victim, when

    def barrier(self, files, directories, before):
        if self._when == "barrier" and self._victim.exists():
            shutil.rmtree(self._victim)
        super().barrier(files, directories, before)

    def sync(self, paths):
        if self._when == "sync" and paths[0].endswith(b"new") and self._victim.exists():
            shutil.rmtree(self._victim)
        super().sync(paths)


@pytest.mark.parametrize("when", ["barrier", "sync"])
@pytest.mark.parametrize("victim", ["a", "b", "c"])
def test_a_maildir_that_goes_away_at_the_wrong_moment_costs_nobody_else_his_mail(tmp_path, message, victim, when):
    jobs = []
    for name in ("a", "b", "c"):
        for part in ("tmp", "new", "cur"):
            (tmp_path / name / part).mkdir(parents=True)
        jobs.append(MaildirJob(os.fsencode(tmp_path / name) + b"/", TOP, message(b"x\n")))
    found = deliver_batch(jobs, Mover(tmp_path / victim, when), _names())
    for name, failure in zip("abc", found, strict=True):
        mail = list((tmp_path / name / "new").glob("*"))
        assert (failure, len(mail)) == (
            (b"Temporary error on maildir delivery. (#4.3.0)", 0) if name == victim else (None, 1)
        )


def test_a_name_that_is_taken_is_left_alone_and_another_used(message):
    disk = FakeDisk()
    disk.create(b"/m/tmp/1795365569.M42P77Q1.h", [b"somebody's"])
    assert deliver_batch([MaildirJob(b"/m/", b"", message(b"x"))], disk, _names()) == [None]
    assert disk.everything()[b"/m/tmp/1795365569.M42P77Q1.h"] == b"somebody's"
    assert disk.everything()[b"/m/new/1795365569.M42P77Q2.h"] == b"x"


def test_a_file_in_new_is_never_replaced(message):
    disk = FakeDisk()
    disk.create(b"/m/new/1795365569.M42P77Q1.h", [b"older mail"])
    [failure] = deliver_batch([MaildirJob(b"/m/", b"", message(b"x"))], disk, _names())
    assert failure == b"Temporary error on maildir delivery. (#4.3.0)"
    assert disk.everything() == {b"/m/new/1795365569.M42P77Q1.h": b"older mail"}


def _replace_by_directory(descriptor):
    """Reading on now fails with EISDIR."""
    directory = os.open("/", os.O_RDONLY)
    os.dup2(directory, descriptor)
    os.close(directory)


def test_an_unreadable_message_is_said_to_be_the_message(message):
    large = message(b"x" * 100_000)
    _replace_by_directory(large.descriptor)
    disk = FakeDisk()
    assert deliver_batch([MaildirJob(b"/m/", b"", large)], disk, _names()) == [b"Unable to read message. (#4.3.0)"]
    assert disk.everything() == {}


# -- mbox ------------------------------------------------------------------------------------------------------

QUOTING = [
    (b"", b""),
    (b"From x\n", b">From x\n"),
    (b">From x\n>>From y", b">>From x\n>>>From y"),
    (b"a From x\nFromage\nFrom\n>x\n", b"a From x\nFromage\nFrom\n>x\n"),
    (b"\nFrom ", b"\n>From "),
    (b"From From \n From \n", b">From From \n From \n"),
    (b">a From x\nF\nFr", b">a From x\nF\nFr"),
]


@pytest.mark.parametrize(("text", "quoted"), QUOTING)
def test_from_lines_are_quoted_however_the_pieces_are_cut(text, quoted):
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        pieces = (text[:first], text[first:second], text[second:])
        assert b"".join(quote_from_lines(pieces)) == quoted


@pytest.mark.parametrize(
    ("content", "appended"),
    [
        (b"S: x\n\nFrom me\n", b"TOP\nS: x\n\n>From me\n\n"),
        (b"no newline", b"TOP\nno newline\n\n"),
        (b"", b"TOP\n\n"),
        (b"From", b"TOP\nFrom\n\n"),
    ],
)
def test_an_mbox_grows_by_the_message_and_a_blank_line(tmp_path, message, content, appended):
    path = tmp_path / "mbox"
    for _ in range(2):
        deliver_mbox(os.fsencode(path), b"TOP\n", message(content), Disk())
    assert path.read_bytes() == appended * 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_locked_mbox_is_given_up_after_its_time(tmp_path, message):
    path = tmp_path / "mbox"
    with open(path, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeliveryFailed) as failed:
            deliver_mbox(os.fsencode(path), b"", message(b"x"), Disk(), lock_wait_s=0.01)
    assert failed.value.text == b"File has been locked for 30 seconds straight. (#4.3.0)"
    assert path.read_bytes() == b""


def test_an_mbox_is_cut_back_when_writing_fails(tmp_path, message, monkeypatch):
    path = tmp_path / "mbox"
    path.write_bytes(b"older\n\n")

    def fsync(_descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DeliveryFailed) as failed:
        deliver_mbox(os.fsencode(path), b"TOP", message(b"x"), Disk())
    assert failed.value.text == b"Unable to write %b: out of disk space. (#4.3.0)" % os.fsencode(path)
    assert path.read_bytes() == b"older\n\n"


def test_an_unreadable_message_leaves_the_mbox_as_it_was(tmp_path, message):
    path = tmp_path / "mbox"
    large = message(b"x" * 100_000)
    _replace_by_directory(large.descriptor)
    with pytest.raises(DeliveryFailed) as failed:
        deliver_mbox(os.fsencode(path), b"TOP", large, Disk())
    assert failed.value.text == b"Unable to read message: is a directory. (#4.3.0)"
    assert path.read_bytes() == b""


def test_an_mbox_that_cannot_be_opened_is_named(message):
    with pytest.raises(DeliveryFailed) as failed:
        deliver_mbox(b"/nonexistent/mbox", b"", message(b""), Disk())
    assert failed.value.text == b"Unable to open /nonexistent/mbox: file does not exist. (#4.2.1)"


def test_an_mbox_on_a_file_system_without_locks_is_written_all_the_same(tmp_path, message, monkeypatch):
    def flock(_descriptor, _how):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    deliver_mbox(os.fsencode(tmp_path / "mbox"), b"", message(b"x\n"), Disk())
    assert (tmp_path / "mbox").read_bytes() == b"x\n\n"


@pytest.mark.parametrize(
    ("before", "between", "noted"),
    [
        (b"", b"", False),
        (b"From a\n\nx\n\n", b"", False),
        (b"From a\n\nx\n", b"\n", False),
        (b"From a\n\nhal", b"\n\n", True),
        (b"h", b"\n\n", True),
        (b"\n", b"\n", False),
    ],
)
def test_a_message_begins_behind_an_empty_line_whatever_the_file_ended_in(tmp_path, message, before, between, noted):
    path = tmp_path / "mbox"
    path.write_bytes(before)
    assert deliver_mbox(os.fsencode(path), b"From s\n", message(b"x\n"), Disk()) is noted
    assert path.read_bytes() == before + between + b"From s\nx\n\n"


ONE = b"From s@x Mon\nReturn-Path: <s@x>\n"
BODY = b"Subject: x\n\nfirst\n\nFrom here on\n.\n"
WHOLE = ONE + BODY.replace(b"From here", b">From here") + b"\n"


def test_behind_whatever_is_left_of_a_torn_message_the_next_one_is_whole_and_by_itself(message):
    for length in range(len(WHOLE) + 1):
        disk = FakeDisk()
        disk.create(b"/h/box", [WHOLE + WHOLE[:length]])
        noted = deliver_mbox(b"/h/box", ONE, message(BODY), disk)
        content = disk.read(b"/h/box")
        assert content.endswith(b"\n\n" + WHOLE)
        fragment = content[len(WHOLE) : -len(WHOLE)]
        assert fragment.rstrip(b"\n") == WHOLE[:length].rstrip(b"\n"), "nothing is taken from it, nor added"
        assert noted is (WHOLE[:length][-1:] not in (b"", b"\n"))


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
@pytest.mark.parametrize("size", [50, 150_000])
@pytest.mark.parametrize("begun", [b"", WHOLE, WHOLE[:-7]])
def test_after_a_power_cut_an_mbox_has_what_was_reported_and_at_most_a_piece_of_what_was_not(
    message, model, begun, size
):
    text = b"Subject: y\n\n" + b"a line of text\n" * (size // 15)
    whole = ONE + text + b"\n"
    between = b"" if begun in (b"", WHOLE) else b"\n\n"
    for cut_at in itertools.count():
        disk = FakeDisk(model=model)
        if begun:
            disk.create(b"/h/box", [begun])
            disk.sync([b"/h/box", b"/h"])
            disk.effects = 0
        disk.cut_at = cut_at
        reported = False
        try:
            deliver_mbox(b"/h/box", ONE, message(text), disk)
            reported = True
        except PowerCut:
            pass  # the point of it
        for after in disk.survivors(random.Random(cut_at)):
            content = after.everything().get(b"/h/box", b"").rstrip(b"\0")  # a size without its data
            assert content.startswith(begun) and (begun + between + whole).startswith(content)
            assert not reported or content == begun + between + whole
            deliver_mbox(b"/h/box", ONE, message(text), after)  # again: the queue has not heard of it
            assert (b"\n\n" + after.read(b"/h/box")).endswith(b"\n\n" + whole)
        if reported:
            break
    assert cut_at > 2


def test_who_adds_to_an_mbox_that_another_has_just_made_makes_its_name_durable_too(message):
    """Its maker may have been killed in between."""
    disk = FakeDisk()
    disk.open_shared(b"/h/box").close()
    assert not deliver_mbox(b"/h/box", ONE, message(BODY), disk)
    assert [after.read(b"/h/box") for after in disk.survivors(random.Random(1))] == [WHOLE]


@pytest.mark.parametrize("mbox_is_old", [True, False])
def test_an_mbox_in_a_directory_that_may_not_be_opened(message, mbox_is_old):
    class Closed(FakeDisk):
        def sync(self, paths):
            if paths == [b"/h"]:
                raise WriteFailed(errno.EACCES, "access denied")
            super().sync(paths)

    disk = Closed()
    if mbox_is_old:
        disk.create(b"/h/box", [b""])
        deliver_mbox(b"/h/box", ONE, message(BODY), disk)
        assert disk.read(b"/h/box") == WHOLE
    else:
        with pytest.raises(DeliveryFailed) as failed:
            deliver_mbox(b"/h/box", ONE, message(BODY), disk)
        assert failed.value.text == b"Unable to write /h/box: access denied. (#4.3.0)"
        assert disk.read(b"/h/box") == b"", "it comes again, so it is taken back"


def test_an_mbox_on_a_disk_that_fails_at_any_step_is_cut_back(message):
    class FailsOnce(FakeDisk):
        failing = 0

        def _effect(self):
            super()._effect()
            if self.effects == self.failing:
                raise WriteFailed(errno.ENOSPC, "out of disk space")

    for failing in itertools.count(1):
        disk = FailsOnce()
        disk.create(b"/h/box", [WHOLE])
        disk.failing = disk.effects + failing
        try:
            deliver_mbox(b"/h/box", ONE, message(BODY), disk)
        except DeliveryFailed as failed:
            assert failed.text == b"Unable to write /h/box: out of disk space. (#4.3.0)"
            assert disk.read(b"/h/box") == WHOLE
        else:
            assert disk.read(b"/h/box") == WHOLE + WHOLE
            break
    assert failing == 4, "the write, the file's sync and its directory's have failed"


def test_the_real_disk_takes_a_maildir_message(tmp_path, message):
    for part in ("tmp", "new"):
        (tmp_path / part).mkdir()
    assert deliver_batch([MaildirJob(os.fsencode(tmp_path) + b"/", TOP, message(b"x\n"))], Disk(), _names()) == [None]
    [path] = (tmp_path / "new").iterdir()
    assert path.read_bytes() == TOP + b"x\n"
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_nlink == 1


def test_who_waited_for_an_mbox_that_was_replaced_meanwhile_writes_to_the_new_one(tmp_path, message, monkeypatch):
    """maildir2mbox puts a new file in its place under the lock: what went to the old one would be lost."""
    path = tmp_path / "Mailbox"
    path.write_bytes(b"")
    lock, replaced = durable.SharedFile.lock, []

    def lock_of_one_who_replaces(self):
        lock(self)
        if not replaced:
            (tmp_path / "new").write_bytes(b"From old\n\nkept\n\n")
            (tmp_path / "new").rename(path)
            replaced.append(True)

    monkeypatch.setattr(durable.SharedFile, "lock", lock_of_one_who_replaces)
    deliver_mbox(bytes(path), b"From s\n", message(b"x\n\nnew\n"), Disk())
    assert path.read_bytes() == b"From old\n\nkept\n\nFrom s\nx\n\nnew\n\n"


def test_an_mbox_that_is_replaced_again_and_again_puts_the_mail_off(tmp_path, message, monkeypatch):
    path = tmp_path / "Mailbox"
    monkeypatch.setattr(durable.SharedFile, "lock", lambda self: path.unlink())
    with pytest.raises(DeliveryFailed) as failed:
        deliver_mbox(bytes(path), b"From s\n", message(b"x\n"), Disk())
    assert failed.value.text.endswith(b" is replaced again and again. (#4.2.1)")
    assert not path.exists()
