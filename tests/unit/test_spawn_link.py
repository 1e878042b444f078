"""qmail-send's pipes to the spawners: slots that are NUL, reports without end, every cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.wire.reports import Report, decode_report, permanent, success, temporary
from notqmail.wire.spawn_link import (
    COMMAND_FIELD_MAX,
    REPORT_MAX,
    SPAWN_SLOTS,
    BadCommand,
    CommandReader,
    Delivery,
    ReportReader,
    encode_report,
)

DELIVERIES = [
    Delivery(0, b"14/2540341", b"s@x", b"r@y"),
    Delivery(255, b"0/23", b"", b"r@y"),  # an empty sender
    Delivery(10, b"1/1", b"#@[]", b""),  # an empty recipient; the slot is a newline
    Delivery(0, b"1/1", b"", b""),
]
COMMANDS = b"".join(delivery.encode() for delivery in DELIVERIES)


def test_a_command_is_a_byte_and_three_strings() -> None:
    assert DELIVERIES[0].encode() == b"\x0014/2540341\0s@x\0r@y\0"


def test_commands_do_not_depend_on_how_the_pipe_cuts_them() -> None:
    for cut in range(len(COMMANDS) + 1):
        reader = CommandReader()
        assert reader.receive(COMMANDS[:cut]) + reader.receive(COMMANDS[cut:]) == DELIVERIES
    reader = CommandReader()
    assert [found for byte in COMMANDS for found in reader.receive(bytes([byte]))] == DELIVERIES


def test_a_command_without_end_is_refused() -> None:
    reader = CommandReader()
    with pytest.raises(BadCommand):
        for _ in range(200):
            reader.receive(b"x" * 1_000)


WIRE = b"\0Kfine\0\x05Zlater\n\0\0Dno\0\xffK\0\x02Xwhat\0\x03\0\0\0"
REPORTS = [
    (0, success(b"fine")),
    (5, temporary(b"later\n")),
    (0, permanent(b"no")),
    (255, success()),
    (2, None),  # no known letter: mangled
    (3, None),  # nothing at all
    (0, None),  # slot 0, nothing at all: the second NUL ends it
]


def test_reports_do_not_depend_on_how_the_pipe_cuts_them() -> None:
    for cut in range(len(WIRE) + 1):
        reader = ReportReader()
        assert reader.receive(WIRE[:cut]) + reader.receive(WIRE[cut:]) == REPORTS
    reader = ReportReader()
    assert [found for byte in WIRE for found in reader.receive(bytes([byte]))] == REPORTS


def test_a_long_report_keeps_its_beginning_and_the_next_one_is_found() -> None:
    reader = ReportReader()
    wire = b"\x01D" + b"x" * 50_000 + b"\0\x02Kok\0"
    found = [report for start in range(0, len(wire), 700) for report in reader.receive(wire[start : start + 700])]
    assert found == [(1, permanent(b"x" * (REPORT_MAX - 1))), (2, success(b"ok"))]


def test_an_endless_report_does_not_fill_the_memory() -> None:
    reader = ReportReader()
    for _ in range(1_000):
        reader.receive(b"x" * 1_000)
    assert len(reader._buffer) <= REPORT_MAX + 1


@given(st.integers(0, 255), st.sampled_from(b"KZD"), st.binary(max_size=50))
def test_what_a_spawner_writes_is_read(slot: int, letter: int, text: bytes) -> None:
    kind, seen = bytes([letter]), text.split(b"\0", 1)[0]
    assert ReportReader().receive(encode_report(slot, Report(kind, text))) == [(slot, Report(kind, seen))]


@pytest.mark.parametrize(
    ("data", "report"),
    [
        (b"Kok", success(b"ok")), (b"Zno", temporary(b"no")), (b"D", permanent(b"")),
        (b"", temporary(b"")), (b"what", temporary(b"what")), (b"kok", temporary(b"kok")),  # kept whole
    ],
)  # fmt: skip
def test_an_answer_of_unknown_kind_is_temporary(data: bytes, report: Report) -> None:
    assert decode_report(data) == report


def test_the_numbers_that_both_ends_know() -> None:
    assert (SPAWN_SLOTS, REPORT_MAX, COMMAND_FIELD_MAX) == (120, 10_000, 65_536)


def test_a_command_may_have_empty_fields() -> None:
    for delivery in (Delivery(0, b"", b"s", b"r"), Delivery(5, b"", b"", b"r"), Delivery(0, b"", b"", b"")):
        assert CommandReader().receive(delivery.encode() * 2) == [delivery] * 2


def test_deliveries_are_equal_when_all_they_say_is() -> None:
    delivery = Delivery(1, b"m", b"s", b"r")
    assert delivery == Delivery(1, b"m", b"s", b"r") and hash(delivery) == hash(Delivery(1, b"m", b"s", b"r"))
    for other in (Delivery(2, b"m", b"s", b"r"), Delivery(1, b"m", b"s", b"q"), delivery.encode()):
        assert delivery != other


def test_so_many_bytes_of_a_command_are_waited_for() -> None:
    reader = CommandReader()
    assert reader.receive(b"x" * 3 * COMMAND_FIELD_MAX) == []
    with pytest.raises(BadCommand):
        reader.receive(b"x")


def test_a_report_is_a_byte_a_letter_and_a_text_that_a_nul_ends() -> None:
    assert encode_report(5, permanent(b"no")) == b"\x05Dno\0"
    assert encode_report(0, permanent(b"a\0b\0c")) == b"\0Da\0"
    assert encode_report(255, Report(b"", b"\0x")) == b"\xff\0"


def test_of_a_long_report_it_is_the_first_bytes_that_are_kept() -> None:
    text = b"D" + b"".join(b"%05d" % number for number in range(2_100))
    wire = b"\x07" + text + b"\0"
    for cut in (1, REPORT_MAX - 1, REPORT_MAX, REPORT_MAX + 1, REPORT_MAX + 2, REPORT_MAX + 3):
        reader = ReportReader()
        [(slot, report)] = reader.receive(wire[:cut]) + reader.receive(wire[cut:])
        assert slot == 7 and report is not None and report.encode() == text[:REPORT_MAX]
