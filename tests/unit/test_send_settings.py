"""qmail-send's control files, together."""

import pytest

from notqmail.control.files import Missing
from notqmail.control.send_settings import SendSettings


def test_without_files_but_me_the_values_are_the_manual_s() -> None:
    settings = SendSettings({"me": b"h.test\n"}.get)
    assert (settings.lifetime_s, settings.concurrency_local, settings.concurrency_remote) == (604_800, 10, 20)
    assert (settings.concurrency_host, settings.concurrency_slow) == (20, 0)
    assert (settings.bounce_from, settings.bounce_host) == (b"MAILER-DAEMON", b"h.test")
    assert settings.double_bounce_recipient == b"postmaster@h.test"


def test_each_file_counts() -> None:
    files = {
        "me": b"h.test", "queuelifetime": b"60", "concurrencylocal": b"3", "concurrencyremote": b"4",
        "concurrencyhost": b"7", "concurrencyslow": b"9",
        "bouncefrom": b"mailer", "bouncehost": b"b.test", "doublebounceto": b"root", "doublebouncehost": b"d.test",
    }  # fmt: skip
    settings = SendSettings(files.get)
    assert (settings.lifetime_s, settings.concurrency_local, settings.concurrency_remote) == (60, 3, 4)
    assert (settings.concurrency_host, settings.concurrency_slow) == (7, 9)
    assert (settings.bounce_from, settings.bounce_host) == (b"mailer", b"b.test")
    assert settings.double_bounce_recipient == b"root@d.test"


def test_without_me_a_missing_host_is_its_file_s_name() -> None:
    settings = SendSettings({"locals": b"l.test"}.get)
    assert settings.bounce_host == b"bouncehost"
    assert settings.double_bounce_recipient == b"postmaster@doublebouncehost"


def test_without_me_and_locals_nothing_starts() -> None:
    with pytest.raises(Missing):
        SendSettings({}.get)
