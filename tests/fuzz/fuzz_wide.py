"""Targets: the link between our qmail-send and our spawners, and lines that a mailbox must quote."""

import re

from fuzz_driver import same_however_cut, target

from notqmail.message.mbox import quote_from_lines
from notqmail.wire import wide_link
from notqmail.wire.reports import Report
from notqmail.wire.spawn_link import BadCommand


@target(
    "wide-command", b"\0", b"\0\0", b"\x00\x0114/2540341\0sender@x\0a@y\0b@y\0\0", b"\0\0\0\0", b"../../etc/passwd\0"
)
def commands_for_several(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader, found = wide_link.WideCommandReader(), list[object]()
        try:
            for piece in pieces:
                found += reader.receive(piece)
        except BadCommand:
            return "broken"
        return found

    found = same_however_cut(data, heard)
    if isinstance(found, list):
        written = b"".join(map(wide_link.encode_command, found))
        assert data.startswith(written), "what was read is what stood there"


@target("wide-report", b"\0", b"\0\0\0\0", b"\x01\x02\0\0Kok\0", b"\x02\0\xff\xffZ\0", b"\0\0\1\0Dno\n\0", b"y" * 700)
def reports_for_several(data: bytes) -> None:
    def heard(pieces: list[bytes]) -> object:
        reader = wide_link.WideReportReader()
        return [found for piece in pieces for found in reader.receive(piece)]

    found = same_however_cut(data, heard)
    assert isinstance(found, list)
    for place, report in found:
        slot, index = wide_link.slot_and_index(place)
        assert wide_link.place_of(slot, index) == place and slot < wide_link.SLOTS_MAX > index
        if report is not None:
            written = wide_link.encode_wide_report(place, report)
            assert wide_link.WideReportReader().receive(written) == [(place, report)]


@target("wide-terms", b"K", b"Z", b" ", b"1000 100", b"0", b"-", b"65537", b"99999999999999999999", b"\xb2")
def what_a_spawner_offers(data: bytes) -> None:
    terms = wide_link.terms_from(Report(data[:1], data[1:]))
    if terms is not None:
        assert 1 <= terms.slots <= wide_link.SLOTS_MAX and 1 <= terms.recipients <= wide_link.SLOTS_MAX
        again = wide_link.terms_from(terms.answer())
        assert again is not None and (again.slots, again.recipients) == (terms.slots, terms.recipients)


@target("mbox-quote", b"From ", b">From ", b"\n", b">", b"\nFrom", b" ", b"\n>>>From x")
def lines_of_a_mailbox(data: bytes) -> None:
    quoted = same_however_cut(data, lambda pieces: b"".join(quote_from_lines(pieces)))
    assert isinstance(quoted, bytes)
    assert quoted == re.sub(rb"(?m)^(>*From )", rb">\1", data)
    assert not re.search(rb"(?m)^From ", quoted), "nothing in a message begins another one"
