"""Homes as qmail 1.03, a patched netqmail and notqmail 1.09 leave them, made without any of them.

Their programs are not to be run: each is a file that begins as a compiled one does and has in it the names that
`notqmail adopt` looks for. Everything belongs to the caller. Messages are laid into the queue by hand.
"""

import os
import shutil
from pathlib import Path

from notqmail.queue.layout import SPLIT, create_queue
from notqmail.unix.accounts import GROUPS, USERS, Accounts

PROGRAMS = (  # noqa: SIM905
    "bouncesaying condredirect except forward maildir2mbox maildirmake predate preline qbiff qmail-clean qmail-getpw "
    "qmail-inject qmail-local qmail-lspawn qmail-newmrh qmail-newu qmail-pop3d qmail-popup qmail-pw2u qmail-qmqpc "
    "qmail-qmqpd qmail-qmtpd qmail-qread qmail-queue qmail-remote qmail-rspawn qmail-send qmail-showctl qmail-smtpd "
    "qmail-start qmail-tcpok qmail-tcpto qreceipt sendmail splogger tcp-env"
).split()
SCRIPTS = ("datemail", "mailsubj", "qmail-qstat")
REMOVED_LATER = ("qail", "elq", "pinq", "qsmhook", "maildirwatch")  # in 1.03 and netqmail
MODES = {"qmail-queue": 0o4711, "qmail-lspawn": 0o700, "qmail-start": 0o700, "qmail-newu": 0o700, "qmail-send": 0o711}
NAMES = {
    "qmail-smtpd": ["control/rcpthosts", "control/morercpthosts.cdb", "control/databytes", "control/smtpgreeting"],
    "qmail-send": ["control/locals", "control/virtualdomains", "control/queuelifetime", "control/locals or"],
    "qmail-remote": ["control/smtproutes", "control/helohost"],
    "qmail-newmrh": ["control/morercpthosts.tmp"],
    "qmail-showctl": ["Oops! Trouble reading control/me."],
}
QMAIL, NETQMAIL, NOTQMAIL = "qmail 1.03", "netqmail, patched", "notqmail 1.09"
PLENTY = 200_000_000  # bytes of memory that no program of ours lacks
FLAVOURS = (QMAIL, NETQMAIL, NOTQMAIL)
PATCHED = {"qmail-smtpd": ["control/badrcptto", "control/validrcptto.cdb", "STARTTLS", "AUTH LOGIN"]}
PATCH_FILES = {
    "badrcptto": "x@mail.test\n", "validrcptto.cdb": "", "servercert.pem": "-----BEGIN hush-hush", "spfbehavior": "3\n",
    "smtpplugins": "[rcpt]\n", "tlsserverciphers": "x", "rsa512.pem": "hush-hush", "simcontrol": ":clam=yes\n",
    "authsenders": "@a.test:relay.test|joe|hush-hush\n", "zzz-own": "hush-hush", "locals.rpmnew": "x\n",
}  # fmt: skip


def compiled(program: str, flavour: str) -> bytes:
    """What a program's file holds."""
    names = list(NAMES.get(program, []))
    if flavour == NETQMAIL:
        names += PATCHED.get(program, [])
    if program == "qmail-smtpd":
        names.append(f"214 {flavour.split()[0].rstrip(',')} home page: ")
    if flavour != QMAIL and program in ("qmail-inject", "qmail-smtpd", "qmail-send"):
        names.append("QMAILQUEUE")
    if flavour == NOTQMAIL and program == "qmail-rspawn":
        names.append("QMAILREMOTE")
    return b"\x7fELF\x02\x01\x01" + b"\0".join(name.encode() for name in [program, *names]) + b"\0"


def lay_bin(home: Path, flavour: str) -> None:
    """Fills bin/."""
    extra = REMOVED_LATER if flavour != NOTQMAIL else ()
    (home / "bin").mkdir(exist_ok=True)
    for program in (*PROGRAMS, *extra):
        put(home / "bin" / program, compiled(program, flavour), MODES.get(program, 0o755))
    for script in SCRIPTS:
        put(home / "bin" / script, b"#!/bin/sh\nexec something\n", 0o755)


