"""fetch/pop3d.py and wire/pop3.py: dialogues as notqmail 1.09 answers them, and any cut of the bytes."""

import os

import pytest

from notqmail.fetch import maildir, pop3d
from notqmail.fetch.pop3d import Broken, Session
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.durable import Disk
from notqmail.unix.peer import Peer
from notqmail.wire import pop3
from notqmail.wire.command_lines import LINE_MAX, CommandLines

NOW_S = 1_700_001_000
STORED = {
    b"new/1700000001.P1.h": b"Subject: one\n\nbody\n.dot\n..\n",
    b"cur/1700000002.P2.h:2,S": b"Subject: two\r\n\r\nx\r\n",
    b"cur/1700000003.P3.h": b"\n.first line is empty\nsecond",
    b"new/1700000004.P4.h": b"",
}
WHOLE = b"+OK \r\nSubject: one\r\n\r\nbody\r\n..dot\r\n...\r\n\r\n.\r\n"
ONE_LINE = b"+OK \r\nSubject: one\r\n\r\nbody\r\n\r\n.\r\n"
HEADER = b"+OK \r\nSubject: one\r\n\r\n\r\n.\r\n"
CARRIAGE_RETURNS = b"+OK \r\nSubject: two\r\r\n\r\r\nx\r\r\n\r\n.\r\n"

# Found by running the C program on the same Maildir; the greeting is left out.
AS_IN_C = [
    (
        b"STAT\r\nLIST\r\nUIDL\r\nLAST\r\nNOOP\r\n",
        b"+OK 4 74\r\n+OK \r\n1 27\r\n2 19\r\n3 28\r\n4 0\r\n.\r\n+OK \r\n1 1700000001.P1.h\r\n2 1700000002.P2.h\r\n"
        b"3 1700000003.P3.h\r\n4 1700000004.P4.h\r\n.\r\n+OK 0\r\n+OK \r\n",
    ),
    (
        b"list 1\nUIDL 2\r\nuidl 3\r\nLIST 4\r\n",
        b"+OK 1 27\r\n+OK 2 1700000002.P2.h\r\n+OK 3 1700000003.P3.h\r\n+OK 4 0\r\n",
    ),
    (b"RETR 1\r\n", WHOLE),
    (b"RETR 2\r\n", CARRIAGE_RETURNS),
    (b"RETR 3\r\n", b"+OK \r\n\r\n..first line is empty\r\nsecond\r\n\r\n.\r\n"),
    (b"RETR 4\r\n", b"+OK \r\n\r\n.\r\n"),
    (b"TOP 1 0\r\n", HEADER),
    (b"TOP 1 1\r\n", ONE_LINE),
    (b"TOP 1 2\r\n", b"+OK \r\nSubject: one\r\n\r\nbody\r\n..dot\r\n\r\n.\r\n"),
    (b"TOP 1 3\r\n", WHOLE),
    (b"TOP 1 99999999999999999999999\r\n", WHOLE),
    (b"TOP 1\r\n", WHOLE),
    (b"TOP 3 1\r\n", b"+OK \r\n\r\n..first line is empty\r\n\r\n.\r\n"),
    (b"TOP 2 0\r\n", CARRIAGE_RETURNS),
    (b"RETR 1 1\r\n", ONE_LINE),
    (b"TOP 1x1\r\n", WHOLE),
    (b"TOP 1  1x\r\n", ONE_LINE),
    (
        b"DELE 2\r\nDELE 2\r\nRETR 2\r\nSTAT\r\nLIST\r\nUIDL\r\n"
        b"LIST 2\r\nLAST\r\nDELE 1\r\nLAST\r\nRSET\r\nLAST\r\nSTAT\r\n",
        b"+OK \r\n-ERR already deleted\r\n-ERR already deleted\r\n+OK 4 55\r\n+OK \r\n"
        b"1 27\r\n3 28\r\n4 0\r\n.\r\n+OK \r\n"
        b"1 1700000001.P1.h\r\n3 1700000003.P3.h\r\n4 1700000004.P4.h\r\n.\r\n-ERR already deleted\r\n+OK 2\r\n+OK \r\n"
        b"+OK 2\r\n+OK \r\n+OK 0\r\n+OK 4 74\r\n",
    ),
    (
        b"RETR\r\nRETR 0\r\nRETR 5\r\nRETR x\r\nRETR -1\r\nRETR 99999999999\r\n"
        b"DELE\r\nTOP\r\nLIST 0\r\nUIDL x\r\nRETR 01 0\r\n",
        b"-ERR syntax error\r\n-ERR messages are counted from 1\r\n-ERR not that many messages\r\n-ERR syntax error\r\n"
        b"-ERR syntax error\r\n-ERR not that many messages\r\n-ERR syntax error\r\n-ERR syntax error\r\n"
        b"-ERR messages are counted from 1\r\n-ERR syntax error\r\n" + HEADER,
    ),
    (
        b"\r\nUSER x\r\nSTATX\r\n STAT\r\nSTAT\r\r\nSTAT\x00x\r\nLIST\t1\r\nSTAT 9\r\n",
        b"-ERR unimplemented\r\n" * 5 + b"+OK 4 74\r\n-ERR unimplemented\r\n+OK 4 74\r\n",
    ),
    (b"LIST   1  \r\nLIST \r\n", b"+OK 1 27\r\n+OK \r\n1 27\r\n2 19\r\n3 28\r\n4 0\r\n.\r\n"),
]
OUR_OWN = [
    (b"CAPA\r\n", b"+OK capabilities follow\r\nTOP\r\nUSER\r\nUIDL\r\n.\r\n"),
    (b"x" * (LINE_MAX + 2) + b"\nNOOP\r\n", b"-ERR line too long\r\n+OK \r\n"),
    (b"RETR 18446744073709551617\r\n", b"-ERR not that many messages\r\n"),
    (b"RETR " + b"9" * 4_000 + b"\r\n", b"-ERR not that many messages\r\n"),
]


