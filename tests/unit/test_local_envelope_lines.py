"""deliver/envelope_lines.py: the added lines and the programs' environment."""

import pytest

from notqmail.deliver import envelope_lines as lines


def test_the_three_lines():
    assert lines.delivered_to(b"Joe-X", b"d.org") == b"Delivered-To: Joe-X@d.org\n"
    assert lines.return_path(b"a b@c") == b'Return-Path: <"a b"@c>\n'
    assert lines.return_path(b"") == b"Return-Path: <>\n"
    assert lines.from_line(b"a\tb c@d", 0) == b"From a-b-c@d Thu Jan 01 00:00:00 1970\n"
    assert lines.from_line(b"", 1_795_365_569) == b"From MAILER-DAEMON Sun Nov 22 16:39:29 2026\n"


def test_a_newline_in_an_address_makes_no_second_line():
    assert lines.delivered_to(b"a\nb", b"c\nd") == b"Delivered-To: a_b@c_d\n"
    assert lines.return_path(b"a\nb@c").count(b"\n") == 1
    assert lines.from_line(b"a\nb", 0).count(b"\n") == 1


@pytest.mark.parametrize(
    ("ext", "parts"),
    [
        (b"", (b"", b"", b"", b"")),
        (b"a", (b"a", b"", b"", b"")),
        (b"a-b-c-d-e", (b"a-b-c-d-e", b"b-c-d-e", b"c-d-e", b"d-e")),
        (b"-a", (b"-a", b"a", b"", b"")),
    ],
)
def test_ext_parts(ext, parts):
    assert lines.extension_parts(ext) == parts


@pytest.mark.parametrize(
    ("domain", "parts"),
    [
        (b"a.b.c.d", (b"a.b.c", b"a.b", b"a")),
        (b"a.b.c", (b"a.b", b"a", b"a")),  # the last stub repeats
        (b"a", (b"a", b"a", b"a")),
        (b".a", (b"", b"", b"")),
        (b"", (b"", b"", b"")),
    ],
)
def test_host_parts(domain, parts):
    assert lines.host_parts(domain) == parts


def _environment(**changes):
    values = {
        "user": b"u", "home": b"/h", "local": b"l", "ext": b"e-f", "domain": b"d.e", "sender": b"s", "new_sender": b"n",
        "dtline": b"D\n", "rpline": b"R\n", "ufline": b"U\n", "default": None,
    }  # fmt: skip
    return lines.program_environment({b"PATH": b"/bin", b"USER": b"root"}, **{**values, **changes})


def test_the_environment_adds_to_the_inherited_one():
    assert _environment() == {
        b"PATH": b"/bin", b"HOST": b"d.e", b"HOME": b"/h", b"USER": b"u", b"LOCAL": b"l", b"RECIPIENT": b"l@d.e",
        b"DTLINE": b"D\n", b"SENDER": b"s", b"RPLINE": b"R\n", b"UFLINE": b"U\n", b"NEWSENDER": b"n",
        b"EXT": b"e-f", b"EXT2": b"f", b"EXT3": b"", b"EXT4": b"", b"HOST2": b"d", b"HOST3": b"d", b"HOST4": b"d",
    }  # fmt: skip


def test_default_is_there_only_for_a_default_file():
    assert _environment(default=b"")[b"DEFAULT"] == b""
