"""Targets: the files of a queue as a damaged disk may give them back, to those who list and judge them."""

from fuzz_driver import target

from notqmail.admin.qread import listing
from notqmail.admin.queue_show import as_text, summarize
from notqmail.admin.queue_survey import content_fault
from notqmail.queue.layout import split_path
from notqmail.queue.store import BadRecord, QueueStore
from notqmail.testing.fake_disk import FakeDisk

_WORDS = (b"u1\0", b"p2\0", b"Fs@x\0", b"Ta@b\0", b"Dc@d\0", b"\0", b"X", b"#@[]", b"\xff", b"\n")


def _disk(**files: bytes) -> FakeDisk:
    disk = FakeDisk()
    disk.create(split_path(b"mess", 457), [b"mail"])
    for kind, data in files.items():
        name = kind.encode()
        disk.create(b"todo/457" if kind == "todo" else split_path(name, 457), [data])
    return disk


@target("queue-todo", *_WORDS)
def todo(data: bytes) -> None:
    store = QueueStore(_disk(todo=data))
    try:
        store.read_accepted(457)
        understood = True
    except BadRecord:
        understood = False
    fault = content_fault(b"todo", data)
    assert understood or fault, "what qmail-send refuses is named"
    assert not fault or not understood or "cut off" in fault, "and only that, but for what follows the last NUL"


@target("queue-settled", *_WORDS)
def settled(data: bytes) -> None:
    for kind in ("info", "local", "remote"):
        assert isinstance(content_fault(kind.encode(), data), str)
        files = {"info": b"Fs\0", "remote": b"Tz@y\0", kind: data}
        text = b"".join(listing(_disk(**files)))
        assert text.endswith(b"\n") and all(byte in b"\n\t" or 32 <= byte <= 126 for byte in text)
        shown = as_text(summarize(_disk(**files), 5, is_running=True), 5, is_running=True)
        assert all(line.isprintable() for line in shown.split("\n"))
