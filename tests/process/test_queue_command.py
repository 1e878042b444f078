"""`notqmail queue`, qmail-showctl, qmail-qread, qmail-qstat and sendmail -bp, as processes on homes of their own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from queue_home import DEADLINE_S, LOGIN, Home, Server, until


@pytest.fixture
def home(short_path: Path) -> Home:
    return Home(short_path / "h")


def queue_command(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "notqmail.admin", "queue", *map(str, words)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def program(home: Home, name: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [home.program(name), *words], env=home.environ, capture_output=True, timeout=DEADLINE_S, check=False
    )


def fill(home: Home, count: int) -> None:
    for number in range(count):
        envelope = b"Fs%d@me.test\0T%b@me.test\0\0" % (number, LOGIN.encode())
        assert home.queue(b"Subject: m%d\n\nhi\n" % number, envelope) == 0


def copied(home: Home, to: Path) -> Home:
    """As `cp -r`: every file gets another inode number, as the old ones keep theirs meanwhile."""
    (home.path / "queue").rename(to / "old")
    shutil.copytree(to / "old", home.path / "queue", symlinks=True, ignore=shutil.ignore_patterns("trigger"))
    shutil.rmtree(to / "old")
    return home


def deliver_all(home: Home) -> None:
    """Starts the mail system until the queue is empty."""
    environ = {**home.environ, "PATH": f"{home.path}/bin:{os.environ['PATH']}"}
    log = home.path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([home.program("qmail-start"), "./Maildir/"], env=environ, stdout=file, stderr=file)
    try:
        mess = home.path / "queue/mess"
        until(lambda: not [path for path in mess.rglob("*") if path.is_file()], log.read_text)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def test_a_copied_queue_is_named_repaired_and_delivered(home: Home, short_path: Path) -> None:
    fill(home, 5)
    assert queue_command("check", home.path).returncode == 0
    copied(home, short_path)
    before = {path: path.read_bytes() for path in (home.path / "queue").rglob("*") if path.is_file()}
    found = queue_command("check", home.path)
    assert found.returncode == 1 and "copied or restored" in found.stdout and "lock/trigger" in found.stdout
    assert found.stdout.endswith("Nothing was changed.\n")
    assert {path: path.read_bytes() for path in (home.path / "queue").rglob("*") if path.is_file()} == before
    done = queue_command("check", "--repair", home.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("The queue is sound, split by 23: 5 messages.\n")
    assert "put away: queue/ledger/accepted/current is now lost+found/ledger-accepted-current" in done.stdout
    assert queue_command("check", home.path).stdout == "The queue is sound: 5 messages.\n"
    deliver_all(home)
    subjects = sorted(line for mail in home.new_mail() for line in mail.split(b"\n") if line.startswith(b"Subject: m"))
    assert subjects == [b"Subject: m%d" % number for number in range(5)]
    books = subprocess.run(
        [sys.executable, "-m", "notqmail.admin", "ledger", home.path], capture_output=True, text=True, check=False
    )
    assert books.returncode == 0, books.stdout


def test_a_queue_goes_to_another_split_and_comes_back(home: Home) -> None:
    fill(home, 3)
    ours = home.queued()
    would = queue_command("split", 31, "--big-todo", "--dry-run", "--home", home.path)
    assert would.returncode == 0 and home.queued() == ours
    # 94 directories and a name in todo for each message; one in mess too, unless its number says 23 and 31 alike.
    moved = sum(number % 23 != number % 31 for number in ours)
    assert would.stdout.endswith(
        f"The queue is sound: 3 messages; {94 + 3 + moved} steps of the move. Nothing was changed.\n"
    )
    assert would.stdout.count("is missing (a directory)") == 10, "ten of a sort, wherever they are"
    assert "... and 84 more like the last (--all lists them)\n" in would.stdout
    gone = queue_command("split", 31, "--big-todo", "--home", home.path)
    assert gone.returncode == 0, gone.stdout
    assert gone.stdout.endswith("`notqmail queue split 23` brings it back.\n")
    assert {path.name for path in (home.path / "queue/todo").iterdir()} == {str(part) for part in range(31)}
    back = queue_command("split", 23, "--home", home.path)
    assert (
        back.returncode == 0 and "looks split by 31, todo and intd too (big-todo); wanted is split by 23" in back.stdout
    )
    assert home.queued() == ours
    assert queue_command("check", home.path).stdout == "The queue is sound: 3 messages.\n"


def test_what_is_wrong_before_a_move_is_no_step_of_it(home: Home) -> None:
    fill(home, 1)
    (number,) = home.queued()
    stray = number + 1
    (home.path / f"queue/info/{stray % 23}/{stray}").write_bytes(b"Fx\0")
    would = queue_command("split", 31, "--dry-run", "--home", home.path)
    assert would.returncode == 1
    assert "\n1 message; 1 fault, 0 of them without a remedy; " in would.stdout
    assert would.stdout.endswith(" steps of the move. Nothing was changed.\n")
    assert queue_command("check", home.path).stdout.endswith(
        "\n1 message; 1 fault, 0 of them without a remedy. Nothing was changed.\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look after somebody else's home")
def test_root_leaves_the_home_of_another_user_to_that_user(home: Home) -> None:
    fill(home, 2)
    for path in (home.path, *home.path.rglob("*")):
        os.chown(path, 40_004, 40_004, follow_symlinks=False)
    checked = queue_command("check", home.path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        f"note: {home.path} is a single-user home of uid 40004: everything is to be theirs\n"
        "The queue is sound: 2 messages.\n"
    )
    for words in (["check", "--repair", home.path], ["split", 31, "--home", home.path]):
        refused = queue_command(*words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "is a single-user home of uid 40004: nothing was changed; run this as that user" in refused.stderr
    assert {path.lstat().st_uid for path in home.path.rglob("*")} == {40_004}
    os.chown(home.path / "queue/info", 40_005, -1)
    refused = queue_command("check", home.path)
    assert refused.returncode == 1 and "the queue belongs to uid 40004 and queue/info to uid 40005" in refused.stderr


@pytest.mark.parametrize("words", [("check",), ("check", "--repair"), ("split", "31")])
def test_nobody_repairs_a_queue_in_use(home: Home, words: tuple[str, ...]) -> None:
    where = ["--home", str(home.path)] if words[0] == "split" else [str(home.path)]
    server = Server(home)
    try:
        refused = queue_command(*words, *where)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert refused.stderr.startswith("notqmail: qmail-queue --serve is running in ")
        assert queue_command("show", home.path).returncode == 0
    finally:
        server.end()


@pytest.mark.parametrize("words", [("split", "0"), ("split", "x"), ("split",), ("mend",), ("check", "--nonsense")])
def test_bad_usage_is_exit_2(words: tuple[str, ...]) -> None:
    assert queue_command(*words).returncode == 2


@pytest.mark.parametrize("words", [(), ("show",), ("check",), ("split",)])
def test_help_is_there(words: tuple[str, ...]) -> None:
    done = queue_command(*words, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: notqmail queue")


@pytest.mark.parametrize("words", [("show",), ("check",), ("check", "--repair")])
def test_a_home_without_a_queue_is_named(short_path: Path, words: tuple[str, ...]) -> None:
    done = queue_command(*words, short_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"notqmail: {short_path} has no queue: `notqmail init {short_path}` makes a home\n"


def test_the_summary_tells_what_waits(home: Home) -> None:
    fill(home, 2)
    done = queue_command("show", home.path)
    assert done.returncode == 0
    assert done.stdout.startswith("messages             2") and done.stdout.endswith("qmail-send is not running.\n")
    done = subprocess.run(
        [sys.executable, "-m", "notqmail.admin", "queue"], env=home.environ, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("messages             2")


def test_sendmail_bp_lists_what_qmail_qread_lists(home: Home) -> None:
    fill(home, 1)
    assert program(home, "qmail-qstat").stdout == (
        b"messages in queue: 1\nmessages in queue but not yet preprocessed: 1\n"
    )
    assert program(home, "sendmail", "-bp").stdout == b"", "qmail-qread does not list what is not preprocessed"
    (number,) = home.queued()
    queue = home.path / "queue"
    (queue / f"todo/{number}").unlink()
    (queue / f"info/{number % 23}/{number}").write_bytes(b"Fs@x\0")
    (queue / f"remote/{number % 23}/{number}").write_bytes(b"Ta@far\0")
    os.utime(queue / f"info/{number % 23}/{number}", (0, 0))
    size = (queue / f"mess/{number % 23}/{number}").stat().st_size
    wanted = f"1 Jan 1970 00:00:00 GMT  #{number}  {size}  <s@x> \n\tremote\ta@far\n"
    for name, words in (("qmail-qread", ()), ("sendmail", ("-bp",))):
        done = program(home, name, *words)
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, wanted, b"")


def test_qmail_showctl_tells_of_its_home(home: Home) -> None:
    done = program(home, "qmail-showctl")
    assert done.returncode == 0
    assert done.stdout.startswith(b"qmail home directory: %b.\n" % bytes(home.path))
    assert b"\nme: My name is me.test.\n" in done.stdout


@pytest.mark.parametrize("name", ["qmail-showctl", "qmail-qread", "qmail-qstat"])
def test_each_has_help(home: Home, name: str) -> None:
    done = program(home, name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(b"usage: " + name.encode())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("qmail-showctl", (111, b"Oops! Unable to chdir to /nonexistent/home.\n")),
        ("qmail-qread", (111, b"fatal: unable to chdir: file does not exist\n")),
        ("qmail-qstat", (0, b"messages in queue: 0\nmessages in queue but not yet preprocessed: 0\n")),
    ],
)
def test_without_a_home_each_says_so_as_c_does(home: Home, name: str, wanted: tuple[int, bytes]) -> None:
    home.environ["QMAILHOME"] = "/nonexistent/home"
    done = program(home, name)
    if b"unable to find user" in done.stderr:  # no qmail accounts on this machine: C says the same
        wanted = (111, b"")
    assert (done.returncode, done.stdout[-len(wanted[1]) :]) == wanted or not wanted[1]


@pytest.mark.parametrize("name", ["qmail_showctl", "qmail_qread", "qmail_qstat"])
def test_only_light_modules_are_imported(name: str) -> None:
    source = Path(__file__).parents[2] / "src"
    code = f"import sys; sys.path.insert(0, {str(source)!r}); import notqmail.programs.{name}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, check=True, timeout=DEADLINE_S)
    heavy = {"asyncio", "argparse", "logging", "enum", "dataclasses", "typing", "subprocess", "re", "socket"}
    assert heavy & set(loaded.stdout.decode().split()) == set()
