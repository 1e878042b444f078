"""Targets: what `notqmail adopt` reads of an installation that others have made."""

from fuzz_driver import target

from notqmail.admin.adopt_break import CANDIDATES, CannotTell, break_character
from notqmail.admin.adopt_control import remarks
from notqmail.admin.adopt_dotqmail import oddities
from notqmail.admin.adopt_known import LINE, LIST, MAP, NUMBER, OURS
from notqmail.admin.adopt_report import GROUPS, shown
from notqmail.admin.adopt_services import compiled_variables, memory_limits, rule_variables
from notqmail.admin.adopt_steps import BadNotes, decode_notes

_NAMES = sorted(name for name, form in OURS.items() if form in (LINE, LIST, MAP, NUMBER))


@target("adopt-control", b"\0", b"\r\n", b"|", b";", b":", b"\xef\xbb\xbf", b"9" * 30, b"hush-hush", b"# ")
def control_files(data: bytes) -> None:
    for name in _NAMES:
        for group, text in remarks(name, OURS[name], data):
            assert group in GROUPS
            assert text == shown(text), "only plain text, whatever is in the file"
            assert "hush-hush" not in text


@target(
    "adopt-scripts", b"softlimit -m ", b"ulimit -v ", b"LimitAS=", b"\\\n", b'1.:allow,A="b"', b"+QMAILQUEUE=", b"\0"
)
def scripts_and_rules(data: bytes) -> None:
    assert all(limit >= 0 for limit in memory_limits(data))
    for variables in (rule_variables(data), compiled_variables(data)):
        assert all(name == shown(name) for name in variables)
        assert all(value in data for values in variables.values() for value in values)


@target("adopt-dotqmail", b"|preline ", b"qreceipt", b"&", b"\0", b"\n", b"#", b"./Maildir/", b"hush-hush", b"+list\n")
def dotqmail_files(data: bytes) -> None:
    for text in oddities(data):
        assert text == shown(text)
        assert "hush-hush" not in text


@target("adopt-getpw", b"alias\0", b"501\0", b"-\0", b"xyzzy\0", b"-xyzzy\0", b"+")
def getpw_answers(data: bytes) -> None:
    try:
        assert break_character(lambda _: data, b"alias") in (b"", *CANDIDATES)
    except CannotTell as error:
        assert str(error) == shown(str(error))


@target("adopt-notes", b'{"programs": [', b'], "made": [', b"]}", b'"run"', b'"../x"', b'"queue/ledger"', b"[" * 40)
def notes(data: bytes) -> None:
    try:
        found = decode_notes(data)
    except BadNotes:
        return
    assert not any("/" in name or name in ("", ".", "..") for name in found.programs)
    assert set(found.made) <= {"run"} | {path for path in found.made if path.startswith("queue/ledger")}
    assert decode_notes(found.encode()).programs == found.programs
