"""admin/run_command.py: what `notqmail run` hands on to its programs, and so to programs in `.qmail` files."""

import pytest

from notqmail.admin.run_command import child_environment

HOME = b"/h"


@pytest.mark.parametrize("name", [b"TZ", b"DATABYTES", b"QMAILQUEUE", b"QMAILREMOTE"])
def test_this_variable_is_handed_on(name: bytes) -> None:
    assert child_environment(HOME, {name: b"x"})[name] == b"x"


@pytest.mark.parametrize("name", [b"USER", b"LOGNAME", b"PYTHONPATH", b"RELAYCLIENT", b"NOTQMAIL", b"qmailqueue"])
def test_this_variable_is_not(name: bytes) -> None:
    assert name not in child_environment(HOME, {name: b"x"})


def test_the_home_s_programs_come_first_whatever_the_caller_has() -> None:
    given = child_environment(HOME, {b"QMAILHOME": b"/another", b"PATH": b"/usr/bin"})
    assert given == {b"QMAILHOME": HOME, b"PATH": b"/h/bin:/usr/bin"}
