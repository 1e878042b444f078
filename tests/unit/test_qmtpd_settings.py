"""control/qmtpd_settings.py: which files count, and what holds without them."""

import pytest

from notqmail.control.qmtpd_settings import FILES, qmtpd_settings
from notqmail.control.smtpd_settings import RECIPIENTS_MAX


def test_without_files_any_host_may_be_named_and_any_size_may_come() -> None:
    asked: list[str] = []

    def read(name: str) -> None:
        asked.append(name)

    settings = qmtpd_settings(read)
    assert (settings.rcpthosts, settings.databytes, settings.recipients_max) == (None, 0, RECIPIENTS_MAX)
    assert settings.greeting == b""
    assert set(asked) <= set(FILES)


def test_an_empty_rcpthosts_names_no_host() -> None:
    assert qmtpd_settings({"rcpthosts": b""}.get).rcpthosts == frozenset()


def test_each_file_has_its_own_setting() -> None:
    files = {"rcpthosts": b"# ours\nHere.Test\n.sub.test\n", "databytes": b"1000\n", "maxrcpt": b"7\n"}
    settings = qmtpd_settings(files.get)
    assert settings.rcpthosts == frozenset({b"here.test", b".sub.test"})
    assert (settings.databytes, settings.recipients_max) == (1_000, 7)


@pytest.mark.parametrize(("text", "most"), [(b"0", 1), (b"1", 1), (b"2", 2), (b"x", RECIPIENTS_MAX)])
def test_one_recipient_is_always_allowed(text: bytes, most: int) -> None:
    assert qmtpd_settings({"maxrcpt": text}.get).recipients_max == most
