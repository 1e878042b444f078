"""Targets: what is read from files and from the DNS, and the texts made of what strangers wrote."""

import os
from collections.abc import Callable

from fuzz_driver import same_however_cut, target

from notqmail.control import assign, dotqmail
from notqmail.control.files import Missing
from notqmail.control.remote_settings import parse_relay, read_remote_settings
from notqmail.control.send_settings import SendSettings
from notqmail.control.smtpd_settings import databytes_limit, smtpd_settings
from notqmail.deliver import tcpto
from notqmail.deliver.envelope_lines import delivered_to, extension_parts, from_line, host_parts, return_path
from notqmail.deliver.remote_report import combine_records
from notqmail.deliver.routes import parse_literal, printable
from notqmail.message import tokens822
from notqmail.message.address import quote_address
from notqmail.message.bounce_text import bounce_head, bounce_middle, bounce_paragraph
from notqmail.message.complete_address import AddressCompletion
from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong
from notqmail.message.log_text import log_text
from notqmail.message.received import received_from_network
from notqmail.message.submission_header import Identity, Stamp, SubmissionHeader
from notqmail.message.verp import bounce_envelope, expand_sender
from notqmail.policy.relay import host_keys, may_receive
from notqmail.queue.layout import number_of
from notqmail.queue.store import LOCAL, BadRecord, QueueStore
from notqmail.receive.own_literal import canonical_ip
from notqmail.send import jobs
from notqmail.send.channels import Channel
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix import resolver, tcprules
from notqmail.unix.cdb import Cdb, Damaged, build_cdb
from notqmail.wire.smtp_server import parse_path

# --- the queue's files -----------------------------------------------------------------------------------------------


@target("todo-file", b"u501\0p12\0Fa@b\0Tc@d\0", b"F", b"T", b"\0", b"u", b"p", b"x\0", b"9" * 30)
def todo_files(data: bytes) -> None:
    disk = FakeDisk()
    disk.create(b"mess/12/12", (b"m",))
    disk.create(b"todo/12", (data,))
    try:
        accepted = QueueStore(disk).read_accepted(12)
    except BadRecord:
        return
    ended = data[: data.rfind(b"\0") + 1]
    assert b"F" + accepted.sender + b"\0" in ended
    assert all(b"T" + recipient + b"\0" in ended for recipient in accepted.recipients)
    assert len(accepted.recipients) == sum(record[:1] == b"T" for record in ended.split(b"\0"))


@target("info-file", b"F", b"Fa@b\0", b"\0")
def info_files(data: bytes) -> None:
    disk = FakeDisk()
    disk.create(b"info/12/12", (data,))
    try:
        _, sender = QueueStore(disk).birth_and_sender(12)
    except BadRecord:
        return
    assert data.startswith(b"F" + sender)


@target("channel-file", b"Ta@b\0", b"Da@b\0", b"T\0", b"\0", b"x", b"D")
def local_and_remote_files(data: bytes) -> None:
    channel = Channel(LOCAL, 1, -1, -1)
    job = jobs.Job(12, channel, b"s@x", 0, data)
    last = -1
    while not job.is_at_end:
        for offset, address in job.next_window(3):
            assert offset > last
            assert data[offset : offset + len(address) + 2] == b"T" + address + b"\0"
            last = offset
    assert number_of(data[:30]) is None or data[:30].isdigit()


@target("bounce", b"\n\n", b"\n--- ", b"<a@b>:\n", b"-@[]", b"#@[]", b'"', b"\\", b"\0", b"\nTo: ")
def texts_of_bounces(data: bytes) -> None:
    address, _, report = data.partition(b"\0")
    paragraph = bounce_paragraph(address, report)
    first, _, rest = paragraph.partition(b"\n")
    assert first.startswith(b"<") and first.endswith(b">:")
    assert b"\n\n" not in rest.removesuffix(b"\n\n").rstrip(b"\n"), "one recipient, one paragraph"
    assert paragraph.endswith(b"\n\n")
    head = bounce_head(
        now_s=0, bounce_from=b"MAILER-DAEMON", bounce_host=b"h", recipient=b"r@h", original_sender=address
    )
    assert head.count(b"\n\n") >= 1
    assert b"Return-Path: <" in bounce_middle(address)
    envelope = bounce_envelope(address, b"postmaster@h")
    assert envelope is None or envelope[0] in (b"", b"#@[]")
    expand_sender(address, report)
    combine_records(data)