def maildir_on(disk):
    for number, (path, content) in enumerate(STORED.items()):
        disk.create(path, (content,))
        disk.set_modified(path, 1_700_000_000 + number)
    return disk


@pytest.fixture
def disk():
    return maildir_on(FakeDisk())


def said(session, pieces):
    reader, answers = CommandLines(), b""
    for piece in pieces:
        reader.receive(piece)
        while not session.ended and (command := reader.next_command()) is not None:
            answers += b"".join(session.answer(command))
    return answers


def new_session(disk):
    return Session(disk, maildir.messages(disk, NOW_S))


@pytest.mark.parametrize(("dialogue", "answers"), [*AS_IN_C, *OUR_OWN], ids=lambda text: repr(text[:30]))
def test_a_dialogue_however_it_is_cut(disk, dialogue, answers):
    assert said(new_session(disk), [dialogue]) == answers
    assert said(new_session(disk), [dialogue[at : at + 1] for at in range(len(dialogue))]) == answers


@pytest.mark.parametrize(
    ("dialogue", "answers", "new", "cur"),
    [
        (b"DELE 1\r\nDELE 3\r\nQUIT\r\n", b"+OK \r\n" * 3, [], ["2.P2.h:2,S", "4.P4.h:2,"]),
        (b"QUIT now\r\nSTAT\r\n", b"+OK \r\n", [], ["1.P1.h:2,", "2.P2.h:2,S", "3.P3.h", "4.P4.h:2,"]),
        (b"DELE 1\r\n", b"+OK \r\n", ["1.P1.h", "4.P4.h"], ["2.P2.h:2,S", "3.P3.h"]),
        (b"DELE 1\r\nQUIT", b"+OK \r\n", ["1.P1.h", "4.P4.h"], ["2.P2.h:2,S", "3.P3.h"]),
        (b"DELE 1\r\nRSET\r\nQUIT\r\n", b"+OK \r\n" * 3, [], ["1.P1.h:2,", "2.P2.h:2,S", "3.P3.h", "4.P4.h:2,"]),
    ],
)
def test_what_is_left_of_the_maildir(disk, dialogue, answers, new, cur):
    assert said(new_session(disk), [dialogue]) == answers
    assert sorted(disk.names(b"new")) == [b"170000000" + name.encode() for name in new]
    assert sorted(disk.names(b"cur")) == [b"170000000" + name.encode() for name in cur]


def test_a_message_that_vanished_is_an_error_of_its_own_command_only(disk):
    session = new_session(disk)
    disk.unlink(b"new/1700000001.P1.h")
    assert said(session, [b"RETR 1\r\nRETR 4\r\n"]) == b"-ERR unable to open that message\r\n+OK \r\n\r\n.\r\n"
    disk.unlink(b"cur/1700000003.P3.h")
    answers = said(session, [b"DELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n"])
    assert answers == b"+OK \r\n" * 3 + b"-ERR unable to unlink all deleted messages\r\n" * 2 + b"+OK \r\n"
    assert list(disk.names(b"cur")) == [b"1700000004.P4.h:2,"]


