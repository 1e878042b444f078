"""sendmail's command line (sendmail(8))."""

import pytest

from notqmail.receive.sendmail import INJECT, QREAD, SMTPD, Refused, sendmail_command

ENVIRON = {b"QMAILNAME": b"N", b"NAME": b"M", b"QMAILHOST": b"h", b"MAILHOST": b"i", b"QMAILSUSER": b"s"}


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ([], [b"-a", b"--"]),
        ([b"joe", b"-x"], [b"-a", b"--", b"joe", b"-x"]),
        ([b"-t"], [b"-H", b"--"]),
        ([b"-t", b"joe"], [b"-H", b"--", b"joe"]),
        ([b"-f", b"a@b", b"joe"], [b"-a", b"-f", b"a@b", b"--", b"joe"]),
        ([b"-fa@b", b"-fc@d", b"joe"], [b"-a", b"-f", b"c@d", b"--", b"joe"]),
        ([b"-f", b"", b"joe"], [b"-a", b"-f", b"", b"--", b"joe"]),
        ([b"-i", b"-FCronDaemon", b"-B8BITMIME", b"-oem", b"root"], [b"-a", b"--", b"root"]),  # Debian's cron
        ([b"-FCronDaemon", b"-i", b"-odi", b"-oem", b"-oi", b"-t", b"-f", b"root"], [b"-H", b"-f", b"root", b"--"]),
        ([b"-oem", b"-oi", b"-f", b"a@b", b"-N", b"failure", b"-R", b"hdrs", b"--", b"x@y"],
         [b"-a", b"-f", b"a@b", b"--", b"x@y"]),  # mutt with DSN
        ([b"-i", b"-f", b"a@b", b"x@y"], [b"-a", b"-f", b"a@b", b"--", b"x@y"]),  # git send-email
        ([b"-t", b"-i"], [b"-H", b"--"]),  # PHP
        ([b"-bm", b"-v", b"-m", b"-x", b"-eX", b"-pA:b", b"-Eany", b"-J", b"x"], [b"-a", b"--", b"x"]),
        ([b"-f", b"<>", b"x"], [b"-a", b"-f", b"", b"--", b"x"]),
        ([b"-f<a@b>", b"x"], [b"-a", b"-f", b"a@b", b"--", b"x"]),
        ([b"-f<a@b", b"x"], [b"-a", b"-f", b"<a@b", b"--", b"x"]),
        ([b"-i", b"-r", b"a@b", b"x"], [b"-a", b"-f", b"a@b", b"--", b"x"]),  # old mailx
        ([b"-G", b"-U", b"-n", b"-Ltag", b"-h5", b"-Venv", b"-Oa=b", b"-Am", b"x"], [b"-a", b"--", b"x"]),
    ],
)  # fmt: skip
def test_submission_options_become_qmail_injects(words: list[bytes], arguments: list[bytes]) -> None:
    command = sendmail_command(b"sendmail", words, {})
    assert (command.program, command.arguments) == (INJECT, arguments)


@pytest.mark.parametrize("word", [b"-bd", b"-bi", b"-bt", b"-bv", b"-bD", b"-q", b"-q1h", b"-d", b"-Cx", b"-X", b"-f"])
def test_other_work_is_refused_with_the_usage(word: bytes) -> None:
    with pytest.raises(Refused) as refused:
        sendmail_command(b"sendmail", [word], {})
    assert refused.value.code == 100
    assert b"usage: sendmail" in refused.value.text


def test_f_decides_the_from_field_and_hides_every_name() -> None:
    for words in ([b"-FJoe", b"-fa@b@c", b"x"], [b"-f", b"a@b@c", b"-F", b"Joe", b"x"]):
        environ = sendmail_command(b"sendmail", words, ENVIRON).environ
        assert environ == {b"QMAILSUSER": b"s", b"QMAILUSER": b"a@b", b"QMAILHOST": b"c"}
    assert sendmail_command(b"sendmail", [b"-fa"], ENVIRON).environ == {b"QMAILSUSER": b"s", b"QMAILUSER": b"a"}


def test_a_name_alone_is_the_personal_name() -> None:
    assert sendmail_command(b"sendmail", [b"-F", b"Joe S"], {}).environ == {b"MAILNAME": b"Joe S"}


def test_the_queue_is_listed_by_bp_and_by_the_name_mailq() -> None:
    assert sendmail_command(b"sendmail", [b"-bp", b"-?"], {}).program == QREAD
    assert sendmail_command(b"mailq", [b"-v"], {}).program == QREAD
    with pytest.raises(Refused):
        sendmail_command(b"mailq", [b"-Q"], {})


def test_newaliases_is_no_work_of_qmail() -> None:
    with pytest.raises(Refused) as refused:
        sendmail_command(b"newaliases", [], {})
    assert (refused.value.code, refused.value.text) == (100, b"fatal: please use fastforward/newaliases instead\n")


def test_bs_is_an_smtp_session_of_a_local_user() -> None:
    command = sendmail_command(b"sendmail", [b"-bs", b"-odb"], {b"RELAYCLIENT": b"@x", b"A": b"b"})
    assert (command.program, command.arguments) == (SMTPD, [])
    assert command.environ == {
        b"A": b"b", b"RELAYCLIENT": b"", b"DATABYTES": b"0", b"PROTO": b"TCP", b"TCPLOCALIP": b"127.0.0.1",
        b"TCPLOCALHOST": b"localhost", b"TCPREMOTEIP": b"127.0.0.1", b"TCPREMOTEHOST": b"localhost",
        b"TCPREMOTEINFO": b"sendmail-bs",
    }  # fmt: skip
    assert sendmail_command(b"sendmail", [b"-bs"], {b"PROTO": b"TCP"}).environ == {b"PROTO": b"TCP"}
