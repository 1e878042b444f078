"""Targets: what POP3 clients say, what checkpassword reads, and the files of `fetch/`."""

import os
import socket

from fuzz_driver import same_however_cut, target

from notqmail.control.passwords import Damaged, is_scrypt, parse_passwords, parse_scrypt
from notqmail.fetch import checkpassword, maildir, pop3d, popup
from notqmail.fetch.checkpassword import Leave
from notqmail.message.mbox import from_line_of_stored
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire import pop3
from notqmail.wire.command_lines import CommandLines

NOW_S = 1_700_001_000
STORED = {b"new/1.a": b"Subject: one\n\nbody\n.dot\n", b"cur/2.b:2,S": b"\r\n\r\nx", b"new/3.c": b""}
POP3_WORDS = (
    b"STAT\r\n", b"LIST\r\n", b"UIDL 1\r\n", b"RETR 1\r\n", b"TOP 2 1\r\n", b"DELE 1\r\n", b"DELE 3\n", b"RSET\r\n",
    b"LAST\r\n", b"NOOP\r\n", b"CAPA\r\n", b"QUIT\r\n", b" ", b"\r\n", b"\n", b"\0", b"99999999999999999999",
    b"x" * 300,
)  # fmt: skip


@target("pop3-mailbox", *POP3_WORDS)
def a_reader_of_a_mailbox(data: bytes) -> None:
    def conversed(pieces: list[bytes]) -> object:
        disk = FakeDisk(1_000)
        for path, text in STORED.items():
            disk.create(path, (text,))
        session, reader, answers = pop3d.Session(disk, maildir.messages(disk, NOW_S)), CommandLines(), list[bytes]()
        for piece in pieces:
            reader.receive(piece)
            while not session.ended and (command := reader.next_command()) is not None:
                answers.append(b"".join(session.answer(command)))
        return answers, session.ended, sorted(disk.everything())

    result = same_however_cut(data, conversed)
    assert isinstance(result, tuple)
    answers, ended, left = result
    assert ended or len(answers) == data.count(b"\n")
    assert ended or set(left) == set(STORED), "nothing goes before QUIT"
    assert len(left) == len(STORED) or b"dele" in data.lower()
    for answer in answers:
        assert answer.startswith((b"+OK ", b"-ERR ")) and answer.endswith(b"\r\n")


@target("pop3-login", b"USER joe\r\n", b"PASS x\r\n", b"APOP a b\r\n", b"QUIT\r\n", b"CAPA\r\n", b"USER ", b"\0", b"\r",
        b"\n", b"PASS  a \r\n", b"NOOP\r\n")  # fmt: skip
def a_client_that_logs_in(data: bytes) -> None:
    """Line by line, as the program reads; the mailbox's reader must see the same commands."""
    dialogue, reader = popup.Dialogue(), CommandLines()
    reader.receive(data)
    for line in data.split(b"\n")[:-1]:
        assert reader.next_command() == tuple(map(bytes, pop3.split_line(bytearray(line))))
        answer = dialogue.answer(bytearray(line))
        if dialogue.login is not None:
            record = dialogue.login.record(b"<1.2@h>")
            assert answer == b"" and record.count(b"\0") == 3
            login, password = checkpassword.split_record(record)
            assert (login, password) == (dialogue.login.user, dialogue.login.secret)
            return
        assert answer.startswith((b"+OK ", b"-ERR ")) and answer.endswith(b"\r\n")
        if dialogue.ended:
            return


@target("pop3-text", b"\n", b"\n\n", b".", b"\n.\n", b"\r\n", b"\r", b"x", b"\n..\n")
def texts_of_messages(data: bytes) -> None:
    """The first byte says how many lines of the body; who undoes the dots must see the message's beginning."""
    wanted, text = (data[0] % 8 if data else 0), data[1:]
    body_lines = None if wanted == 7 else wanted

    def encoded(pieces: list[bytes]) -> object:
        encoder = pop3.MessageText(body_lines)
        return b"".join(map(encoder.feed, pieces)) + encoder.finish()

    sent = same_however_cut(text, encoded)
    assert isinstance(sent, bytes) and sent.endswith(b"\r\n.\r\n")
    assert b"\n.\r\n" not in sent[:-3], "it ends once"
    got = b"".join(line.removeprefix(b".") + b"\n" for line in sent[:-5].split(b"\r\n")[:-1])
    whole = text if text.endswith(b"\n") or not text else text + b"\n"
    assert whole.startswith(got)
    if body_lines is None:
        assert got == whole
    elif got != whole:
        assert got.partition(b"\n\n")[2].count(b"\n") == body_lines or got.startswith(b"\n")


@target("checkpassword", b"joe\0secret\0<1.2@h>\0", b"\0", b"\0\0\0", b"x" * 200, size_max=2_000)
def logins(data: bytes) -> None:
    def read(pieces: list[bytes]) -> object:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for piece in pieces:
            if piece:
                ours.send(piece)
        ours.close()
        descriptor = theirs.detach()
        try:
            record = checkpassword.read_record(descriptor)
            assert record == data
            return checkpassword.split_record(record)
        except Leave as left:
            return left.code
        finally:
            os.close(descriptor)

    result = same_however_cut(data, read)
    if isinstance(result, tuple):
        login, password = result
        assert data.startswith(login + b"\0" + bytes(password) + b"\0") and len(data) <= checkpassword.RECORD_MAX
    else:
        assert result == (1 if len(data) > checkpassword.RECORD_MAX else 2)


@target("passwords", b"joe:", b"$scrypt$ln=4,r=8,p=1$", b"$", b":alice\n", b"\n", b"#", b"MDEyMzQ1Njc4OWFiY2RlZg$",
        b"=", b"$6$salt$hash", b"\0")  # fmt: skip
def password_files(data: bytes) -> None:
    try:
        entries = parse_passwords(data)
    except Damaged:
        return
    lines = [line for line in data.split(b"\n") if line and not line.startswith(b"#")]
    assert len(entries) == len(lines)
    for entry, line in zip(entries, lines, strict=True):
        assert line in (entry.login + b":" + entry.hash, b":".join((entry.login, entry.hash, entry.account)))
        if is_scrypt(entry.hash):
            try:
                found = parse_scrypt(entry.hash)
            except Damaged:
                continue
            assert found.memory <= 128 * 1024 * 1024 and parse_scrypt(found.encode()).key == found.key


@target("mbox-from", b"Return-Path: <", b">", b"\t", b" ", b"\r")
def from_lines(data: bytes) -> None:
    line = from_line_of_stored(data.partition(b"\n")[0], 0)
    assert line.startswith(b"From ") and line.endswith(b" Thu Jan 01 00:00:00 1970\n")
    assert line.count(b"\n") == 1 and line.count(b" ") == 6 and b"\t" not in line
