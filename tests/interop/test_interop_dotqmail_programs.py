"""Real `.qmail` files: qmail-local hands mail to procmail, maildrop and dovecot-lda, behind our small programs.

dovecot-lda refuses to be root, so where the tests are root it is run as nobody.
"""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MESSAGE = b"From: Ann <ann@x.test>\nSubject: lunch\nMessage-ID: <1@x.test>\n\nFrom noon on.\n"
SPAM = MESSAGE.replace(b"lunch", b"spam")
QUEUE_PROGRAM = """#!/bin/sh
cat >"$HOME/forwarded"
cat <&1 >"$HOME/envelope"
"""
RP, DT = b"Return-Path: <s@x.test>\n", b"Delivered-To: joe@d.test\n"
TIMEOUT_S = 60
DOVECOT_LDA = "/usr/lib/dovecot/dovecot-lda"


class Account:
    """An account's home. `mail` in it is a home of the mail system, whose bin/ has our programs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        subprocess.run(
            [sys.executable, "-m", "notqmail.admin", "init", home / "mail", "--host", "d.test"],
            check=True, capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        self.environ = {
            "QMAILHOME": str(home / "mail"), "QMAILQUEUE": str(home / "queue-program"),
            "PATH": f"{home}/mail/bin:/usr/bin:/bin",
        }  # fmt: skip
        self.write("queue-program", QUEUE_PROGRAM, mode=0o700)

    def write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        path = self.home / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def maildir(self, name: str) -> None:
        for part in ("tmp", "new", "cur"):
            (self.home / name / part).mkdir(parents=True)

    def deliver(self, message: bytes = MESSAGE, sender: str = "s@x.test") -> tuple[int, str]:
        """Exit code of qmail-local, and all it and its programs said."""
        path = self.home / "message"
        path.write_bytes(message)
        with path.open("rb") as file:
            done = subprocess.run(
                [self.home / "mail" / "bin" / "qmail-local", "--", "joe", self.home, "joe", "", "", "d.test", sender,
                 "./Mailbox"],
                stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environ, cwd=self.home,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        return done.returncode, done.stdout.decode()

    def mail(self, name: str) -> list[bytes]:
        """The messages in a Maildir."""
        return [path.read_bytes() for path in sorted((self.home / name / "new").iterdir())]


@pytest.fixture
def account(short_path: Path) -> Account:
    return Account(short_path)


@pytest.mark.debian("procmail")
@pytest.mark.parametrize(
    ("options", "head"),
    [("", RP + DT), ("-f ", RP + DT), ("-fr ", DT)],  # procmail takes the From_ line itself
    ids=["all lines", "no From_", "Delivered-To"],
)
def test_procmail_behind_preline_files_mail(account: Account, options: str, head: bytes) -> None:
    account.maildir("lunch")
    account.write("rc", f"DEFAULT={account.home}/rest\n:0\n* ^Subject: lunch\n{account.home}/lunch/\n")
    account.write(".qmail", f"|preline {options}procmail ./rc\n")
    assert account.deliver() == (0, "did 0+0+1\n")
    assert account.mail("lunch") == [head + MESSAGE]


@pytest.mark.debian("procmail")
@pytest.mark.parametrize(
    ("exitcode", "code", "rest"), [(0, 0, True), (99, 0, False), (100, 100, False), (75, 111, False), (67, 111, False)]
)
def test_procmail_s_exit_code_is_the_delivery_s(account: Account, exitcode: int, code: int, rest: bool) -> None:
    account.write("rc", f":0\n* ^Subject: lunch\n{{\n EXITCODE={exitcode}\n :0\n /dev/null\n}}\n")
    account.write(".qmail", "|preline procmail ./rc\n./Mailbox\n")
    assert account.deliver()[0] == code
    assert (account.home / "Mailbox").exists() == rest


@pytest.mark.debian("maildrop")
def test_maildrop_files_mail_and_sees_the_environment(account: Account) -> None:
    account.maildir("spam")
    account.maildir("inbox")
    account.write(
        "filter",
        f'if (/^Subject: spam/:h)\n{{\n to "{account.home}/spam"\n}}\n'
        f'xfilter "reformail -A \'X-For: $LOCAL\'"\nto "{account.home}/inbox"\n',
    )
    account.write(".qmail", "|preline -f maildrop ./filter\n")
    assert account.deliver() == (0, "did 0+0+1\n")
    assert account.deliver(SPAM) == (0, "did 0+0+1\n")
    assert account.mail("spam") == [RP + DT + SPAM]
    [mail] = account.mail("inbox")
    assert mail.startswith(RP + DT) and mail.endswith(b"From noon on.\n")


@pytest.mark.debian("maildrop")
def test_a_filter_that_maildrop_cannot_read_defers(account: Account) -> None:
    account.write("filter", 'to "unbalanced\n{')
    account.write(".qmail", "|maildrop ./filter\n")
    code, said = account.deliver()
    assert code == 111 and "filter" in said


def dovecot(account: Account) -> str:
    """A configuration for dovecot-lda without a running dovecot; the command line that uses it."""
    if not shutil.which(DOVECOT_LDA):
        pytest.skip(f"needs {DOVECOT_LDA} (`make test` installs it)")
    for name in ("run", "dove"):
        (account.home / name).mkdir()
    account.write(
        "dovecot.conf",
        f"protocols =\nssl = no\nlog_path = {account.home}/run/log\nmail_location = maildir:{account.home}/dove\n"
        f"base_dir = {account.home}/run\nstate_dir = {account.home}/run\n",
    ).chmod(0o644)
    command = f"{DOVECOT_LDA} -c ./dovecot.conf"
    if os.geteuid():
        return command
    nobody = pwd.getpwnam("nobody")
    account.home.chmod(0o711)
    for name in ("run", "dove"):
        os.chown(account.home / name, nobody.pw_uid, nobody.pw_gid)
    return f"setpriv --reuid {nobody.pw_uid} --regid {nobody.pw_gid} --clear-groups env USER=nobody {command}"


@pytest.mark.debian
def test_dovecot_lda_files_mail(account: Account) -> None:
    account.write(".qmail", f'|preline -f {dovecot(account)} -f "$SENDER" -a "$RECIPIENT"\n')
    assert account.deliver() == (0, "did 0+0+1\n")
    assert account.mail("dove") == [RP + DT + MESSAGE]


@pytest.mark.debian
def test_a_dovecot_lda_that_cannot_write_defers(account: Account) -> None:
    command = dovecot(account)
    (account.home / "dove" / "full").write_text("a file where a directory should be")
    account.write(".qmail", f"|{command} -o mail_location=maildir:{account.home}/dove/full\n./Mailbox\n")
    assert account.deliver()[0] == 111
    assert not (account.home / "Mailbox").exists()


@pytest.mark.debian("procmail")
def test_condredirect_sends_spam_elsewhere_and_the_rest_to_procmail(account: Account) -> None:
    account.maildir("inbox")
    account.write("rc", f"DEFAULT={account.home}/inbox/\n")
    account.write(".qmail", '|condredirect spam@d.test grep -q "^Subject: spam"\n|preline -f procmail ./rc\n')
    code, said = account.deliver(SPAM)
    assert code == 0 and said.startswith("condredirect: qp ") and said.endswith("did 0+0+1\n")
    assert (account.home / "forwarded").read_bytes() == DT + SPAM
    assert (account.home / "envelope").read_bytes() == b"Fs@x.test\0Tspam@d.test\0\0"
    assert account.mail("inbox") == []
    assert account.deliver() == (0, "did 0+0+2\n")
    assert account.mail("inbox") == [RP + DT + MESSAGE]


@pytest.mark.parametrize(
    ("line", "message", "code", "said"),
    [
        ('|bouncesaying "No spam, please." grep -q "^Subject: spam"', SPAM, 100, "No spam, please.\n"),
        ('|bouncesaying "No spam, please." grep -q "^Subject: spam"', MESSAGE, 0, "did 1+0+1\n"),
        ('|bouncesaying "Lunch only." except grep -q "^Subject: lunch"', SPAM, 100, "Lunch only.\n"),
        ('|bouncesaying "Lunch only." except grep -q "^Subject: lunch"', MESSAGE, 0, "did 1+0+1\n"),
        ('|bouncesaying "x" sh -c "exit 111"', MESSAGE, 111, "bouncesaying: fatal: temporary child error\n"),
        ('|except grep -q "^Subject: lunch"', MESSAGE, 100, ""),
        ('|except grep -q "^Subject: lunch"', SPAM, 0, "did 1+0+1\n"),
        ("|qbiff", MESSAGE, 0, "did 1+0+1\n"),
        ("|qreceipt joe@d.test", MESSAGE, 0, "did 1+0+1\n"),
    ],
)
def test_the_small_programs_let_mail_through_or_not(
    account: Account, line: str, message: bytes, code: int, said: str
) -> None:
    account.write(".qmail", f"{line}\n./Mailbox\n")
    assert account.deliver(message) == (code, said)
    assert (account.home / "Mailbox").exists() == (code == 0)


def test_forward_sends_on_to_an_address_made_on_the_fly(account: Account) -> None:
    account.write(".qmail", '|forward "$LOCAL-archive@$HOST" bob@x.test\n./Mailbox\n')
    code, said = account.deliver()
    assert code == 0 and said.startswith("forward: qp ") and said.endswith("did 1+0+1\n")
    assert (account.home / "forwarded").read_bytes() == DT + MESSAGE
    assert (account.home / "envelope").read_bytes() == b"Fs@x.test\0Tjoe-archive@d.test\0Tbob@x.test\0\0"


def test_qreceipt_answers_who_asks(account: Account) -> None:
    account.write(".qmail", "./Mailbox\n|qreceipt joe@d.test\n")
    account.deliver(b"Notice-Requested-Upon-Delivery-To: joe@d.test\n" + MESSAGE)
    assert (account.home / "envelope").read_bytes() == b"F\0Ts@x.test\0\0"
    assert (account.home / "forwarded").read_bytes().endswith(b"Thanks for asking.\nYour Message-ID: <1@x.test>\n")
