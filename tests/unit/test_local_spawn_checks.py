"""deliver/spawn.py: what is refused before anything is started."""

import os

import pytest

from notqmail.deliver.spawn import Refused, Slots, open_message, split_recipient
from notqmail.wire.spawn_link import Delivery


@pytest.fixture
def home(tmp_path):
    mess = tmp_path / "queue" / "mess" / "14"
    mess.mkdir(parents=True)
    (mess / "2540341").write_bytes(b"Subject: x\n\n")
    (mess / "7").mkdir()
    return os.fsencode(tmp_path)


def _open(home, path, recipient=b"joe@x", uid=None):
    return open_message(home, os.geteuid() if uid is None else uid, Delivery(3, path, b"s", recipient))


def test_the_message_is_open_for_reading_and_not_for_children(home):
    descriptor = _open(home, b"14/2540341")
    try:
        assert os.read(descriptor, 100) == b"Subject: x\n\n"
        assert not os.get_inheritable(descriptor)
        with pytest.raises(OSError):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


REFUSALS = [
    (b"../../etc/passwd", b"joe@x", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
    (b"/14/2540341", b"joe@x", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
    (b"1" * 100, b"joe@x", b"DInternal error: messid too long. (#5.3.5)\n"),
    (b"", b"joe@x", b"DInternal error: messid too short. (#5.3.5)\n"),
    (b"14/2540341", b"joe", b"DSorry, address must include host name. (#5.1.3)\n"),
    (b"14/99", b"joe@x", b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
    (b"1" * 99, b"joe@x", b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
    (b"14/7", b"joe@x", b"ZSorry, message has wrong type. (#4.3.5)\n"),
]


@pytest.mark.parametrize(("path", "recipient", "report"), REFUSALS)
def test_an_impossible_command_is_answered_at_once(home, path, recipient, report):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused) as refused:
        _open(home, path, recipient)
    assert refused.value.report.encode() == report
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_message_of_another_owner_is_not_delivered(home):
    with pytest.raises(Refused) as refused:
        _open(home, b"14/2540341", uid=os.geteuid() + 1)
    assert refused.value.report.encode() == b"ZSorry, message has wrong owner. (#4.3.5)\n"


def test_a_recipient_is_cut_at_the_last_at():
    assert split_recipient(b"a@b@c") == (b"a@b", b"c")
    assert split_recipient(b"@c") == (b"", b"c")


def test_slots_refuse_what_is_busy_or_beyond_the_end():
    slots = Slots()
    slots.take(0)
    for slot, text in ((0, b"delnum in use"), (120, b"delnum too big")):
        with pytest.raises(Refused) as refused:
            slots.take(slot)
        assert text in refused.value.report.text
        assert refused.value.report.kind == b"Z"
    slots.free(0)
    slots.take(0)
    assert len(slots) == 1