# --- the administrator's and the users' files ------------------------------------------------------------------------


@target("dot-qmail", b"./Maildir/\n", b"|prog\n", b"&a@b\n", b"#x\n", b"+list\n", b"\0", b" \t\n", b"\n", b"/mbox\n")
def dot_qmail_files(data: bytes) -> None:
    for forward_only in (False, True):
        steps = dotqmail.instructions(data, forward_only=forward_only)
        assert len(steps) <= data.count(b"\n") + 1
        for kind, argument in steps:
            assert b"\0" not in argument and b"\n" not in argument
            assert not forward_only or kind in (dotqmail.FORWARD, dotqmail.REFUSED)


@target("extension", b"-", b".", b"..", b"/", b"default", b"-default", b"A", b"owner")
def extensions(data: bytes) -> None:
    names = list(dotqmail.candidates(b"-", data))
    assert len(names) <= data.count(b"-") + 2
    for name, default in names:
        assert b".." not in name.removeprefix(b".qmail"), "no way out of the home"
        assert default is None or -7 <= default <= len(data)
    assert len(extension_parts(data)) == 4 and len(host_parts(data)) == 3


@target("assign", b"=joe:joe:501:501:/home/joe:::\n", b"+joe-:joe:501:501:/home/joe:-::\n", b"+:a:7:8:/a:-::\n",
        b".\n", b":", b"=", b"4294967296", b"99999999999999999999999", b"\0")  # fmt: skip
def users_assign(data: bytes) -> None:
    try:
        records = assign.records(data)
    except assign.BadFormat:
        return
    with_cdb(build_cdb(records), lambda table: _look_up(table, records))


def _look_up(table: Cdb, records: list[tuple[bytes, bytes]]) -> None:
    first = dict(reversed(records))
    for key, value in first.items():
        assert table.get(key) == value
    wildcards = first[assign.WILDCARDS_KEY]
    for local in (b"joe", b"joe-ext", b"", b"x" * 50):
        for key, rest in assign.lookup_keys(local, wildcards):
            value_found = table.get(key)
            found = assign.decode(value_found, rest) if value_found is not None else None
            assert found is None or (0 <= found.uid < 2**32 and 0 <= found.gid < 2**32)


def with_cdb(data: bytes, use: Callable[[Cdb], None]) -> None:
    """A cdb of these bytes in a file that has no name."""
    descriptor = os.memfd_create("cdb")
    try:
        os.write(descriptor, data)
        with Cdb(b"/proc/self/fd/%d" % descriptor) as table:
            use(table)
    finally:
        os.close(descriptor)


