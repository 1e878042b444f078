"""The `notqmail` command as people call it: exit codes, and sentences for what cannot be done."""

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import notqmail as package
from notqmail.admin import new_home
from notqmail.admin.launchers import program_names
from notqmail.unix.launchers import is_ours

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_version(notqmail: Command) -> None:
    assert notqmail("--version").stdout == f"notqmail {package.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["launcher", "qmail-nonsense", "x"], ["launcher", "qmail-send"]]
)
def test_bad_usage_is_exit_2(notqmail: Command, arguments: list[str]) -> None:
    assert notqmail(*arguments).returncode == 2


def test_init_makes_a_home_whose_programs_run(notqmail: Command, short_path: Path) -> None:
    home = short_path / "h"
    done = notqmail("init", home, "--host", "mail.example.org")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (home / "bin").iterdir()) == program_names()
    usage = subprocess.run([home / "bin" / "qmail-queue", "--help"], env={}, capture_output=True, text=True, check=True)
    assert usage.stdout.startswith("usage: qmail-queue")


def test_a_home_that_cannot_be_written_is_said_in_one_line(notqmail: Command, short_path: Path) -> None:
    (short_path / "file").write_text("")
    done = notqmail("init", short_path / "file" / "h")
    assert done.returncode == 1
    assert done.stderr.startswith("notqmail: ")
    assert done.stderr.count("\n") == 1


def test_a_launcher_takes_the_place_of_a_foreign_program_only_when_told(notqmail: Command, tmp_path: Path) -> None:
    path = tmp_path / "qmail-queue"
    path.write_text("the C one")
    refused = notqmail("launcher", "qmail-queue", path, "--home", "/h")
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    assert path.read_text() == "the C one"
    assert notqmail("launcher", "qmail-queue", path, "--home", "/h", "--replace").returncode == 0
    assert is_ours(bytes(path))
    assert b"b\"QMAILHOME\", b'/h'" in path.read_bytes()
    assert (tmp_path / "qmail-queue.before-python").read_text() == "the C one"


def test_a_launcher_for_a_classic_home_warns_of_code_that_the_accounts_cannot_use(
    notqmail: Command, tmp_path: Path
) -> None:
    home = tmp_path / "h"
    (home / "queue" / "info").mkdir(parents=True)
    done = notqmail("launcher", "qmail-remote", tmp_path / "own", "--home", home)
    assert (done.returncode, done.stdout) == (0, "")  # a home of our own: whoever can run this can run that
    if os.geteuid() == 0:
        os.chown(home / "queue", 40_004, -1)
    else:
        home = tmp_path / "none"
    done = notqmail("launcher", "qmail-remote", tmp_path / "classic", "--home", home, "--force")
    notices = new_home.code_notices()
    assert (done.returncode, done.stdout) == (0, "".join(f"note: {notice}\n" for notice in notices))
    if home.exists() and new_home.reach_notices():
        refused = notqmail("launcher", "qmail-remote", tmp_path / "refused", "--home", home)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"notqmail: nothing was changed: {new_home.reach_notices()[0]}; ")
        assert "--force" in refused.stderr
        assert not (tmp_path / "refused").exists()


def test_a_launcher_that_cannot_be_written_names_the_path_as_it_was_given(notqmail: Command, tmp_path: Path) -> None:
    done = notqmail("launcher", "qmail-remote", tmp_path / "none" / "x", "--home", "/h")
    place = tmp_path / "none" / "x"
    assert done.returncode == 1
    assert done.stderr == f"notqmail: {place}: No such file or directory (nothing has that name)\n"


def test_a_second_foreign_program_is_not_kept_over_the_first(notqmail: Command, tmp_path: Path) -> None:
    path, kept = tmp_path / "qmail-queue", tmp_path / "qmail-queue.before-python"
    path.write_text("the newer C one")
    kept.write_text("the C one")
    done = notqmail("launcher", "qmail-queue", path, "--home", "/h", "--replace")
    assert done.returncode == 1
    assert done.stderr == (
        f"notqmail: {kept}: an older program is kept under this name: move it away first "
        "(the program that was there has that name still; qmail-queue.before-python is there too)\n"
    )
    assert (path.read_text(), kept.read_text()) == ("the newer C one", "the C one")


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", ""], ["run", "--home", ""], ["ledger", ""], ["adopt", ""], ["queue", "show", ""],
        ["queue", "check", ""], ["queue", "split", "31", "--home", ""], ["launcher", "qmail-remote", ""],
        ["launcher", "qmail-remote", "/nonexistent/x", "--home", ""], ["adopt", "--root", ""],
    ],
)  # fmt: skip
def test_an_empty_path_is_not_taken_for_the_current_directory(notqmail: Command, arguments: list[str]) -> None:
    done = notqmail(*arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(": an empty path\n")


@pytest.mark.parametrize("command", ["init", "run", "ledger", "adopt", "launcher", "queue show", "queue split"])
def test_help_says_which_home_is_taken(notqmail: Command, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("QMAILHOME", "/some/home")
    assert "(/some/home)" in notqmail(*command.split(), "--help").stdout
    monkeypatch.setenv("QMAILHOME", "")
    classic = command in ("adopt", "launcher")
    assert ("(/var/qmail)" if classic else "(./var)") in notqmail(*command.split(), "--help").stdout


def test_a_host_name_for_a_home_that_has_one_is_not_taken_in_silence(notqmail: Command, short_path: Path) -> None:
    home = short_path / "h"
    first = notqmail("init", home, "--host", "mail.example.org")
    assert "note: " not in first.stdout
    again = notqmail("init", home, "--host", "other.example.org")
    assert again.returncode == 0
    assert again.stdout.startswith("note: control/me says mail.example.org and stays; to give this host another name ")
    assert (home / "control" / "me").read_text() == "mail.example.org\n"
    for same in ([], ["--host", "mail.example.org"]):
        assert "note: " not in notqmail("init", home, *same).stdout


def test_a_classic_home_is_made_with_the_accounts_or_refused_naming_what_is_missing(
    notqmail: Command, short_path: Path
) -> None:
    done = notqmail("init", short_path / "h", "--accounts")
    accounts = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    if os.geteuid() == 0 and "qmailq" in accounts:
        assert done.returncode == 0, done.stderr
        assert (short_path / "h" / "queue").stat().st_uid == accounts["qmailq"]
        return
    assert done.returncode == 1
    assert "only root" in done.stderr or "unable to find user" in done.stderr
    assert not (short_path / "h").exists()


@pytest.mark.root
def test_a_home_of_another_user_is_not_run(notqmail: Command, short_path: Path) -> None:
    (short_path / "h" / "queue").mkdir(parents=True)
    os.chown(short_path / "h" / "queue", 40_004, -1)
    done = notqmail("run", "--home", short_path / "h")
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr
