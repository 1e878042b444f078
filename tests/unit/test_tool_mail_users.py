"""qmail-pw2u: which accounts get mail, under which names; and what qmail-newmrh and qmail-tcpto make of their files."""

import pytest

from notqmail.control.mail_users import Assignments, Rules, Unusable
from notqmail.deliver.tcpto import timeouts
from notqmail.programs.qmail_newmrh import hosts
from notqmail.programs.qmail_tcpto import listing

OWNERS = {b"/alias": 1002, b"/joe": 1001, b"/ann": 1003}
ALIAS = b"alias:x:1002:1002::/alias:/bin/sh"
JOE = b"joe:x:1001:1001:Joe,,,:/joe:/bin/sh"
ALIAS_LINES = [b"+:alias:1002:1002:/alias:-::", b"=alias:alias:1002:1002:/alias:::",
               b"+alias-:alias:1002:1002:/alias:-::"]  # fmt: skip
JOE_LINES = [b"=joe:joe:1001:1001:/joe:::", b"+joe-:joe:1001:1001:/joe:-::"]


def made(*passwd: bytes, files: dict[str, bytes] | None = None, sub_users: bytes = b"", **rules: bytes) -> list[bytes]:
    settings = Rules(**rules)
    settings.read((files or {}).get)
    assignments = Assignments(settings, OWNERS.get)
    lines = [*assignments.accounts(passwd), *assignments.sub_users(sub_users.split(b"\n"))]
    assert all(line.endswith(b"\n") for line in lines)
    return [line.removesuffix(b"\n") for line in lines]


def test_alias_gets_everything_else_and_each_account_its_names() -> None:
    assert made(ALIAS, JOE) == ALIAS_LINES + JOE_LINES


@pytest.mark.parametrize(
    "line",
    [
        b"", b"joe", b"joe:x:1001:1001:g:/joe", b"j\0e:x:1001:1001:g:/joe:s", b"joe:x:0:0:g:/joe:s",
        b"joe:x:x:1:g:/joe:s", b"joe:x::1:g:/joe:s", b"Joe:x:1001:1001:g:/joe:s", b"joe:x:1001:1001:g:/ann:s",
        b"joe:x:1001:1001:g:/none:s", b"joe:x:1001:1001:g::s",
    ],
)  # fmt: skip
def test_what_is_no_account_for_mail_is_passed_over(line: bytes) -> None:
    assert made(ALIAS, line) == ALIAS_LINES


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (b"joe:x:1001x:1y:g:/joe:s", [b"=joe:joe:1001x:1y:/joe:::", b"+joe-:joe:1001x:1y:/joe:-::"]),
        (b"joe:x:01001:1:g:/joe:s:more", [b"=joe:joe:01001:1:/joe:::", b"+joe-:joe:01001:1:/joe:-::"]),
        (b"joe:x:1001:1:g:/joe:", [b"=joe:joe:1001:1:/joe:::", b"+joe-:joe:1001:1:/joe:-::"]),
        (b":x:1001:1:g:/joe:s", []),
    ],
)
def test_odd_accounts_keep_their_fields(line: bytes, lines: list[bytes]) -> None:
    assert made(ALIAS, line) == ALIAS_LINES + lines


def test_capitals_only_when_asked_for() -> None:
    rules = Rules()
    rules.capitals = True
    assignments = Assignments(rules, OWNERS.get)
    assert b"=Joe:Joe:1001:1:/joe:::\n" in list(assignments.accounts([ALIAS, b"Joe:x:1001:1::/joe:s"]))