def test_a_message_that_cannot_be_moved_stays_new(disk):
    session = new_session(disk)
    disk.unlink(b"new/1700000001.P1.h")
    assert said(session, [b"QUIT\r\n"]) == b"+OK \r\n"
    assert session.ended


class BreaksOff(FakeDisk):
    def read_chunks(self, path, size=65_536):
        yield b"some\n"
        raise OSError(5, "broken")


def test_a_message_that_cannot_be_read_on_ends_the_session_without_its_dot():
    disk = maildir_on(BreaksOff())
    taken = []
    with pytest.raises(Broken):
        taken.extend(new_session(disk).answer((b"RETR", b"1")))
    assert taken == [b"+OK \r\n", b"some\r\n"]


class Counting(FakeDisk):
    def read_chunks(self, path, size=65_536):
        for _ in range(1_000):
            self.taken = getattr(self, "taken", 0) + 1
            yield b"x" * 99 + b"\n"


def test_a_message_goes_out_as_it_is_read():
    disk = maildir_on(Counting())
    pieces = new_session(disk).answer((b"RETR", b"1"))
    assert next(pieces) == b"+OK \r\n" and len(next(pieces)) == 101
    assert disk.taken <= 2


def test_top_reads_no_further_than_it_has_to():
    disk = maildir_on(Counting())
    chunks = [b"h\n\n", b"1\n2\n3\n", b"4\n"]
    disk.read_chunks = lambda path: iter(chunks.pop(0) for _ in range(3))
    assert b"".join(new_session(disk).answer((b"TOP", b"1 2"))) == b"+OK \r\nh\r\n\r\n1\r\n2\r\n\r\n.\r\n"
    assert len(chunks) <= 1


def test_long_listings_come_in_pieces(disk):
    messages = [maildir.Stored(b"new/%d" % number, number, 0) for number in range(1_000)]
    pieces = list(Session(disk, messages).answer((b"LIST", b"")))
    assert len(pieces) > 5
    assert b"".join(pieces) == b"+OK \r\n" + b"".join(b"%d %d\r\n" % (n + 1, n) for n in range(1_000)) + b".\r\n"


# -- the text of messages --------------------------------------------------------------------------------------------

TEXTS = [
    b"",
    b"\n",
    b".",
    b".\n",
    b"a\n\n.b\n.\n\nc",
    b"a\r\n\r\n.b\r",
    b"\n\n\n",
    b"h\n\n1\n2\n3\n4",
    b"\r\n.\r\r\n",
    b"x",
]


def line_by_line(text, body_lines):
    """What the C program does, in its own steps."""
    out, left, in_header = b"", body_lines, True
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for line in lines:
        if left is not None and not in_header:
            if left == 0:
                break
            left -= 1
        if not line:
            in_header = False
        out += (b"." if line.startswith(b".") else b"") + line + b"\r\n"
    return out + b"\r\n.\r\n"


@pytest.mark.parametrize("body_lines", [None, 0, 1, 2, 3, 99])
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_the_same_however_it_is_read(text, body_lines):
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            encoder = pop3.MessageText(body_lines)
            got = b"".join(encoder.feed(part) for part in (text[:first], text[first:second], text[second:]))
            assert got + encoder.finish() == line_by_line(text, body_lines)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r",
        b"USER joe",
        b"user  joe \r",
        b"PASS a\0b\r",
        b"\0",
        b" x",
        b"PASS  ",
        b"a\r\r",
        b"A\r\0",
        b"pass \xff",
    ],
)
def test_the_login_s_lines_are_split_as_the_mailbox_s(line):
    reader = CommandLines()
    reader.receive(line + b"\n")
    assert reader.next_command() == tuple(map(bytes, pop3.split_line(bytearray(line))))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"1", (1, b"")), (b"007 x", (7, b" x")), (b"1" * 18, (int("1" * 18), b"")), (b"1" * 19, (10**18, b"")),
        (b"9" * 5_000, (10**18, b"")), (b"2?", (2, b"?")), (b"", None), (b" 1", None), (b"?1", None), (b"-1", None),
    ],
)  # fmt: skip
def test_a_number_may_be_of_any_length(text, found):
    assert pop3.leading_number(text) == found


# -- the listing -----------------------------------------------------------------------------------------------------


def test_messages_are_in_the_order_of_their_time_then_their_name():
    disk = FakeDisk()
    for path, modified_s in [(b"new/b", 5), (b"cur/c:2,S", 5), (b"new/a", 7), (b"cur/z", 3), (b"new/.hidden", 1),
                             (b"new/now", NOW_S), (b"cur/later", NOW_S + 1)]:  # fmt: skip
        disk.create(path, (b"x",))
        disk.set_modified(path, modified_s)
    assert [stored.path for stored in maildir.messages(disk, NOW_S)] == [b"cur/z", b"new/b", b"cur/c:2,S", b"new/a"]


