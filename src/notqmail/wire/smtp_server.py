"""The server's half of SMTP (RFC 5321), without a socket: bytes -> commands, and replies -> bytes.

Commands are lines as `wire.command_lines` reads them; what their arguments mean is here.

A reply has two forms. After HELO it is qmail's, byte for byte; after EHLO the enhanced status code (RFC 2034, 3463)
stands between the reply code and the same text.
"""

ADDRESS_MAX = 899  # longer ones do not fit qmail's queue with their marks


class Reply:
    """One line for the client, in both forms."""

    __slots__ = ("enhanced", "plain")

    def __init__(self, code: bytes, enhanced_code: bytes, text: bytes) -> None:
        self.plain = b"%b %b\r\n" % (code, text)
        self.enhanced = b"%b %b %b\r\n" % (code, enhanced_code, text)


def queue_refusal(text: bytes, *, permanent: bool) -> Reply:
    """The reply for a queue that did not take the message. `text` may be a stranger's: it stays one line."""
    text = text[:QUEUE_TEXT_MAX].rstrip(b"\r\n").translate(_ONE_LINE)
    kind, code = (b"5", b"554") if permanent else (b"4", b"451")
    return Reply(code, _code_inside(text, kind) or kind + b".3.0", text)


QUEUE_TEXT_MAX = 900  # with code and CRLF well inside RFC 5321's 1000 bytes of a line
_ONE_LINE = bytes(byte if byte >= 32 and byte != 127 else 0x3F for byte in range(256))


def _code_inside(text: bytes, kind: bytes) -> bytes | None:
    """The `5.7.1` of a text that ends in `(#5.7.1)`, where it is of this kind."""
    if not text.endswith(b")"):
        return None
    code = text[text.rfind(b"(#") + 2 : -1] if b"(#" in text else b""
    parts = code.split(b".")
    known = len(parts) == 3 and parts[0] == kind and all(part.isdigit() and len(part) <= 3 for part in parts)
    return code if known else None


def accepted(now_s: int, qp: int) -> Reply:
    """The message is safe in the queue. Log analysers and peers read time and number (qmail-smtpd(8))."""
    return Reply(b"250", b"2.0.0", b"ok %d qp %d" % (now_s, qp))


def ehlo_reply(greeting: bytes, size_max: int) -> bytes:
    """What we are and can; `size_max` 0 means no limit (RFC 1870)."""
    return b"250-%b\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE %d\r\n250 ENHANCEDSTATUSCODES\r\n" % (
        greeting,
        size_max,
    )


MAIL_OK = Reply(b"250", b"2.1.0", b"ok")
RCPT_OK = Reply(b"250", b"2.1.5", b"ok")
NOOP_OK = Reply(b"250", b"2.0.0", b"ok")
FLUSHED = Reply(b"250", b"2.0.0", b"flushed")
TRY_IT = Reply(b"252", b"2.0.0", b"send some mail, i'll try my best")
HELP = Reply(b"214", b"2.0.0", b"notqmail home page: https://notqmail.org")
GO_AHEAD = b"354 go ahead\r\n"

QUEUE_DID_NOT_START = Reply(b"451", b"4.3.0", b"qqt failure (#4.3.0)")
BARE_NEWLINE = Reply(b"451", b"4.5.2", b"See https://cr.yp.to/docs/smtplf.html.")
TIMED_OUT = Reply(b"451", b"4.4.2", b"timeout (#4.4.2)")
NO_CONTROLS = Reply(b"421", b"4.3.0", b"unable to read controls (#4.3.0)")
NO_OWN_ADDRESSES = Reply(b"421", b"4.3.0", b"unable to figure out my IP addresses (#4.3.0)")
BUSY = Reply(b"421", b"4.3.2", b"too many connections, try again later (#4.3.2)")
GOING_DOWN = Reply(b"421", b"4.3.2", b"shutting down, try again later (#4.3.2)")
TOO_MANY_ERRORS = Reply(b"421", b"4.7.0", b"too many bad commands (#4.7.0)")
TOO_MANY_COMMANDS = Reply(b"421", b"4.7.0", b"too many commands without mail (#4.7.0)")
TOO_MANY_RECIPIENTS = Reply(b"452", b"4.5.3", b"too many recipients (#4.5.3)")

LINE_TOO_LONG = Reply(b"500", b"5.5.2", b"line too long (#5.5.2)")
BAD_SIZE = Reply(b"501", b"5.5.4", b"SIZE is not a number (#5.5.4)")
UNIMPLEMENTED = Reply(b"502", b"5.5.1", b"unimplemented (#5.5.1)")
WANT_MAIL = Reply(b"503", b"5.5.1", b"MAIL first (#5.5.1)")
WANT_RCPT = Reply(b"503", b"5.5.1", b"RCPT first (#5.5.1)")
TOO_BIG = Reply(b"552", b"5.3.4", b"sorry, that message size exceeds my databytes limit (#5.3.4)")
BAD_SENDER = Reply(b"553", b"5.7.1", b"sorry, your envelope sender is in my badmailfrom list (#5.7.1)")
NO_GATEWAY = Reply(b"553", b"5.7.1", b"sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
LOOPING = Reply(b"554", b"5.4.6", b"too many hops, this message is looping (#5.4.6)")
SYNTAX = Reply(b"555", b"5.5.4", b"syntax error (#5.5.4)")


def parse_path(argument: bytes) -> tuple[bytes, bytes]:
    """(address, what follows it) of MAIL's or RCPT's argument. Does not judge, as qmail does not.

    With `<`: from there to the first `>` outside quotes. Without: after the first `:` and its spaces, to a space.
    A source route (`@a,@b:`) is dropped. Quotes vanish, a backslash takes the next byte as it is. No terminator
    and not even a colon are no errors: the address is then what there is, maybe nothing.
    """
    start = argument.find(b"<")
    if start >= 0:
        terminator, path = 0x3E, argument[start + 1 :]
    else:
        terminator, path = 0x20, argument.partition(b":")[2].lstrip(b" ")
    if path[:1] == b"@":
        path = path.partition(b":")[2]
    if b'"' not in path and b"\\" not in path:
        address, _, rest = path.partition(b">" if start >= 0 else b" ")
        return address, rest
    return _unquoted(path, terminator)


def _unquoted(path: bytes, terminator: int) -> tuple[bytes, bytes]:
    address = bytearray()
    escaped = quoted = False
    for index, byte in enumerate(path):
        if escaped:
            address.append(byte)
            escaped = False
        elif byte == terminator and not quoted:
            return bytes(address), path[index + 1 :]
        elif byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            quoted = not quoted
        else:
            address.append(byte)
    return bytes(address), b""


class BadSize(Exception):
    """SIZE= without a number of at most 20 digits (RFC 1870)."""


def size_parameter(parameters: bytes) -> int | None:
    """The bytes the client says it will send (RFC 1870 `SIZE=n`), or None. Raises BadSize."""
    for word in parameters.split():
        name, equals, value = word.partition(b"=")
        if name.upper() == b"SIZE":
            if not equals or not value.isdigit() or len(value) > 20:
                raise BadSize
            return int(value)
    return None
