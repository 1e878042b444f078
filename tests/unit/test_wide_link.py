"""The link between a qmail-send and a spawner that are both ours: many slots, several recipients a command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import REPORT_MAX, BadCommand, CommandReader, Delivery
from notqmail.wire.wide_link import (
    ASKING_SLOT,
    COMMAND_MAX,
    Terms,
    WideCommandReader,
    WideReportReader,
    encode_command,
    encode_wide_report,
    is_question,
    place_of,
    question,
    slot_and_index,
    terms_from,
)

DELIVERIES = [
    Delivery(0, b"14/2540341", b"s@x", b"r@y"),
    Delivery(256, b"0/23", b"", b"a@y", b"b@y", b"c@y"),  # an empty sender; a slot that begins with NUL
    Delivery(65_535, b"1/1", b"#@[]", b"r"),
]
COMMANDS = b"".join(map(encode_command, DELIVERIES))


def test_the_question_is_a_command_that_every_spawner_answers() -> None:
    (asked,) = CommandReader().receive(question())
    assert asked.slot == ASKING_SLOT and is_question(asked)
    assert not is_question(Delivery(ASKING_SLOT, b"1/1", b"", b"r@y"))
    assert not is_question(Delivery(0, b"wide", b"", b""))


@pytest.mark.parametrize(
    ("answer", "terms"),
    [
        (Terms(1_000, 100).answer(), (1_000, 100)), (success(b"1 1"), (1, 1)),
        (success(b"70000 70000"), (65_536, 65_536)),
        (temporary(b"Internal error: delnum too big. (#4.3.5)\n"), None), (permanent(b"9 9"), None), (None, None),
        (success(b""), None), (success(b"5"), None), (success(b"5 "), None), (success(b"x y"), None),
        (success(b"0 5"), None), (success(b"5 0"), None), (success(b"-1 5"), None), (success(b"5 5\n"), None),
        (success(b"9" * 5_000 + b" 1"), None),  # no number of anything
        (success(b"1 " + b"9" * 17), (1, 65_536)), (success(b"1 " + b"9" * 18), None),
    ],
)  # fmt: skip
def test_what_an_answer_offers(answer: Report | None, terms: tuple[int, int] | None) -> None:
    found = terms_from(answer)
    assert (found and (found.slots, found.recipients)) == terms


def test_a_command_is_two_bytes_and_strings_and_a_nul() -> None:
    assert encode_command(DELIVERIES[1]) == b"\0\x010/23\0\0a@y\0b@y\0c@y\0\0"


def test_commands_do_not_depend_on_how_the_pipe_cuts_them() -> None:
    for cut in range(len(COMMANDS) + 1):
        reader = WideCommandReader()
        assert reader.receive(COMMANDS[:cut]) + reader.receive(COMMANDS[cut:]) == DELIVERIES
    reader = WideCommandReader()
    assert [found for byte in COMMANDS for found in reader.receive(bytes([byte]))] == DELIVERIES


def test_an_empty_recipient_does_not_end_a_command_early() -> None:
    (found,) = WideCommandReader().receive(encode_command(Delivery(1, b"1/1", b"s", b"a@y", b"", b"b@y")))
    assert found.recipients == (b"a@y", b"-", b"b@y")


def test_a_command_for_nobody_or_without_end_is_refused() -> None:
    with pytest.raises(BadCommand):
        WideCommandReader().receive(b"\1\0001/1\0s@x\0\0")
    reader = WideCommandReader()
    with pytest.raises(BadCommand):
        for _ in range(COMMAND_MAX // 1_000 + 2):
            reader.receive(b"x" * 999 + b"\0x")


WIRE = b"\0\0\0\0Kfine\0\0\1\0\0Zlater\n\0\0\1\2\0Dno\0\xff\xff\xff\xffK\0\2\0\0\0Xwhat\0\3\0\0\0\0"
REPORTS = [
    (0, success(b"fine")), (place_of(256, 0), temporary(b"later\n")), (place_of(256, 2), permanent(b"no")),
    (place_of(65_535, 65_535), success()), (2, None), (3, None),
]  # fmt: skip


def test_reports_do_not_depend_on_how_the_pipe_cuts_them() -> None:
    for cut in range(len(WIRE) + 1):
        reader = WideReportReader()
        assert reader.receive(WIRE[:cut]) + reader.receive(WIRE[cut:]) == REPORTS
    reader = WideReportReader()
    assert [found for byte in WIRE for found in reader.receive(bytes([byte]))] == REPORTS


def test_an_endless_report_keeps_its_beginning_and_the_next_one_is_found() -> None:
    reader = WideReportReader()
    assert reader.receive(b"\7\0\0\0K" + b"x" * 20_000) == []
    assert reader.receive(b"y" * 100_000) == []
    first, second = reader.receive(b"\0" + b"\1\0\0\0Z\0")
    assert first == (7, success(b"x" * (REPORT_MAX - 1)))
    assert second == (1, temporary(b""))


@given(st.integers(0, 65_535), st.integers(0, 65_535), st.sampled_from(b"KZD"), st.binary(max_size=50))
def test_what_a_spawner_writes_is_read(slot: int, index: int, letter: int, text: bytes) -> None:
    place = place_of(slot, index)
    assert slot_and_index(place) == (slot, index)
    wire = encode_wide_report(place, Report(bytes([letter]), text))
    shown = text.split(b"\0")[0]
    assert WideReportReader().receive(wire) == [(place, Report(bytes([letter]), shown))]