@pytest.mark.parametrize(
    ("homes", "home", "complaint"),
    [(b"o", b"/none", None), (b"h", b"/none", b"unable to stat /none"), (b"H", b"/none", None), (b"H", b"/ann", None),
     (b"h", b"/ann", None)],
)  # fmt: skip
def test_homes_that_are_missing_or_another_s(homes: bytes, home: bytes, complaint: bytes | None) -> None:
    line = b"joe:x:1001:1001::" + home + b":s"
    if complaint is not None:
        with pytest.raises(Unusable) as raised:
            made(ALIAS, line, homes=homes)
        assert raised.value.text == complaint
    else:
        taken = made(ALIAS, line, homes=homes) != ALIAS_LINES
        assert taken == (homes == b"H")


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({"include": b"joe\nalias\n"}, ALIAS_LINES + JOE_LINES),
        ({"include": b"# nobody else\nALIAS \n"}, ALIAS_LINES),
        ({"exclude": b"JOE\t\nann"}, ALIAS_LINES),
        ({"include": b"alias\njoe", "exclude": b"joe"}, ALIAS_LINES),
        ({"mailnames": b"JOE::a::b:\n"}, [*ALIAS_LINES, *[line.replace(b"joe", name, 1) for name in (b"a", b"b")
                                                         for line in JOE_LINES]]),
        ({"mailnames": b"joe:\n"}, ALIAS_LINES),
        ({"mailnames": b"joe\n"}, ALIAS_LINES + JOE_LINES),
        ({"mailnames": b"joe:x\njoe:joe\n"}, ALIAS_LINES + JOE_LINES),
        ({"mailnames": b"alias:alias\n"}, ALIAS_LINES + JOE_LINES),
    ],
)  # fmt: skip
def test_the_files_in_users_choose_accounts_and_names(files: dict[str, bytes], lines: list[bytes]) -> None:
    assert made(ALIAS, JOE, files=files) == lines


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        ({"dash": b"-/"}, [b"+:alias:1002:1002:/alias:-/::", b"=alias:alias:1002:1002:/alias:::",
                           b"+alias-:alias:1002:1002:/alias:-/::"]),
        ({"break_char": b"+"}, [*ALIAS_LINES[:2], b"+alias+:alias:1002:1002:/alias:-::"]),
        ({"break_char": b""}, ALIAS_LINES[:2]),
    ],
)  # fmt: skip
def test_dash_and_break(rules: dict[str, bytes], lines: list[bytes]) -> None:
    assert made(ALIAS, **rules) == lines


SUB = [b"=sub:joe:1001:1001:/joe:-:pre:", b"+sub-:joe:1001:1001:/joe:-:pre-:"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"sub:joe:pre:\n", SUB),
        (b"sub:JOE:pre:more\nx\ny:ann\n\nz:joe:w\n", SUB),
        (b":joe::", [b"=:joe:1001:1001:/joe:-::", b"+-:joe:1001:1001:/joe:-:-:"]),
    ],
)
def test_sub_users_are_addresses_of_another_account(text: bytes, lines: list[bytes]) -> None:
    assert made(ALIAS, JOE, sub_users=text) == ALIAS_LINES + JOE_LINES + lines


@pytest.mark.parametrize("text", [b"sub:ann:pre:\n", b"sub:ann:pre\n", b"sub:root:pre:"])
def test_a_sub_user_of_nobody_is_an_error(text: bytes) -> None:
    user = text.split(b":")[1]
    with pytest.raises(Unusable) as raised:
        made(ALIAS, JOE, sub_users=text)
    assert raised.value.text == b"unable to find " + user + b" user for subuser"


@pytest.mark.parametrize("passwd", [[], [JOE], [ALIAS.replace(b"alias", b"Alias", 1)]])
def test_without_alias_mail_would_have_no_place(passwd: list[bytes]) -> None:
    with pytest.raises(Unusable) as raised:
        made(*passwd)
    assert raised.value.text == b"unable to find alias user"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (b"", []),
        (b"A.B\n .c\n#x\n\n\t\n#\n d \t\nlast", [b"a.b", b" .c", b" d", b"last"]),
        (b"a\na\n", [b"a", b"a"]),
        (b" #x\na\r\nb\0c\n\xc9\n", [b" #x", b"a\r", b"b\0c", b"\xc9"]),
    ],
)
def test_hosts_of_morercpthosts(text: bytes, keys: list[bytes]) -> None:
    assert list(hosts(text)) == keys


def record(address: bytes, count: int, last_s: int) -> bytes:
    return address + bytes([count]) + b"\x55" * 3 + last_s.to_bytes(4, "little") + b"\x55" * 4


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (b"", b""),
        (bytes(1_024), b""),
        (record(b"\1\2\3\4", 1, 950) + record(b"\0\0\0\0", 0, 0) + record(b"\xff\0\x0a\x09", 10, 0),
         b"1.2.3.4 timed out 50 seconds ago; # recent timeouts: 1\n"
         b"255.0.10.9 timed out 1000 seconds ago; # recent timeouts: 10\n"),
        (record(b"\1\2\3\4", 127, 1_000) + record(b"\1\2\3\4", 128, 1_000),
         b"1.2.3.4 timed out 0 seconds ago; # recent timeouts: 127\n"),
        (record(b"\1\2\3\4", 1, 950)[:15], b""),
        (record(b"\1\2\3\4", 1, 5_000), b"1.2.3.4 timed out 0 seconds ago; # recent timeouts: 1\n"),
    ],
)  # fmt: skip
def test_time_outs_as_people_read_them(table: bytes, lines: bytes) -> None:
    assert listing(table, 1_000) == lines
    assert len(timeouts(table)) == lines.count(b"\n")
