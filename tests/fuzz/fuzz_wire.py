"""Targets: the protocols of `wire/`, parser by parser."""

from fuzz_driver import same_however_cut, target

from notqmail.deliver.worker_link import BadPacket, decode_jobs, decode_results, encode_jobs, encode_result
from notqmail.queue.client import read_answer
from notqmail.wire import command_lines, netstring, qmqp, smtp_server, spawn_link
from notqmail.wire.dot import BareNewline, DotDecoder
from notqmail.wire.queue_exit import exit_for_report, report_for_exit
from notqmail.wire.reply_reader import MALFORMED, REPLY_MAX, TEXT_MAX, EndlessReply, ReplyReader
from notqmail.wire.reports import decode_report
from notqmail.wire.stuffing import END, PartialLine, Stuffer

NETSTRING_WORDS = (b"0:,", b"5:hello,", b"9999999999:", b"200000001:", b"00000000001:x,", b":", b"!", b"1:!,", b"@9,",
                   b"12:3:abc,0:,0:,,")  # fmt: skip


@target("netstring", *NETSTRING_WORDS)
def netstrings(data: bytes) -> None:
    try:
        found = netstring.decode_all(data)
    except netstring.BadNetstring:
        return
    assert netstring.decode_all(b"".join(map(netstring.encode, found))) == found
    assert sum(map(len, found)) + 3 * len(found) <= len(data)


