"""Programs that cannot begin say why in one sentence, on descriptor 2, before they have started anything."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from queue_home import DEADLINE_S, LOGIN, Home

from no_help import NO_HELP
from notqmail.admin.launchers import module_name, program_names
from notqmail.send import start
from notqmail.unix import accounts
from notqmail.wire.queue_exit import report_for_exit
from notqmail.wire.reports import TEMPORARY

NO_QUEUE = "{home} has no queue: run `notqmail init {home}`\n"
Done = subprocess.CompletedProcess[str]


def run(program: str, *arguments: str, home: Path, **more: object) -> Done:
    """Any of our programs, without a launcher and so without a home."""
    return subprocess.run(
        [sys.executable, "-m", f"notqmail.programs.{module_name(program)}", *arguments], text=True, check=False,
        **{"capture_output": True, "timeout": DEADLINE_S, "env": {**os.environ, "QMAILHOME": str(home)}, **more},
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


@pytest.mark.parametrize("program", sorted(set(program_names()) - NO_HELP))
def test_help_is_a_usage_on_standard_output(program: str, tmp_path: Path) -> None:
    done = run(program, "--help", home=tmp_path / "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {program}")
    assert done.stdout.endswith("\n")


def test_the_usage_of_qmail_queue_has_every_option(tmp_path: Path) -> None:
    assert "--serve [--lifeline FD]" in run("qmail-queue", "--help", home=tmp_path).stdout


# ── qmail-start ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_qmail_start_without_a_home_says_how_to_make_one(tmp_path: Path) -> None:
    home = tmp_path / "none"
    done = run("qmail-start", home=home)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr == "qmail-start: fatal: " + NO_QUEUE.format(home=home)


@pytest.mark.parametrize(("owner", "who"), [("qmailq", LOGIN), (LOGIN, "root")])
def test_qmail_start_for_the_queue_of_another_says_who_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, who: str
) -> None:
    (tmp_path / "queue").mkdir()
    home = bytes(tmp_path)
    assert start.why_not(home) is None
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)  # from now on we are somebody else, and not root
    monkeypatch.setitem(accounts.USERS, "queue", owner)
    assert start.why_not(home) == f"the queue of {tmp_path} belongs to {LOGIN}: start me as {who}"


def test_qmail_start_as_root_of_a_classic_home_has_nothing_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue" / "info").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(tmp_path / "queue", 40_004, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert start.why_not(bytes(tmp_path)) is None


# ── a directory as descriptor 0 ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("program", ["qmail-queue", "qmail-inject", "sendmail", "qmail-smtpd", "qmail-local"])
def test_a_directory_in_the_place_of_a_message_is_refused_by_the_interpreter_itself(
    program: str, short_path: Path
) -> None:
    home = Home(short_path / "h")
    words = [home.program(program), *(["someone@me.test"] if program in ("qmail-inject", "sendmail") else [])]
    directory = os.open(short_path, os.O_RDONLY)
    done = subprocess.run(words, stdin=directory, capture_output=True, timeout=DEADLINE_S, check=False)
    os.close(directory)
    assert (done.returncode, done.stdout) == (1, b"") and b"<stdin> is a directory" in done.stderr
    assert report_for_exit(done.returncode).kind == TEMPORARY, "so its caller tries again"
    assert not home.queued() and not home.litter()


# ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [["qmail-rspawn"], ["qmail-lspawn", "./Maildir/"]])
def test_a_spawner_without_a_queue_names_the_directory(words: list[str], tmp_path: Path) -> None:
    done = run(*words, home=tmp_path)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr == f"{words[0]}: fatal: cannot enter {tmp_path}/queue/mess: No such file or directory\n"


def test_qmail_lspawn_without_a_default_delivery_shows_its_usage(tmp_path: Path) -> None:
    done = run("qmail-lspawn", home=tmp_path)
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr == "usage: qmail-lspawn defaultdelivery    started by qmail-start\n"


def test_a_port_that_is_taken_is_said_without_a_number(short_path: Path, free_port: int) -> None:
    home = Home(short_path / "h")
    with socket.create_server(("127.0.0.1", free_port)):
        done = run("qmail-smtpd", "--listen", f"127.0.0.1:{free_port}", home=home.path)
    assert done.returncode == 111
    assert done.stderr == f"qmail-smtpd: fatal: cannot listen on 127.0.0.1:{free_port}: Address already in use\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--listen", "localhost:0"], "cannot listen on localhost:0: not an address"),
        (["--listen", "127.0.0.1:0", "--user", "nobody-here"], "there is no user nobody-here"),
        (["--listen", "[::1]:0"], "cannot enter {home}: No such file or directory"),
    ],
)
def test_what_keeps_qmail_smtpd_from_listening_is_said(tmp_path: Path, options: list[str], reason: str) -> None:
    if "::1" in options[1] and not socket.has_ipv6:
        pytest.skip("needs IPv6")
    home = tmp_path / "none"
    done = run("qmail-smtpd", *options, home=home)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr == f"qmail-smtpd: fatal: {reason.format(home=home)}\n"


@pytest.mark.parametrize("stdin", ["closed", "read-only", "terminal"])
def test_qmail_send_run_by_hand_says_so_where_a_person_sees_it(short_path: Path, stdin: str) -> None:
    home = Home(short_path / "h")
    controller, terminal = os.openpty()
    nothing = os.open(os.devnull, os.O_RDONLY)
    given = {"closed": None, "read-only": nothing, "terminal": terminal}[stdin]
    before: Callable[[], None] | None = (lambda: os.close(0)) if given is None else None
    done = run("qmail-send", home=home.path, stdin=given, preexec_fn=before)
    for descriptor in (controller, terminal, nothing):
        os.close(descriptor)
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr == "qmail-send: fatal: cannot start: hath the daemon spawn no fire? (qmail-start starts me)\n"


def test_qmail_send_with_a_log_complains_there_alone(short_path: Path) -> None:
    home = Home(short_path / "h")
    log_in, log_out = os.pipe()
    done = run("qmail-send", home=home.path, stdin=log_out)
    os.close(log_out)
    with open(log_in) as log:
        assert log.read() == "alert: cannot start: hath the daemon spawn no fire?\n"
    assert (done.returncode, done.stdout, done.stderr) == (111, "", "")
