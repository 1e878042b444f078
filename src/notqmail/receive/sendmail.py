"""sendmail's command line turned into one of qmail's programs (sendmail(8)): pure decisions, nothing is run here.

Software calls `sendmail` with options of forty years. Those that qmail knows are obeyed; those that ask for
something a submission can do without are taken and ignored, more of them than notqmail 1.09 takes (see
sendmail(8), DIFFERENCES); those that ask for another kind of work (-bd, -q, -C ...) are refused.
"""

from notqmail.unix.mains import PERMANENT
from notqmail.unix.options import BadOption, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INJECT, SMTPD, QREAD = b"bin/qmail-inject", b"bin/qmail-smtpd", b"bin/qmail-qread"
USAGE = "usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]\n"

_IGNORED_FLAGS = b"vimx" + b"nGU"  # the second half is not in notqmail 1.09
_IGNORED_WITH_VALUE = b"epBo" + b"NRVLhOA"
_IGNORED_WITH_REST = b"EJ"  # Sony NEWS-OS
_LOCAL_CLIENT = {
    b"RELAYCLIENT": b"",
    b"DATABYTES": b"0",
    b"PROTO": b"TCP",
    b"TCPLOCALIP": b"127.0.0.1",
    b"TCPLOCALHOST": b"localhost",
    b"TCPREMOTEIP": b"127.0.0.1",
    b"TCPREMOTEHOST": b"localhost",
    b"TCPREMOTEINFO": b"sendmail-bs",
}


class Refused(Exception):
    """Nothing is run. `text` is for descriptor 2 (without `sendmail: `), `code` the exit code."""

    def __init__(self, text: bytes, code: int = PERMANENT) -> None:
        super().__init__(text)
        self.text, self.code = text, code


class Command:
    """What to run: a program under HOME, its arguments after its name, and its environment."""

    __slots__ = ("arguments", "environ", "program")

    def __init__(self, program: bytes, arguments: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> None:
        self.program, self.arguments, self.environ = program, list(arguments), dict(environ)


def sendmail_command(name: bytes, words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> Command:
    """The program for this command line; `name` is the one sendmail was called by. Raises Refused."""
    options = Options(
        words,
        flags=b"t" + _IGNORED_FLAGS,
        valued=b"fFrb" + _IGNORED_WITH_VALUE,
        attached=_IGNORED_WITH_REST,
    )
    from_header, sender = False, None
    environ = dict(environ)
    try:
        for letter, value in options:
            if letter == b"t":
                from_header = True
            elif letter in b"fr":
                sender = _bare(value)
            elif letter == b"F":
                environ[b"MAILNAME"] = value
            elif letter == b"b" and value[:1] != b"m":
                return _other_mode(value[:1], environ)
    except BadOption as bad:
        raise Refused(str(bad).encode("latin-1") + b"\nsendmail: " + USAGE.encode()) from None
    if name == b"mailq":
        return Command(QREAD, (), environ)
    if name == b"newaliases":
        raise Refused(b"fatal: please use fastforward/newaliases instead\n")
    arguments = [b"-H" if from_header else b"-a"]
    if sender is not None:
        arguments += [b"-f", sender]
        _follow_sender(environ, sender)
    return Command(INJECT, [*arguments, b"--", *options.rest], environ)


def _other_mode(mode: bytes, environ: "dict[bytes, bytes]") -> Command:
    """-bp and -bs; anything else that -b may name is not our work. Raises Refused."""
    if mode == b"p":
        return Command(QREAD, (), environ)
    if mode != b"s":
        raise Refused(USAGE.encode())
    return Command(SMTPD, (), environ if b"PROTO" in environ else {**environ, **_LOCAL_CLIENT})


def _bare(sender: bytes) -> bytes:
    """Without the brackets of `-f <>`, the way other sendmails let a bounce be asked for; qmail-inject wants none."""
    return sender[1:-1] if sender[:1] == b"<" and sender[-1:] == b">" else sender


def _follow_sender(environ: "dict[bytes, bytes]", sender: bytes) -> None:
    """-f also decides the From field, in which no name is shown then."""
    for name in (b"QMAILNAME", b"MAILNAME", b"NAME", b"QMAILHOST", b"MAILHOST"):
        environ.pop(name, None)
    user, at, host = sender.rpartition(b"@")
    environ[b"QMAILUSER"] = user if at else sender
    if at:
        environ[b"QMAILHOST"] = host
