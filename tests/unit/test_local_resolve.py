"""deliver/local_plan.py: every check before the first delivery, in order."""

import os

import pytest

from notqmail.deliver.local_plan import Request, Stopped, describe, new_sender, resolve


@pytest.fixture
def home(tmp_path):
    place = tmp_path / "home"
    place.mkdir(mode=0o755)
    return place


@pytest.fixture
def message(tmp_path):
    path = tmp_path / "message"
    descriptors = []

    def make(content=b"Subject: x\n\nbody\n"):
        path.write_bytes(content)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


def _request(home, dash=b"-", ext=b"", *, local=b"u-Ext", sender=b"s@x", default=b"./Mailbox", domain=b"d"):
    return Request(b"u", os.fsencode(home), local, dash, ext, domain, sender, default)


def _stopped(request, descriptor):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Stopped) as stopped:
        resolve(request, descriptor)
    assert len(os.listdir("/proc/self/fd")) == before
    return stopped.value.code, stopped.value.text


def test_the_bare_user_without_a_file_gets_the_default_delivery(home, message):
    plan = resolve(_request(home, b"", b"", default=b"./Maildir/\n&copy@x"), message())
    assert plan.steps == [(b"maildir", b"./Maildir/"), (b"forward", b"copy@x")]


def test_an_extension_without_a_file_bounces(home, message):
    assert _stopped(_request(home, ext=b"x"), message()) == (100, b"Sorry, no mailbox here by that name. (#5.1.1)")


def test_an_empty_file_means_the_default_delivery_and_its_x_bit_counts_for_nothing(home, message):
    (home / ".qmail-x").write_bytes(b"")
    (home / ".qmail-x").chmod(0o700)
    assert resolve(_request(home, ext=b"X"), message()).steps == [(b"mbox", b"./Mailbox")]


def test_a_file_of_comments_discards_the_message(home, message):
    (home / ".qmail-x").write_bytes(b"# nothing\n")
    plan = resolve(_request(home, ext=b"x"), message())
    assert plan.steps == [] and describe(plan) == (b"did 0+0+0\n", b"")


def test_the_x_bit_allows_only_forwarding(home, message):
    (home / ".qmail").write_bytes(b"&a@x\n|cat\n")
    (home / ".qmail").chmod(0o744)
    plan = resolve(_request(home, b""), message())
    assert describe(plan) == (b"forward a@x\n", b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)")


def test_what_is_no_regular_file_is_passed_over(home, message):
    (home / ".qmail-a-b").mkdir()
    os.mkfifo(home / ".qmail-a-default")
    (home / "elsewhere").write_bytes(b"&a@x\n")
    (home / ".qmail-default").symlink_to("elsewhere")
    plan = resolve(_request(home, ext=b"a-B"), message())
    assert plan.steps == [(b"forward", b"a@x")] and plan.default == b"a-B"


def test_a_file_others_may_write_defers(home, message):
    (home / ".qmail").write_bytes(b"&a\n")
    (home / ".qmail").chmod(0o606)
    assert _stopped(_request(home, b""), message()) == (111, b"Uh-oh: .qmail file is writable. (#4.7.0)")


def test_a_group_writable_file_and_home_are_accepted(home, message):
    (home / ".qmail").write_bytes(b"&a\n")
    (home / ".qmail").chmod(0o660)
    home.chmod(0o775)
    assert resolve(_request(home, b""), message()).steps == [(b"forward", b"a")]


def test_a_symlink_loop_is_no_file(home, message):
    (home / ".qmail").symlink_to(".qmail")
    assert resolve(_request(home, b""), message()).steps == [(b"mbox", b"./Mailbox")]


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (0o757, b"Uh-oh: home directory is writable. (#4.7.0)"),
        (0o1755, b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)"),
    ],
)
def test_a_home_that_is_open_or_being_edited_defers(home, message, mode, text):
    home.chmod(mode)
    assert _stopped(_request(home), message()) == (111, text)


def test_a_dry_run_warns_of_a_sticky_home_and_reads_no_message(home):
    home.chmod(0o1755)
    plan = resolve(_request(home, b""), -1, dry_run=True)
    assert plan.warning == b"Warning: home directory is sticky."
    assert describe(plan) == (b"mbox ./Mailbox\ndid 1+0+0\n", b"")


def test_a_dry_run_warns_of_a_sticky_home_also_where_it_finds_nobody(home):
    home.chmod(0o1755)
    with pytest.raises(Stopped) as stopped:
        resolve(_request(home, ext=b"x"), -1, dry_run=True)
    assert stopped.value.text == b"Warning: home directory is sticky.\nSorry, no mailbox here by that name. (#5.1.1)"


