"""As test_broken_on_purpose.py, for two messages on their way into Maildirs together."""

import random

import pytest
from breakage import Recorder, ReplayDisk, Step, left_out, replay, swapped
from queue_states import FixedClock
from test_broken_on_purpose import Breaking

from notqmail.deliver.mailboxes import MaildirJob, UniqueNames, deliver_batch

MESSAGES = [b"Subject: one\n\nbody\n", b"Subject: two\n\nbody\n"]
# Reason: the changes that it holds for.
HARMLESS: dict[str, list[str]] = {
    "two messages do not concern each other": [
        "_write_under_tmp: create two tmp BEFORE _write_under_tmp: create one tmp",
        "_link: link two new BEFORE _link: link one new",
        "_move_to_new: unlink one tmp BEFORE _link: link two new",
        "_move_to_new: unlink two tmp BEFORE _move_to_new: unlink one tmp",
    ],
    "the name in tmp/ is only a stale file once the one in new/ is there": [
        "_move_to_new: sync one new+two new BEFORE _move_to_new: unlink two tmp",
    ],
}


class StoredMessage:
    """A short message in memory, in place of an open file."""

    is_short = True

    def __init__(self, head: bytes) -> None:
        self.head = head


def record() -> list[Step]:
    """Both are delivered, as it should be."""
    disk = Recorder()
    jobs = [
        MaildirJob(directory, b"", StoredMessage(text))  # type: ignore[arg-type]
        for directory, text in zip((b"one/", b"two/"), MESSAGES, strict=True)
    ]
    names = UniqueNames(FixedClock(), pid=7, host=b"h")
    assert deliver_batch(jobs, disk, names, lambda _: True) == [None, None]
    disk.said("delivered")
    return disk.steps


def fault(steps: list[Step]) -> str | None:
    """What is wrong after some power cut: something is half there, lost after success, or there for ever in tmp."""
    successes: list[str] = []
    disk = ReplayDisk()
    try:
        for cut, now in enumerate(replay(steps, disk, successes.append)):
            for survivor in (now.killed(), *now.survivors(random.Random(cut), limit=256)):
                found = survivor.everything()
                new = {path[:3]: text for path, text in found.items() if b"/new/" in path}
                assert set(new.values()) <= set(MESSAGES), "half a message is in new/"
                assert not successes or sorted(new.values()) == MESSAGES, "a delivered message was lost"
        assert not [path for path in disk.everything() if b"/tmp/" in path], "something stays in tmp/"
    except (AssertionError, OSError) as error:
        return str(error)
    return None


def test_the_recorded_delivery_itself_is_without_fault() -> None:
    assert fault(record()) is None


@pytest.mark.parametrize("breaking", [left_out, swapped])
def test_each_step_of_a_maildir_delivery_left_out_or_swapped_is_noticed(breaking: Breaking) -> None:
    harmless = {change for changes in HARMLESS.values() for change in changes}
    noticed = {change: fault(steps) for change, steps in breaking(record()) if change not in harmless}
    assert noticed
    assert [change for change, found in noticed.items() if not found] == [], "nobody notices these"
