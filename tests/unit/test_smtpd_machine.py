"""unix/tcprules.py, unix/own_addresses.py, receive/fresh.py, queue/spool.py, receive/listen_options.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from notqmail.control.files import Missing
from notqmail.control.smtpd_settings import FILES, smtpd_settings
from notqmail.queue.spool import SpooledMessage
from notqmail.receive.fresh import FreshRules, FreshSettings, is_settled, look
from notqmail.receive.listen_options import BadOptions, listen_options
from notqmail.unix.cdb import Damaged, build_cdb
from notqmail.unix.clock import Clock
from notqmail.unix.own_addresses import own_addresses
from notqmail.unix.tcprules import decode_rule, look_up, rule_keys
from notqmail.wire.qmqp import INLINE_MAX


class LaterClock(Clock):
    """The machine's clock, some seconds ahead, so that files written just now are old."""

    def __init__(self, ahead_s: int = 0) -> None:
        self.ahead_s = ahead_s

    def now_us(self) -> int:
        return super().now_us() + self.ahead_s * 1_000_000


def test_rules_are_asked_in_tcpservers_order() -> None:
    assert list(rule_keys(b"192.0.2.10", b"a.b.test", b"joe")) == [
        b"joe@192.0.2.10", b"joe@=a.b.test", b"192.0.2.10", b"=a.b.test", b"192.0.2.", b"192.0.", b"192.",
        b"=.b.test", b"=.test", b"=", b"",
    ]  # fmt: skip
    assert list(rule_keys(b"1.2.3.4")) == [b"1.2.3.4", b"1.2.3.", b"1.2.", b"1.", b""]
    assert list(rule_keys(b"2001:db8::1")) == [b"2001:db8::1", b"2001:db8::", b"2001:db8:", b"2001:", b""]


@pytest.mark.parametrize(
    ("data", "denied", "environment"),
    [
        (b"", False, {}),
        (b"D\0", True, {}),
        (b"+A=b\0+C=\0", False, {b"A": b"b", b"C": b""}),
        (b"+A=b=c\0D\0", True, {b"A": b"b=c"}),
        (b"+A\0X\0\0", False, {}),
        (b"+A=b", False, {}),
    ],
)
def test_a_rules_value_is_denial_and_variables(data: bytes, denied: bool, environment: dict[bytes, bytes]) -> None:
    verdict = decode_rule(data)
    assert (verdict.denied, verdict.environment) == (denied, environment)


@pytest.mark.debian("tcprules")
def test_a_file_made_by_tcprules_is_understood(tmp_path: Path) -> None:
    rules = b'127.0.0.:allow,RELAYCLIENT="",A=/b c/\n192.0.2.7-9:deny\n10.:deny\n:allow,QMAILQUEUE="bin/x"\n'
    subprocess.run(
        [shutil.which("tcprules") or "", tmp_path / "r.cdb", tmp_path / "r.tmp"], input=rules, check=True, timeout=20
    )
    path = bytes(tmp_path / "r.cdb")
    assert look_up(path, b"127.0.0.5").environment == {b"RELAYCLIENT": b"", b"A": b"b c"}
    assert [look_up(path, ip).denied for ip in (b"192.0.2.6", b"192.0.2.8", b"10.1.1.1")] == [False, True, True]
    assert look_up(path, b"8.8.8.8").environment == {b"QMAILQUEUE": b"bin/x"}


def test_own_addresses_are_those_of_the_interfaces() -> None:
    found = own_addresses()
    assert {b"127.0.0.1", b"0.0.0.0", b"::"} <= found
    if shutil.which("ip"):
        shown = subprocess.run(["ip", "-o", "addr"], capture_output=True, timeout=20, check=True).stdout.split(b"\n")
        assert {line.split()[3].partition(b"/")[0] for line in shown if line} <= found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("a.test\n")
    return tmp_path


def test_settings_are_read_again_only_when_a_file_changed(home: Path) -> None:
    fresh = FreshSettings(bytes(home), LaterClock(5), FILES, smtpd_settings)
    first = fresh.current()
    assert fresh.current() is first
    (home / "control/rcpthosts").write_text("x\n")
    second = fresh.current()
    assert second is not first and second.rcpthosts == frozenset({b"x"})
    (home / "control/rcpthosts").unlink()
    assert fresh.current().rcpthosts is None


def test_settings_know_when_a_link_that_led_nowhere_leads_somewhere(home: Path) -> None:
    elsewhere = home / "elsewhere"
    (home / "control/rcpthosts").symlink_to(elsewhere)
    fresh = FreshSettings(bytes(home), LaterClock(5), FILES, smtpd_settings)
    assert fresh.current().rcpthosts is None
    elsewhere.write_text("x\n")
    assert fresh.current().rcpthosts == frozenset({b"x"})