def test_a_missing_home_defers(home, message):
    missing = os.fsencode(home) + b"/no"
    code, text = _stopped(_request(missing), message())
    assert (code, text) == (111, b"Unable to switch to %b: file does not exist. (#4.3.0)" % missing)


def test_a_home_must_be_absolute(message):
    assert _stopped(_request("home"), message())[0] == 100


@pytest.mark.root
def test_a_file_that_may_not_be_read_defers(short_path, message):
    short_path.chmod(0o755)
    (short_path / ".qmail-x").write_bytes(b"&a\n")
    (short_path / ".qmail-x").chmod(0)
    descriptor = message()
    os.seteuid(65_534)
    try:
        assert _stopped(_request(short_path, ext=b"x"), descriptor) == (
            111, b"Unable to open .qmail-x: access denied. (#4.3.0)",
        )  # fmt: skip
    finally:
        os.seteuid(0)


LOOPS = [  # message, whether it loops
    (b"A: b\nDelivered-To: u-Ext@d\n\nbody\n", True),
    (b"Delivered-To: u-Ext@d\n\n", True),
    (b"Delivered-To: u-Ext@d\n", True),  # no body at all
    (b"Delivered-To: u-Ext@d", False),  # not a whole line
    (b"delivered-to: u-ext@d\n\n", False),  # byte for byte
    (b"Delivered-To:  u-Ext@d\n\n", False),
    (b"X: Delivered-To: u-Ext@d\n\n", False),
    (b"A: b\n\nDelivered-To: u-Ext@d\n", False),  # in the body
    (b"\nDelivered-To: u-Ext@d\n", False),
    (b"A: b\r\nDelivered-To: u-Ext@d\r\n", False),
    (b"A: " + b"x" * 65_510 + b"\nDelivered-To: u-Ext@d\n\n", True),  # where two pieces meet
    (b"A: " + b"x" * 300_000 + b"\nDelivered-To: u-Ext@d\n\n", True),
    (b"A: " + b"x" * 65_531 + b"\n\nDelivered-To: u-Ext@d\n\n", False),
    (b"", False),
]


@pytest.mark.parametrize(("content", "loops"), LOOPS, ids=range(len(LOOPS)))
def test_my_own_delivered_to_line_in_the_header_is_a_loop(home, message, content, loops):
    request = _request(home, b"")
    if loops:
        assert _stopped(request, message(content)) == (
            100, b"This message is looping: it already has my Delivered-To line. (#5.4.6)",
        )  # fmt: skip
    else:
        resolve(request, message(content))


def test_a_loop_is_found_wherever_the_line_lies_around_the_end_of_a_piece(home, message):
    for filling in range(65_536 - 40, 65_536 + 3):
        content = b"A: ".ljust(filling, b"x") + b"\nDelivered-To: u-Ext@d\n\n"
        assert _stopped(_request(home, b""), message(content))[0] == 100


def test_a_message_on_a_pipe_cannot_be_delivered(home):
    reader, writer = os.pipe()
    try:
        assert _stopped(_request(home, b""), reader) == (111, b"Unable to rewind message. (#4.3.0)")
    finally:
        os.close(reader)
        os.close(writer)


SENDERS = [  # files, sender, NEWSENDER
    ([], b"s@x", b"s@x"),
    ([".qmail-l-owner"], b"s@x", b"u-L-owner@d"),
    ([".qmail-l-owner", ".qmail-l-owner-default"], b"s@x", b"u-L-owner-@d-@[]"),
    ([".qmail-l-owner-default"], b"s@x", b"s@x"),
    ([".qmail-l-owner"], b"", b""),
    ([".qmail-l-owner"], b"#@[]", b"#@[]"),
]


@pytest.mark.parametrize(("files", "sender", "expected"), SENDERS)
def test_the_owner_of_a_list_becomes_its_sender(home, files, sender, expected):
    for name in files:
        (home / name).write_bytes(b"")
    assert new_sender(_request(home, ext=b"L", local=b"u-L", sender=sender)) == expected


def test_a_plan_is_batchable_only_when_it_is_one_maildir(home, message):
    texts = {b"./M/\n": True, b"#\n./M/\n": True, b"./M/\n./N/\n": False, b"./M\n": False, b"./M/\n&a\n": False}
    for text, batchable in texts.items():
        (home / ".qmail").write_bytes(text)
        job = resolve(_request(home, b""), message()).maildir_job()
        assert (job is not None) == batchable
    (home / ".qmail").write_bytes(b"/abs/M/\n")
    job = resolve(_request(home, b"", local=b"u", sender=b""), message()).maildir_job()
    assert (job.directory, job.top) == (b"/abs/M/", b"Return-Path: <>\nDelivered-To: u@d\n")