@target("cdb", b"\xff\xff\xff\xff", b"\x00\x08\x00\x00", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00", size_max=8_192)
def cdb_files(data: bytes) -> None:
    def use(table: Cdb) -> None:
        for key in (b"", b"joe", b"!joe\0", b"192.0.2.1", data[:8]):
            try:
                found = table.get(key)
            except Damaged:
                continue
            assert found is None or found in data

    with_cdb(data, use)


@target("tcprules", b"D\0", b"+RELAYCLIENT=\0", b"+A=b\0", b"+", b"=", b"\0", b"192.0.2.", b"=.example", b"@")
def rules_of_tcpserver(data: bytes) -> None:
    value, _, address = data.partition(b"|")
    verdict = tcprules.decode_rule(value)
    assert all(b"\0" not in name + setting for name, setting in verdict.environment.items())
    keys = list(tcprules.rule_keys(address, value, data))
    assert keys[-1] == b"" and len(keys) <= 2 * len(data) + 8
    with_cdb(build_cdb([(key, value) for key in keys[:3]]), lambda table: [table.get(key) for key in keys] and None)


CONTROL_WORDS = (b"mail.test\n", b"#", b":", b"\n", b".x.test:[192.0.2.1]:2525\n", b"99999999999999999999999", b"-1",
                 b"a@b:pre\n", b":pre\n", b"%", b" \t", b"\0", b"[::1]:25", b"[", b"]")  # fmt: skip


@target("control-files", *CONTROL_WORDS)
def control_files(data: bytes) -> None:
    """The first byte says how many of the files there are; each of them has all the bytes."""
    which, content = (data[:1] or b"\0")[0], data[1:]
    asked = list[str]()

    def read(name: str) -> bytes | None:
        asked.append(name)
        return content if which >> (len(asked) % 8) & 1 else None

    for settings_of in (_smtpd, _remote, _send):
        asked.clear()
        try:
            settings_of(read)
        except Missing:
            continue


def _smtpd(read: Callable[[str], bytes | None]) -> None:
    settings = smtpd_settings(read)
    assert settings.timeout_s >= 1 and settings.recipients_max >= 1 and settings.databytes >= 0
    assert databytes_limit(settings, settings.greeting) >= 0
    may_receive(b"a@" + settings.greeting, settings.rcpthosts, lambda _host: False)


def _remote(read: Callable[[str], bytes | None]) -> None:
    settings = read_remote_settings(read)
    assert settings.connect_timeout_s >= 1 and settings.timeout_s >= 1
    for host in (b"", b"x.test", settings.helo_name):
        settings.relay_for(host)
    parse_relay(settings.helo_name)


def _send(read: Callable[[str], bytes | None]) -> None:
    settings = SendSettings(read)
    assert settings.concurrency_local >= 0 and settings.lifetime_s >= 0
    for recipient in (b"", b"@", b"a", b"a%b@c", settings.bounce_from + b"@" + settings.bounce_host):
        channel, address = settings.routing.route(recipient)
        assert channel in (b"local", b"remote") and b"@" in address
        settings.routing.strip_virtual_prefix(address)


# --- addresses and headers -------------------------------------------------------------------------------------------

HEADER_WORDS = (
    b"From: a@b\n", b"To: a b <c@d>, e\n", b"Bcc: x\n", b"Cc: g: a, b;\n", b"Resent-To: z\n", b"\n", b"\n ", b"(", b")",
    b"<", b">", b"@", b",", b":", b";", b'"', b"\\", b"[", b"]", b"Return-Path: <>\n", b"From x\n", b"+", b".", b"\0",
)  # fmt: skip


@target("tokens822", *HEADER_WORDS)
def tokens(data: bytes) -> None:
    try:
        found = tokens822.tokenize(data)
    except tokens822.Unparsable:
        return
    written = tokens822.unparse(found)
    assert tokens822.tokenize(written) == found
    assert len(written) <= 4 * len(data) + 10


@target("header", *HEADER_WORDS)
def headers(data: bytes) -> None:
    def split(pieces: list[bytes]) -> object:
        splitter = HeaderSplitter(header_max=500)
        try:
            for piece in pieces:
                splitter.receive(piece)
            splitter.finish()
        except HeaderTooLong:
            return "too long"
        return splitter.fields, splitter.body

    result = same_however_cut(data, split)
    if isinstance(result, tuple):
        _complete(result[0])


def _complete(fields: list[bytes]) -> None:
    completion = AddressCompletion(default_host=b"h", default_domain=b"d.test", plus_domain=b"p.test")
    identity = Identity({b"USER": b"joe", b"QMAILNAME": b'J "x" \\'})
    header = SubmissionHeader(
        identity=identity, completion=completion, stamp=Stamp(now_s=0, pid=1, id_host=b"h"), letters=b""
    )
    try:
        for field in fields:
            header.add(field)
        text = header.finish()
    except tokens822.UnparsableLine:
        return
    assert text.endswith(b"\n") and b"\n\n" not in text.replace(b"\n \n", b"")[:0] + b""
    assert all(b"\0" not in recipient for recipient in header.recipients)


@target("address", b'"', b"\\", b"@", b"\r", b"\n", b"\0", b"..", b" ", b"[127.0.0.1]", b"[IPv6:::1]", b"\xff")
def addresses(data: bytes) -> None:
    quoted = quote_address(data)
    address, rest = parse_path(b"<" + quoted + b">")
    box = data.rpartition(b"@")[0] or data
    if not data.rpartition(b"@")[2].translate(None, b"abcdefghijklmnopqrstuvwxyz.") and box[:1] != b"@" and quoted:
        assert (address, rest) == (data, b""), "what we write is what we read"
    for line in (return_path(data), delivered_to(data, data), from_line(data, 0)):
        assert line.endswith(b"\n") and line.count(b"\n") == 1
    received = received_from_network(b"SMTP", data, data, data, data, data, 0)
    assert received.count(b"\n") == 2 and b"\0" not in received
    assert b"\n" not in log_text(data) and log_text(data).isascii()
    assert len(list(host_keys(data))) <= data.count(b".") + 1
    assert printable(data).isascii()
    for literal in (canonical_ip(data), parse_literal(data)):
        assert literal is None or literal.count(b".") == 3 or b":" in literal


# --- the DNS and its neighbours --------------------------------------------------------------------------------------

DNS_WORDS = (
    b"\xc0\x0c", b"\xc0\x00", b"\x00\x0f\x00\x01", b"\x00\x01\x00\x01", b"\x00\x1c\x00\x01", b"\x00\x05\x00\x01",
    b"\x00\x06\x00\x01", b"\x00\x00\x0e\x10", b"\x00\x04\x7f\x00\x00\x01", b"\x81\x80\x00\x01", b"\x83\x80",
    b"\x00\x01\x00\x00\x00\x00", b"\x00\x00\x29", b"\xff\xff", b"\x00\x2e\x00\x01", b"\x00\xfa\x00\xff",
)  # fmt: skip


@target("dns-answer", *DNS_WORDS, size_max=2_000)
def dns_answers(data: bytes) -> None:
    """The first byte chooses the question, and whether header and question are put in front of the rest."""
    choice, rest = (data[:1] or b"\0")[0], data[1:]
    query = resolver.Query(b"example.test", ("MX", "A", "AAAA")[choice % 3])
    plain = query.wire(edns=False)
    wire = plain[:2] + (rest[:10] + plain[12:] + rest[10:] if choice & 128 else rest)
    for by_tcp in (False, True):
        try:
            answer = query.read(wire, by_tcp=by_tcp)
        except (resolver.Truncated, resolver.ServerFailed):
            continue
        assert answer is None or answer.kind in (resolver.FOUND, resolver.HARD)
        assert answer is None or 0 <= answer.ttl_s <= 86_400
    assert len(query.wire(edns=True)) > len(plain)


@target("dns-question", b".", b"a.", b"x" * 63, b"x" * 64, b"\0", b"\xff", b"\\")
def dns_questions(data: bytes) -> None:
    try:
        query = resolver.Query(data, "MX")
    except ValueError:
        return
    assert len(query.wire(edns=False)) <= 300


@target(
    "resolv-conf", b"nameserver ", b"127.0.0.1", b"::1", b"fe80::1%eth0", b"[::1]:53", b":99999", b"\n", b"\0", b"#"
)
def configured_servers(data: bytes) -> None:
    descriptor = os.memfd_create("resolv.conf")
    try:
        os.write(descriptor, data)
        for environ in ({}, {resolver.SERVER_VARIABLE: data.replace(b"\0", b"")}):
            servers = resolver.configured_servers(environ, f"/proc/self/fd/{descriptor}")
            assert 1 <= len(servers) <= resolver.SERVERS_MAX
            assert all(0 <= port <= 65_535 for _, port in servers)
    finally:
        os.close(descriptor)


@target("tcpto", b"\xc0\x00\x02\x01", b"\x0a", b"\x02", b"\xff" * 8, b"\0" * 16, size_max=1_100)
def time_out_tables(data: bytes) -> None:
    packed = b"\xc0\x00\x02\x01"
    for change in (tcpto.after_timeout(data, packed, 1_000_000), tcpto.after_answer(data, packed)):
        if change is not None:
            number, record = change
            assert len(record) == tcpto.RECORD_BYTES and 0 <= number < len(data) // tcpto.RECORD_BYTES
    number_found = tcpto.find(data, packed)
    if number_found is not None:
        tcpto.is_barred(data, number_found, now_s=0, jitter=255)
    literal = parse_literal(data[:40])
    assert literal is None or tcpto.pack_address(literal) is None or len(tcpto.pack_address(literal) or b"") == 4
