"""qmail-qread and qmail-qstat: what they print, to the byte as notqmail 1.09, of messages in every state."""

import os
from pathlib import Path

import pytest

from notqmail.admin import qread, qstat
from notqmail.queue.layout import create_queue
from notqmail.unix.accounts import GROUPS, USERS, Accounts
from notqmail.unix.durable import Disk

ME = Accounts(True, dict.fromkeys(USERS, os.geteuid()), dict.fromkeys(GROUPS, os.getegid()))
N = 457
HEAD = b"22 Nov 2026 16:39:29 GMT  #457  5  <s@x.y> "


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create_queue(bytes(tmp_path), ME)
    return tmp_path / "queue"


def put(queue: Path, path: str, data: bytes, modified_s: int = 1_795_365_569) -> None:
    (queue / path).write_bytes(data)
    os.utime(queue / path, (modified_s, modified_s))


def listed(queue: Path) -> bytes:
    return b"".join(qread.listing(Disk(bytes(queue))))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, b""),
        ({"mess": b"12345"}, b""),
        ({"mess": b"12345", "todo": b"u1\0p2\0Fs\0Tr\0"}, b""),  # also one that is tried straight from todo
        ({"mess": b"12345", "info": b"Fs@x.y\0"}, HEAD + b"\n"),
        ({"mess": b"12345", "info": b"Fs@x.y\0", "bounce": b"x"}, HEAD + b" bouncing\n"),
        ({"mess": b"12345", "info": b"Fs@x.y\0", "local": b"Ta@b\0Dc@d\0"},
         HEAD + b"\n\tlocal\ta@b\n  done\tlocal\tc@d\n"),
        ({"mess": b"12345", "info": b"Fs@x.y\0", "remote": b"T\xff \x01b\0"}, HEAD + b"\n\tremote\t_ _b\n"),
        ({"mess": b"12345", "info": b"Fs@x.y\0", "local": b"Ta\0Tcut", "remote": b"Xq\0\0Tz\0"},
         HEAD + b"\n\tlocal\ta\n\tremote\tz\n"),
        ({"mess": b"12345", "info": b"Fs@x.y\0Textra\0", "remote": b"Tz\0"},
         HEAD + b"\n\tremote\textra\n\tremote\tz\n"),  # C reads on in its buffer
        ({"mess": b"12345", "info": b"F\0"}, HEAD.replace(b"s@x.y", b"") + b"\n"),
        ({"mess": b"12345", "info": b"Fs@x.y"}, HEAD + b"\n"),
        ({"info": b"Fs@x.y\0"}, b"warning: trouble with #457: file does not exist\n"),
    ],
)  # fmt: skip
def test_what_is_listed(queue: Path, files: dict[str, bytes], wanted: bytes) -> None:
    for kind, data in files.items():
        put(queue, f"{kind}/{N}" if kind in ("todo", "bounce") else f"{kind}/{N % 23}/{N}", data)
    assert listed(queue) == wanted


@pytest.mark.parametrize("name", ["0457", str(2**64 + N), "457x", "x", "-457", ""])
def test_a_name_is_a_number_as_c_reads_it(queue: Path, name: str) -> None:
    if name:
        put(queue, f"info/20/{name}", b"Fs@x.y\0")
    # With such a name for 457 C looks for info/20/457, which is not there.
    wanted = b"warning: trouble with #457: file does not exist\n" if name.isdigit() else b""
    assert listed(queue) == wanted


def test_a_channel_file_that_cannot_be_read_is_one_warning(queue: Path) -> None:
    put(queue, f"mess/20/{N}", b"12345")
    put(queue, f"info/20/{N}", b"Fs@x.y\0")
    (queue / f"local/20/{N}").mkdir()
    put(queue, f"remote/20/{N}", b"Tz\0")
    assert listed(queue) == HEAD + b"\nwarning: trouble with #457: is a directory\n\tremote\tz\n"


def test_a_missing_directory_ends_the_list(queue: Path) -> None:
    (queue / "info/3").rmdir()
    with pytest.raises(qread.Fatal) as caught:
        listed(queue)
    assert caught.value.text == b"fatal: unable to opendir info/3: file does not exist\n"


def counted(queue: Path) -> tuple[bytes, list[str]]:
    troubles: list[str] = []
    text = qstat.report(bytes(queue), lambda error: troubles.append(os.path.basename(os.fsdecode(error.filename))))
    return text, troubles


def lines(mess: int, todo: int) -> bytes:
    return b"messages in queue: %d\nmessages in queue but not yet preprocessed: %d\n" % (mess, todo)


def test_every_plain_file_is_counted_wherever_it_is(queue: Path) -> None:
    assert counted(queue) == (lines(0, 0), [])
    for path in ("mess/20/457", "mess/20/strange", "mess/3/.hidden", "mess/direct", "todo/457"):
        put(queue, path, b"")
    (queue / "mess/4/deep").mkdir()
    put(queue, "mess/4/deep/1", b"")
    assert counted(queue) == (lines(5, 1), [])


def test_hidden_directories_and_links_are_not(queue: Path) -> None:
    (queue / "mess/.hid").mkdir()
    put(queue, "mess/.hid/1", b"")
    (queue / "mess/4/link").symlink_to("/etc/passwd")
    (queue / "mess/away").symlink_to("/etc")
    assert counted(queue) == (lines(0, 0), [])


def test_what_cannot_be_read_is_named_and_counts_nothing(queue: Path) -> None:
    (queue / "todo").rmdir()
    put(queue, "mess/20/457", b"")
    assert counted(queue) == (lines(1, 0), ["todo"])
