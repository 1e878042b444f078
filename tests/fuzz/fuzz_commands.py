"""Targets: what the small programs read, which strangers wrote: headers, ident answers, log lines, utmp records."""

from fuzz_driver import same_however_cut, target

from notqmail.control import assign
from notqmail.control.mail_users import Assignments, Rules, Unusable
from notqmail.deliver.commands.qbiff import TEXT_MAX, announcement
from notqmail.deliver.commands.qreceipt import qreceipt, requests
from notqmail.message.header_fields import field_name
from notqmail.programs.qmail_newmrh import hosts
from notqmail.programs.qmail_tcpto import listing
from notqmail.receive.mailsubj import header
from notqmail.receive.tcp_env import Wishes
from notqmail.send.splogger import PIECE_MAX, LineLogger, facility_code
from notqmail.unix.leaving import Leaving
from notqmail.unix.sessions import logged_in
from notqmail.wire.ident import NAME_MAX, IdentAnswer
from notqmail.wire.reports import Report, success


class Notices:
    """A submission that only remembers whether it was used."""

    qp = 1

    def __init__(self) -> None:
        self.text, self.recipients = b"", [b""]

    def write(self, data: bytes) -> None:
        self.text += data

    def abandon(self) -> None:
        raise AssertionError("a notice is complete before it is begun")

    def close(self, sender: bytes, recipients: list[bytes]) -> Report:
        assert sender == b"", "a notice must not be answered"
        self.recipients = recipients
        return success()


REQUEST = b"Notice-Requested-Upon-Delivery-To: "


@target("qreceipt", REQUEST, b"joe@h", b"\n", b"\n ", b"\n\n", b"Message-ID: ", b"From ", b"<", b">", b",", b":", b'"')
def notice_requests(data: bytes) -> None:
    def sent(pieces: list[bytes]) -> object:
        submission, left = Notices(), iter(pieces)
        try:
            qreceipt(
                [b"joe@h"], home=b"/", environ={b"SENDER": b"s@x"}, read_more=lambda: next(left, b""),
                submission_for=lambda *_: submission,  # type: ignore[arg-type,return-value]
            )  # fmt: skip
        except Leaving as leaving:
            assert leaving.code == 100 and leaving.line is not None
            return leaving.line
        assert not submission.text or submission.text.startswith(b"From: DELIVERY NOTICE SYSTEM <s@x>\nTo: <s@x>\n")
        return submission.text

    same_however_cut(data, lambda pieces: sent([piece for piece in pieces if piece]))
    try:
        requests(REQUEST + data, b"joe@h")
    except Leaving:
        pass


@target("qbiff", b"Subject: ", b"subject:", b"\n", b"\n\n", b"\n ", b"From ", b"\x1b[", b"\r")
def announcements(data: bytes) -> None:
    def said(pieces: list[bytes]) -> bytes:
        left = iter([piece for piece in pieces if piece])
        return announcement(data[:30], data[-30:], lambda: next(left, b""))

    text = same_however_cut(data, said)
    assert isinstance(text, bytes)
    first, second, third, last = text.split(b"\r\n")
    assert (first, last) == (b"", b"") and second[:1] == b"\a" and len(third) <= TEXT_MAX
    assert all(32 <= byte <= 126 for byte in second[1:] + third), "nothing that a terminal obeys"


@target("ident", b"1 , 2 : USERID : UNIX : ", b":", b" ", b"\r\n", b"ERROR", b"a" * 500)
def ident_answers(data: bytes) -> None:
    def name(pieces: list[bytes]) -> object:
        reader = IdentAnswer()
        for piece in pieces:
            try:
                found = reader.receive(piece)
            except ValueError as error:
                return str(error)
            if found is not None:
                return found
        return None

    found = same_however_cut(data, name)
    if isinstance(found, bytes):
        assert len(found) <= NAME_MAX and not set(found) & set(b" \t\r\n")


@target("splogger", b"alert:", b"warning:", b"\n", b"a" * 799, b"\0", b"\x1b")
def log_lines(data: bytes) -> None:
    def logged(pieces: list[bytes]) -> object:
        found: list[tuple[int, str]] = []
        logger = LineLogger(lambda priority, text: found.append((priority, text)), lambda: 1_000_000)
        for piece in pieces:
            logger.receive(piece)
        logger.finish()
        return tuple(found)

    messages = same_however_cut(data, logged)
    assert isinstance(messages, tuple)
    assert sum(len(text) - len("1.000000 ") for _, text in messages) == len(data) - data.count(b"\n")
    for priority, text in messages:
        assert priority in (1, 4, 6) and len(text) <= PIECE_MAX + 9 and text.isprintable() and text.isascii()
    assert -(2**31) <= facility_code(data) < 2**31


@target("utmp", b"\x07\0", b"pts/1\0", b"joe\0", b"\0" * 30, b"/", b".")
def utmp_files(data: bytes) -> None:
    for length in (384, 400):
        sessions = logged_in(data, length)
        assert len(sessions) <= len(data) // length
        assert all(len(part) <= 32 and b"\0" not in part for session in sessions for part in session)


@target("passwd", b"alias:x:1:1::/h:s\n", b":", b"\n", b"\0", b"include", b"exclude", b"mailnames", b"joe", b"#", b"::")
def password_files(data: bytes) -> None:
    passwd, sub_users, *files = (data + b"\0\0\0\0").split(b"\0")
    rules = Rules(
        homes=b"oHh"[len(data) % 3 :][:1], break_char=b"-" if data[-1:] in (b"", b":", b"\n", b"\0") else data[-1:]
    )
    rules.read(dict(zip(("include", "exclude", "mailnames"), files, strict=False)).get)
    assignments = Assignments(rules, lambda home: len(home) or None)
    try:
        lines = [*assignments.accounts(passwd.split(b"\n")), *assignments.sub_users(sub_users.split(b"\n"))]
    except Unusable as unusable:
        assert unusable.text
        return
    assert lines[0][:1] in b"+=" and all(line.count(b"\n") == 1 for line in lines)
    assert len(assign.records(b"".join(lines) + b".\n")) == len(lines) + 1, "qmail-newu understands every line"
    assert all(host and host == host.lower() and b"\n" not in host for host in hosts(data))
    assert listing(data, 0).count(b"\n") <= len(data) // 16


@target("command-words", b"-", b"--", b"-t", b"-R", b"\0", b"\n", b"9" * 30, b"@")
def words_of_commands(data: bytes) -> None:
    words = data.split(b"\0")
    fields = header(words).split(b"\n")
    assert len(fields) == 4 and [field_name(field) for field in fields[:2]] == [b"subject", b"to"]
    try:
        wishes = Wishes(words)
    except Leaving as leaving:
        assert (leaving.code, leaving.line) == (111, None)
        return
    assert wishes.program and words[-len(wishes.program) :] == wishes.program and wishes.timeout_s >= 0