def put(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """A file with content and mode."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def lay_home(home: Path, flavour: str) -> Path:
    """Makes the home; returns it."""
    for name in ("alias", "bin", "control", "users", "doc", "man"):
        (home / name).mkdir(parents=True, mode=0o755)
    lay_bin(home, flavour)
    put(home / "control" / "me", "mail.test\n")
    put(home / "control" / "locals", "mail.test\n")
    put(home / "control" / "rcpthosts", "mail.test\n")
    put(home / "alias" / ".qmail-default", "./box/\n")
    for name in (".qmail-postmaster", ".qmail-mailer-daemon", ".qmail-root"):
        put(home / "alias" / name, "&someone\n")
    if flavour == NETQMAIL:
        for name, text in PATCH_FILES.items():
            put(home / "control" / name, text)
        put(home / "users" / "assign", ".\n")
        put(home / "users" / "cdb", b"")
    create_queue(bytes(home), single_user())
    shutil.rmtree(home / "queue" / "ledger")  # C has none
    return home


def single_user() -> Accounts:
    """Everybody is the caller."""
    return Accounts(True, dict.fromkeys(USERS, os.geteuid()), dict.fromkeys(GROUPS, os.getegid()))


def lay_start(root: Path, home: Path, limit: int = 2_000_000) -> Path:
    """Start scripts below a root directory, as daemontools has them; the service of qmail-smtpd has a limit."""
    for name in ("qmail-send", "qmail-smtpd"):
        (root / "service" / name).mkdir(parents=True)
    put(root / "service/qmail-send/run", f"#!/bin/sh\nexec {home}/rc\n", 0o755)
    put(home / "rc", "#!/bin/sh\nexec env - qmail-start ./Mailbox splogger qmail\n", 0o755)
    text = f"#!/bin/sh\nexec softlimit -m {limit} tcpserver -x /etc/tcp.smtp.cdb 0 25 rblsmtpd {home}/bin/qmail-smtpd\n"
    put(root / "service/qmail-smtpd/run", text, 0o755)
    (root / "etc").mkdir()
    put(root / "etc" / "tcp.smtp", '127.:allow,RELAYCLIENT=""\n:allow\n')
    return root


def lay_message(
    queue: Path, text: str, *, sender: str, todo: list[str] | None = None, local: str = "", remote: str = "",
    intd: bool = False, bounce: str = "", owners: tuple[int, int, int] | None = None,
) -> int:  # fmt: skip
    """Lays a message into the queue as C does and returns its number.

    With `todo` (its recipients) it is accepted, S4; else preprocessed, S5, and `local` and `remote` are the files of
    the channels with a blank where the queue has NUL. `owners`: uids of queue and sender, and their gid.
    """
    new = queue / "pid" / "1234.1600000000.1"
    new.write_text(f"Received: (qmail 1234 invoked by uid 501); 13 Sep 2020 12:26:40 -0000\n{text}")
    number = new.stat().st_ino
    mess = queue / "mess" / str(number % SPLIT) / str(number)
    os.link(new, mess)
    new.unlink()
    written = [(mess, 0o644, 0)]
    envelope = f"u501\0p1234\0F{sender}\0" + "".join(f"T{one}\0" for one in todo or ["gone@mail.test"])
    for kind in [kind for kind, there in (("intd", intd), ("todo", todo is not None)) if there]:
        if kind == "todo" and intd:
            os.link(queue / "intd" / str(number), queue / "todo" / str(number))
        else:
            put(queue / kind / str(number), envelope)
            written.append((queue / kind / str(number), 0o644, 0))
    if todo is None:
        for kind, records in (("info", f"F{sender} "), ("local", local), ("remote", remote)):
            path = queue / kind / str(number % SPLIT) / str(number)
            if records:
                put(path, records.replace(" ", "\0"), 0o600)
                written.append((path, 0o600, 1))
    if bounce:
        put(queue / "bounce" / str(number), bounce, 0o600)
        written.append((queue / "bounce" / str(number), 0o600, 1))
    for path, mode, role in written:
        path.chmod(mode)
        if owners is not None:
            os.chown(path, owners[role], owners[2])
    return number


Tree = dict[str, tuple[int, int, int, int, bytes]]


def tree(home: Path) -> Tree:
    """Everything in a home, times and the queue's mail aside: mode, owner, inode and content of each path."""
    found: Tree = {}
    for path in sorted(home.rglob("*")):
        state = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(home))] = (state.st_mode, state.st_uid, state.st_gid, state.st_ino, content)
    return found