def test_settings_of_a_file_that_changed_just_now_are_not_remembered(home: Path) -> None:
    """Two changes within one tick of the file system's clock look like one."""
    fresh = FreshSettings(bytes(home), LaterClock(), FILES, smtpd_settings)
    before = os.stat(home / "control/me")
    assert fresh.current().greeting == b"a.test"
    with open(home / "control/me", "r+b") as file:
        file.write(b"b")
    os.utime(home / "control/me", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fresh.current().greeting == b"b.test"


def test_settings_that_cannot_be_read_are_no_settings_and_come_back(home: Path) -> None:
    fresh = FreshSettings(bytes(home), LaterClock(5), FILES, smtpd_settings)
    good = fresh.current()
    (home / "control/me").rename(home / "control/me.away")
    for _ in range(2):
        with pytest.raises(Missing):
            fresh.current()
    (home / "control/me.away").rename(home / "control/me")
    assert fresh.current().greeting == good.greeting


def test_a_look_tells_a_missing_file_from_one_that_may_not_be_seen(tmp_path: Path) -> None:
    assert look([bytes(tmp_path / "none")]) == [None]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        look([bytes(tmp_path / "file/below")])
    assert is_settled([None], 2_000_000)


def test_rules_are_remembered_until_they_change(tmp_path: Path) -> None:
    path, clock = tmp_path / "rules.cdb", LaterClock(5)
    path.write_bytes(build_cdb([(b"10.", b"D\0")]))
    rules = FreshRules(bytes(path), clock)
    verdict = rules.look_up(b"10.0.0.1")
    assert verdict.denied and rules.look_up(b"10.0.0.1") is verdict
    (tmp_path / "new").write_bytes(build_cdb([(b"10.", b"+A=b\0")]))
    (tmp_path / "new").rename(path)
    assert rules.look_up(b"10.0.0.1").environment == {b"A": b"b"}
    path.write_bytes(b"x")
    with pytest.raises(Damaged):
        rules.look_up(b"10.0.0.1")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        rules.look_up(b"10.0.0.1")


def test_a_small_message_stays_in_memory() -> None:
    message = SpooledMessage()
    message.write(b"a")
    message.write(b"b" * (INLINE_MAX - 1))
    assert message.in_memory() == b"a" + b"b" * (INLINE_MAX - 1)
    assert b"".join(message.chunks()) == message.in_memory()
    message.close()


def test_a_large_message_goes_to_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"TMPDIR", bytes(tmp_path))
    message = SpooledMessage()
    for _ in range(300):
        message.write(b"x" * 1000)
    assert message.in_memory() is None
    assert (message.length, b"".join(message.chunks())) == (300_000, b"x" * 300_000)
    assert os.pread(message.descriptor, 5, 0) == b"xxxxx"
    assert list(tmp_path.iterdir()) == []
    descriptor = message.descriptor
    message.close()
    message.close()
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_a_disk_that_fails_makes_the_message_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise OSError(28, "no space")

    monkeypatch.setattr("notqmail.queue.spool.unnamed_file", full)
    message = SpooledMessage()
    message.write(b"x" * (INLINE_MAX + 1))
    message.write(b"more")
    assert message.failed
    message.close()


def test_options_are_read() -> None:
    options = listen_options(
        ["--listen", "127.0.0.1:25", "--listen=[::1]:2525", "--rules", "r.cdb", "--limit=5", "--limit-per-address", "2",
         "--backlog", "9", "--user", "joe"]
    )  # fmt: skip
    assert options.addresses == [("127.0.0.1", 25), ("::1", 2525)]
    assert (options.rules, options.limit, options.limit_per_address) == (b"r.cdb", 5, 2)
    assert (options.backlog, options.user) == (9, "joe")


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--listen"], ["--listen", "25"], ["--listen", ":25"], ["--listen", "a:x"], ["--listen", "a:65536"],
        ["--listen", "a:"], ["--listen", "a:1", "--limit", "0"], ["--listen", "a:1", "--limit", "x"],
        ["--listen", "a:1", "--what", "x"], ["--listen", "a:1", "rest"], ["--listen", "a:1", "--user="],
        ["--listen", "a:1", "--rules="], ["--listen", "a:1", "--backlog", "-1"], ["--listen", "a:\u0661"],
    ],
)  # fmt: skip
def test_bad_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(BadOptions):
        listen_options(arguments)