@target("qmqp-connection", *NETSTRING_WORDS)
def packages_of_a_connection(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader, bodies = qmqp.PackageReader(limit=1_000), list[bytes]()
        try:
            for piece in [*pieces, b""]:
                bodies += reader.receive(piece)
        except netstring.BadNetstring:
            return bodies, "broken"
        return bodies, "open"

    same_however_cut(data, heard)


@target("qmqp-package", *NETSTRING_WORDS, b"@12345678901234567890,")
def packages(data: bytes) -> None:
    try:
        package = qmqp.decode_package(data)
    except netstring.BadNetstring:
        return
    if package.message is not None:
        assert len(package.message) == package.length
        frame = qmqp.encode_package(package.message, package.sender, package.recipients)
    else:
        frame = qmqp.encode_descriptor_package(package.length, package.sender, package.recipients)
    [body] = qmqp.PackageReader().receive(frame)
    again = qmqp.decode_package(body)
    assert (again.message, again.length, again.sender) == (package.message, package.length, package.sender)
    assert again.recipients == package.recipients


@target("queue-answer", b"K", b"Z", b"D", b"ok 1 qp 12", b"qp ", b"(#4.3.0)", b"\r\n250 ok")
def answers_of_the_queue(data: bytes) -> None:
    report, number = read_answer(data)
    assert report.kind in (b"K", b"Z", b"D")
    assert number >= 0
    assert decode_report(report.encode()) == report
    custom = report_for_exit(82, data)
    for refused in (report, custom):
        code = exit_for_report(refused)
        assert (code == 0) == refused.succeeded
        if not refused.succeeded:
            reply = smtp_server.queue_refusal(refused.text, permanent=refused.kind == b"D")
            for line in (reply.plain, reply.enhanced):
                assert line.endswith(b"\r\n")
                assert b"\n" not in line[:-2] and b"\r" not in line[:-2] and b"\0" not in line
                assert len(line) <= 1_000 and line[:1] in b"45"


@target("spawn-command", b"\0", b"\x0014/2540341\0sender@x\0rcpt@y\0", b"\x78", b"../../etc/passwd\0")
def spawn_commands(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader = spawn_link.CommandReader()
        return [found for piece in pieces for found in reader.receive(piece)]

    found = same_however_cut(data, heard)
    assert isinstance(found, list)
    written = b"".join([one.encode() for one in found])
    assert data.startswith(written), "what was read is what stood there"


@target("spawn-report", b"\0", b"\0\0", b"\x01Kok\0", b"\x02Z\0", b"\x77Dno\n\0", b"\x03x\0", b"y" * 700)
def spawn_reports(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader = spawn_link.ReportReader()
        return [found for piece in pieces for found in reader.receive(piece)]

    found = same_however_cut(data, heard)
    assert isinstance(found, list)
    for slot, report in found:
        assert 0 <= slot <= 255
        if report is not None:
            assert spawn_link.ReportReader().receive(spawn_link.encode_report(slot, report)) == [(slot, report)]


@target("worker-jobs", b"\x01\x00", b"\0" * 8, b"\x02\x00\x01", b"u\0/h\0l\0-\0e\0d\0s\0\0")
def worker_jobs(data: bytes) -> None:
    try:
        jobs = decode_jobs(data)
    except BadPacket:
        return
    assert encode_jobs(jobs) == data


@target("worker-results", b"\x00\x00\x00\x00\x00", b"\x01\xff\xff\x00\x02ok", b"\xff\xff\xff\xff\xff")
def worker_results(data: bytes) -> None:
    found = []
    try:
        for result in decode_results(data):
            found.append(result)
    except BadPacket:
        return
    assert b"".join(encode_result(*result) for result in found) == data


END_WORDS = (b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r\r\n.\r\r\n", b"..", b"\0",
             b"\r\n", b"\n\r.\n\r", b"Received: a\r\n", b"delivered-to:", b"\r\n\r\n", b"RSET\r\n")  # fmt: skip


def expected_message(data: bytes) -> tuple[str, int]:
    """What RFC 5321 says, byte by byte: ("ended", where), ("refused", where the bare LF is) or ("open", 0)."""
    before = b"\r\n"
    for at in range(len(data)):
        before = (before + data[at : at + 1])[-5:]
        if before == b"\r\n.\r\n":
            return "ended", at + 1
        if before[-1:] == b"\n" and before[-2:-1] != b"\r":
            return "refused", at
    return "open", 0


@target("data", *END_WORDS)
def the_end_of_data(data: bytes) -> None:
    def decoded(pieces: list[bytes]) -> object:
        decoder, stored, rest = DotDecoder(), b"", b""
        try:
            for piece in pieces:
                if decoder.ended:
                    rest += piece
                    continue
                stored += decoder.receive(piece)
                rest = decoder.rest
        except BareNewline:
            return "refused"
        return ("ended", stored, rest, decoder.hops) if decoder.ended else "open"

    result = same_however_cut(data, decoded)
    kind, end = expected_message(data)
    assert (result if isinstance(result, str) else "ended") == kind
    if isinstance(result, tuple):
        assert result[2] == data[end:]
        assert len(result[1]) <= end


@target("stuffing", *END_WORDS)
def what_we_send_as_data(data: bytes) -> None:
    def sent(pieces: list[bytes]) -> object:
        stuffer = Stuffer()
        try:
            return b"".join(map(stuffer.feed, pieces)) + stuffer.finish() + END
        except PartialLine:
            return None

    wire = same_however_cut(data, sent)
    assert (wire is None) == bool(data and data[-1:] not in (b"\r", b"\n"))
    if isinstance(wire, bytes):
        assert not wire.replace(b"\r\n", b"").count(b"\n") and not wire.replace(b"\r\n", b"").count(b"\r")
        decoder = DotDecoder()
        stored = decoder.receive(wire)
        assert decoder.ended and decoder.rest == b""
        assert stored == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@target(
    "smtp-reply", b"250 ok\r\n", b"250-a\r\n", b"-\n", b"\n", b"220", b"999", b"\0", b"25x ", b"421 bye\n", b"x" * 900
)
def replies(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader, found = ReplyReader(), list[object]()
        try:
            for piece in pieces:
                reader.receive(piece)
                while (reply := reader.next_reply()) is not None:
                    found.append((reply.code, reply.text))
                    assert reply.code == MALFORMED or 0 <= reply.code <= 999
                    assert len(reply.text) <= TEXT_MAX and b"\0" not in reply.text and b"\r" not in reply.text
        except EndlessReply:
            return "endless"
        return found, reader.is_empty

    assert len(data) < REPLY_MAX
    same_however_cut(data, heard)


@target(
    "smtp-command", b"MAIL FROM:<a@b>\r\n", b"RCPT", b" ", b"\0", b"\n", b"\r\n", b"\r", b"x" * 900, size_max=20_000
)
def commands(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader, found = command_lines.CommandLines(), list[object]()
        for piece in pieces:
            reader.receive(piece)
            while (command := reader.next_command()) is not None:
                found.append(command)
            assert len(reader) <= command_lines.LINE_MAX + 1
        return found

    found = same_however_cut(data, heard)
    assert isinstance(found, list)
    assert len(found) == data.count(b"\n")
    for verb, argument in found:
        assert b" " not in verb or verb == b" "
        assert len(verb) + len(argument) <= command_lines.LINE_MAX and b"\0" not in verb + argument


@target("smtp-path", b"FROM:<", b">", b"\\", b'"', b"@a,@b:", b" SIZE=", b"SIZE=12345678901234567890", b"[127.0.0.1]")
def paths(data: bytes) -> None:
    address, rest = smtp_server.parse_path(data)
    assert len(address) + len(rest) <= len(data)
    try:
        size = smtp_server.size_parameter(rest)
    except smtp_server.BadSize:
        return
    assert size is None or 0 <= size < 10**20
