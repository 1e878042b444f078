"""Local delivery: what must hold for any text."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from notqmail.control import assign, dotqmail
from notqmail.deliver.mailboxes import quote_from_lines

LINES = st.lists(st.sampled_from([b"From ", b">", b"\n", b"From", b"x", b"F", b" ", b">>From "])).map(b"".join)


def _quoted_line_by_line(text):
    lines = text.split(b"\n")
    return b"\n".join(b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in lines)


@given(LINES, st.lists(st.integers(0, 60)))
def test_quoting_does_not_depend_on_the_pieces(text, cuts):
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert b"".join(quote_from_lines(pieces)) == _quoted_line_by_line(text)


@given(st.binary(max_size=200), st.booleans())
def test_any_dot_qmail_text_has_a_meaning(text, forward_only):
    for kind, _argument in dotqmail.instructions(text, forward_only=forward_only):
        assert kind in (dotqmail.MBOX, dotqmail.MAILDIR, dotqmail.PROGRAM, dotqmail.FORWARD, dotqmail.REFUSED)
        if forward_only:
            assert kind in (dotqmail.FORWARD, dotqmail.REFUSED)


@given(st.binary(max_size=60).filter(lambda ext: b"\0" not in ext))
def test_no_extension_leads_out_of_the_directory(ext):
    names = [name for name, _ in dotqmail.candidates(b"-", ext)]
    assert names[-1] == b".qmail-default" or ext.lower() == b"default"
    for name in names:
        assert name.startswith(b".qmail-") and b"." not in name[1:]


@given(st.binary(max_size=300))
def test_any_assign_text_is_records_or_a_numbered_complaint(text):
    try:
        found = assign.records(text)
    except assign.BadFormat as bad:
        assert 1 <= bad.line <= text.count(b"\n") + 1
        return
    assert found[-1][0] == assign.WILDCARDS_KEY


@given(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b":\n\0")))
def test_an_assigned_prefix_is_always_found_in_lower_case(name):
    name = name.lower()
    records = dict(assign.records(b"+" + name + b":u:1:1:/:-::\n.\n"))
    keys = dict(assign.lookup_keys(name + b"Ext", records[b""]))
    assert keys[b"!" + name] == b"Ext"