def test_a_link_that_leads_nowhere_is_no_message(tmp_path):
    for name in ("new", "cur"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "gone").symlink_to("nowhere")
    (tmp_path / "new" / "loop").symlink_to("loop")
    assert maildir.messages(Disk(os.fsencode(tmp_path)), 2**40) == []


def test_there_is_a_limit_to_messages(monkeypatch, disk):
    monkeypatch.setattr(maildir, "MESSAGES_MAX", 3)
    assert len(maildir.messages(disk, NOW_S)) == 3


def test_only_old_files_are_swept_from_tmp():
    disk = FakeDisk()
    for name, age_s in [(b"old", maildir.SWEEP_AGE_S + 1), (b"young", maildir.SWEEP_AGE_S), (b".old", 10**7)]:
        disk.now_s = NOW_S - age_s
        disk.create(b"tmp/" + name, (b"x",))
    maildir.sweep(disk, NOW_S)
    assert sorted(disk.names(b"tmp")) == [b".old", b"young"]


# -- the whole session over descriptors ------------------------------------------------------------------------------


class OurClock:
    def __init__(self, *steady_s):
        self._steady_s = list(steady_s)

    def now_s(self):
        return NOW_S

    def steady_s(self):
        return self._steady_s.pop(0) if self._steady_s else 0.0


def served(disk, data, clock=None, timeout_s=20):
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    answers, answering = os.pipe()
    try:
        pop3d.serve(disk, clock or OurClock(), Peer(reader, answering, timeout_s))
    finally:
        os.close(reader)
        os.close(answering)
    with open(answers, "rb") as file:
        return file.read()


def test_a_session_ends_with_quit_or_with_the_client(disk):
    assert served(disk, b"STAT\r\nQUIT\r\nSTAT\r\n") == b"+OK \r\n+OK 4 74\r\n+OK \r\n"
    assert served(disk, b"STAT\r\nSTA") == b"+OK \r\n+OK 4 74\r\n"


def test_a_session_does_not_last_longer_than_a_day(disk):
    clock = OurClock(5.0, 6.0, 7.0, 8.0, 5.0 + pop3d.SESSION_MAX_S)
    assert served(disk, b"NOOP\r\n" * 10, clock) == b"+OK \r\n" * 3


def test_a_client_that_is_silent_is_left(disk):
    reader, writer = os.pipe()
    answers, answering = os.pipe()
    pop3d.serve(disk, OurClock(), Peer(reader, answering, 0))
    assert os.read(answers, 100) == b"+OK \r\n"
    for descriptor in (reader, writer, answers, answering):
        os.close(descriptor)


class Unlisted(FakeDisk):
    def each_name(self, directory):
        raise PermissionError(13, "no")


def test_a_maildir_that_cannot_be_read_is_said_to_be_so():
    assert served(Unlisted(), b"STAT\r\n") == b"-ERR unable to scan $HOME/Maildir\r\n"


def test_a_session_begins_with_sweeping_what_nobody_will_finish(disk):
    disk.now_s = NOW_S - maildir.SWEEP_AGE_S - 1
    disk.create(b"tmp/unfinished", (b"x",))
    served(disk, b"QUIT\r\n")
    assert b"unfinished" not in disk.names(b"tmp")


def test_the_times_are_the_classic_ones():
    assert (maildir.SWEEP_AGE_S, pop3d.TIMEOUT_S, pop3d.SESSION_MAX_S) == (36 * 3_600, 1_200, 24 * 3_600)


def test_who_has_no_maildir_is_told_so_and_who_has_gone_is_not():
    answers, answering = os.pipe()
    pop3d.refuse(Peer(answers, answering, 20))
    assert os.read(answers, 200) == b"-ERR this user has no $HOME/Maildir\r\n"
    os.close(answers)
    pop3d.refuse(Peer(answering, answering, 20))
    os.close(answering)


class Guarded(FakeDisk):
    """One file in tmp/ is somebody else's."""

    def unlink(self, path):
        if path == b"tmp/a":
            raise PermissionError(13, "no")
        super().unlink(path)


def test_a_file_that_cannot_be_swept_does_not_save_the_next_one():
    disk = Guarded()
    for name in (b"tmp/a", b"tmp/b"):
        disk.create(name, (b"x",))
    maildir.sweep(disk, disk.now_s + maildir.SWEEP_AGE_S + 1)
    assert disk.names(b"tmp") == [b"a"]
