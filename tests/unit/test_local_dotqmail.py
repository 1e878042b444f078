"""control/dotqmail.py: which files are tried, and what their lines mean."""

import pytest

from notqmail.control.dotqmail import FORWARD, MAILDIR, MBOX, PROGRAM, REFUSED, candidates, instructions, safe_extension

LOOKUPS = [  # dash, ext, names in order
    (b"", b"", [b".qmail", b".qmaildefault"]),  # in C too the bare user has a default file
    (b"-", b"a-b-c", [b".qmail-a-b-c", b".qmail-a-b-default", b".qmail-a-default", b".qmail-default"]),
    (b"-", b"a-b-", [b".qmail-a-b-", b".qmail-a-b-default", b".qmail-a-default", b".qmail-default"]),
    (b"-", b"", [b".qmail-", b".qmail-default"]),
    (b"-/", b"a-b", [b".qmail-/a-b", b".qmail-/a-default", b".qmail-/default"]),
    (b"-", b"--", [b".qmail---", b".qmail---default", b".qmail--default", b".qmail-default"]),
    (b"-", b"A.B-C.D", [b".qmail-a:b-c:d", b".qmail-a:b-default", b".qmail-default"]),
    (b"-", b"../../x", [b".qmail-::/::/x", b".qmail-default"]),  # no way up the tree
]


@pytest.mark.parametrize(("dash", "ext", "names"), LOOKUPS)
def test_files_are_tried_from_the_whole_extension_to_the_shortest_prefix(dash, ext, names):
    assert [name for name, _ in candidates(dash, ext)] == names


@pytest.mark.parametrize(
    ("ext", "expected"),
    [
        (b"L-J.X", [(b".qmail-l-j:x", None), (b".qmail-l-default", b"J.X"), (b".qmail-default", b"L-J.X")]),
        (b"Default", [(b".qmail-default", b"Default"), (b".qmail-default", b"Default")]),
    ],
)
def test_default_stands_for_the_rest_of_the_extension_in_its_own_case(ext, expected):
    found = [(name, None if start is None else ext[start:]) for name, start in candidates(b"-", ext)]
    assert found == expected


def test_the_kinds_are_the_words_of_qmail_local_n_and_without_an_x_bit_all_may_be_done():
    assert (MBOX, MAILDIR, PROGRAM, FORWARD) == (b"mbox", b"maildir", b"program", b"forward")
    assert instructions(b"./a\n") == [(MBOX, b"./a")]


def test_a_safe_extension_is_lower_case_without_dots():
    assert safe_extension(b"A.b/C") == b"a:b/c"


NO_FILES = b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)"
LINES = [  # text, x bit, steps
    (b"./Mailbox\n", False, [(MBOX, b"./Mailbox")]),
    (b"./Maildir/ \t\n", False, [(MAILDIR, b"./Maildir/")]),  # trailing blanks go
    (b"./box?\n", False, [(MBOX, b"./box?")]),  # and nothing else
    (b"/a/b/", False, [(MAILDIR, b"/a/b/")]),  # a last line needs no newline
    (b"|cat >x ", False, [(PROGRAM, b"cat >x")]),
    (b"| cat", False, [(PROGRAM, b" cat")]),
    (b"&joe@x\nbob@y\n", False, [(FORWARD, b"joe@x"), (FORWARD, b"bob@y")]),
    (b"&\n", False, [(FORWARD, b"")]),  # an empty address, qmail-send adds a host
    (b" joe\n", False, [(FORWARD, b" joe")]),  # a leading blank belongs to the address
    (b"# c\n\n \n#\n", False, []),  # only comments: nothing is done, and that is success
    (b"+other\nx@y\n", False, [(FORWARD, b"x@y")]),
    (b"./a\n+list\n./b\n", False, [(MBOX, b"./a"), (REFUSED, NO_FILES)]),
    (b"+list \n|b\n", False, [(REFUSED, b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)")]),
    (b"x\n./b/\n", True, [(FORWARD, b"x"), (REFUSED, NO_FILES)]),
    (b"", False, [(REFUSED, b"Uh-oh: first line of .qmail file is blank. (#4.2.1)")]),
    (b"\n./a\n", False, [(REFUSED, b"Uh-oh: first line of .qmail file is blank. (#4.2.1)")]),
    (b" \t\n./a\n", False, [(REFUSED, b"Uh-oh: first line of .qmail file is blank. (#4.2.1)")]),
    (b"./a\0b/\n", False, [(MBOX, b"./a")]),  # as a C string ends
]  # fmt: skip


@pytest.mark.parametrize(("text", "forward_only", "steps"), LINES)
def test_a_line_s_first_byte_decides_what_it_is(text, forward_only, steps):
    assert instructions(text, forward_only=forward_only) == steps
