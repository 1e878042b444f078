"""control/assign.py: users/assign into records, addresses into keys."""

import pytest

from notqmail.control.assign import Assignment, BadFormat, decode, lookup_keys, records

GOOD = (
    b"=joe.shmoe:joe:503:78:/home/joe:::\n"
    b"+Joe-:joe:503:78:/home/joe:-::\n"
    b"+x+:x:1:2:/x:-:pre:ignored:text\n"
    b"+:alias:7790:2108:/var/qmail/alias:-::\n"
    b".\nwhat follows the dot is not read"
)


def test_each_assignment_becomes_a_record_and_the_last_tells_the_wildcards():
    assert records(GOOD) == [
        (b"!joe.shmoe\0", b"joe\x00503\x0078\0/home/joe\0\0"),
        (b"!joe-", b"joe\x00503\x0078\0/home/joe\0-\0"),
        (b"!x+", b"x\x001\x002\0/x\0-\0pre"),
        (b"!", b"alias\x007790\x002108\0/var/qmail/alias\0-\0"),
        (b"", b"-+"),
    ]


BAD = [
    (b"", 1),  # no dot line
    (b"=a:b:1:1:/:::\n", 2),
    (b"=a:b:1:1:/:::", 1),  # cut short
    (b"=a:b:1:1:/::\n.\n", 1),  # five colons after the name
    (b"nocolon\n.\n", 1),
    (b":b:1:1:/:::\n.\n", 1),  # no name at all
    (b"\n.\n", 1),
    (b"=a:b:1:1:/:::\n=\0:b:1:1:/:::\n.\n", 2),
]


@pytest.mark.parametrize(("text", "line"), BAD)
def test_a_bad_line_is_named_by_its_number(text, line):
    with pytest.raises(BadFormat) as raised:
        records(text)
    assert raised.value.line == line and str(raised.value) == f"bad format in line {line}"


@pytest.mark.parametrize("dot", [b".", b".\n", b".end\n", b"..\n"])
def test_any_line_that_begins_with_a_dot_is_the_end(dot):
    assert len(records(b"=a:b:1:1:/:::\n" + dot)) == 2


def test_a_first_byte_that_is_neither_counts_as_exact():
    assert records(b"xab:u:1:1:/:::\n.")[0][0] == b"!ab\0"


@pytest.mark.parametrize(
    ("local", "wildcards", "keys"),
    [
        (b"Joe-Ext", b"-", [(b"!joe-ext\0", b""), (b"!joe-", b"Ext"), (b"!", b"Joe-Ext")]),
        (b"joe", b"", [(b"!joe\0", b""), (b"!", b"joe")]),
        (b"joe", b"e", [(b"!joe\0", b""), (b"!joe", b""), (b"!", b"joe")]),
        (b"a-b-c", b"-", [(b"!a-b-c\0", b""), (b"!a-b-", b"c"), (b"!a-", b"b-c"), (b"!", b"a-b-c")]),
        (b"aE", b"E", [(b"!ae\0", b""), (b"!", b"aE")]),  # an upper-case wildcard character never matches
    ],
)
def test_only_prefixes_that_end_in_a_wildcard_character_are_looked_for(local, wildcards, keys):
    assert list(lookup_keys(local, wildcards)) == keys


@pytest.mark.parametrize(
    ("value", "rest", "expected"),
    [
        (b"u\x001\x002\0/h\0-\0pre-", b"Rest", Assignment(b"u", 1, 2, b"/h", b"-", b"pre-Rest")),
        (b"u\x0012x\0\0/h\0\0", b"", Assignment(b"u", 12, 0, b"/h", b"", b"")),
        (b"u\x0012?3\x007/\0/h\0\0", b"", Assignment(b"u", 12, 7, b"/h", b"", b"")),
        (b"u\x0099999999999999999999\x001\0/h\0\0", b"", Assignment(b"u", (10**20 - 1) % 2**32, 1, b"/h", b"", b"")),
        (b"u\x004294967296\x001\0/h\0\0", b"", Assignment(b"u", 0, 1, b"/h", b"", b"")),  # wraps to root: refused later
        (b"u\x004294967295\x002147483648\0/h\0\0", b"", Assignment(b"u", 2**32 - 1, 2**31, b"/h", b"", b"")),
        (b"u\x001\x002\0/h\0-", b"x", None),
        (b"", b"", None),
    ],
)
def test_a_record_is_read_as_c_reads_it(value, rest, expected):
    assert decode(value, rest) == expected


def test_an_assignment_is_printed_as_six_fields_each_ended_by_nul():
    assignment = Assignment(b"u", 1, 2, b"/h", b"-", b"ext")
    assert assignment.encode() == b"u\x001\x002\x00/h\x00-\x00ext\x00"
    assert decode(b"u\x001\x002\0/h\0-\0ext") == decode(assignment.encode()) == assignment
    assert hash(assignment) == hash(assignment.encode())
    assert assignment != Assignment(b"u", 1, 2, b"/h", b"-", b"") and assignment != assignment.encode()
    assert repr(assignment) == f"Assignment({assignment.encode()!r})"


@pytest.mark.parametrize(("names", "wildcards"), [([b"+"], b""), ([b"+a"], b"a"), ([b"+ab", b"+b", b"+a"], b"ba")])
def test_the_wildcards_are_the_last_characters_of_names_that_have_one(names, wildcards):
    text = b"".join(b"%b:u:1:1:/:::\n" % name for name in names) + b"."
    assert records(text)[-1] == (b"", wildcards)
