"""policy/, control/smtpd_settings.py, receive/own_literal.py: what is allowed, and what the files say."""

from pathlib import Path

import pytest

from notqmail.control.files import Missing
from notqmail.control.smtpd_settings import RECIPIENTS_MAX, TIMEOUT_S, databytes_limit, smtpd_settings
from notqmail.policy.limits import ConnectionLimits
from notqmail.policy.relay import check_more_hosts, host_keys, may_receive, more_hosts
from notqmail.policy.senders import is_bad_sender
from notqmail.receive.own_literal import canonical_ip, without_own_literal
from notqmail.unix.cdb import Damaged, build_cdb

HOSTS = frozenset({b"mail.test", b".sub.test", b""})


@pytest.mark.parametrize(
    ("recipient", "allowed"),
    [
        (b"a@mail.test", True),
        (b"a@MAIL.Test", True),
        (b"a@x.mail.test", False),
        (b"a@sub.test", False),
        (b"a@x.sub.test", True),
        (b"a@x.y.sub.test", True),
        (b"a@.sub.test", True),
        (b"a@xsub.test", False),
        (b"nobody", True),
        (b"", True),
        (b"a@", False),
        (b"a@mail.test@other.test", False),
        (b"a@mail.test.", False),
        (b"a@more.test", True),
        (b"a@x.dot.more.test", True),
    ],
)
def test_rcpthosts_has_hosts_and_dotted_suffixes(recipient: bytes, allowed: bool) -> None:
    more = frozenset({b"more.test", b".dot.more.test"})
    assert may_receive(recipient, HOSTS, more.__contains__) is allowed


def test_without_rcpthosts_everything_is_accepted_and_nothing_asked() -> None:
    assert may_receive(b"a@anywhere.test", None, pytest.fail)


def test_host_keys_are_the_host_and_its_dotted_ends() -> None:
    assert list(host_keys(b"a.b.c")) == [b"a.b.c", b".b.c", b".c"]
    assert list(host_keys(b".b.")) == [b".b.", b"."]
    assert list(host_keys(b"")) == []


def test_more_hosts_are_looked_up_in_the_cdb(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    knows = more_hosts(bytes(tmp_path))
    assert not knows(b"mail.test")  # no file
    check_more_hosts(bytes(tmp_path))
    (tmp_path / "control/morercpthosts.cdb").write_bytes(build_cdb([(b"mail.test", b"")]))
    assert knows(b"mail.test") and not knows(b"other.test")
    (tmp_path / "control/morercpthosts.cdb").write_bytes(b"short")
    with pytest.raises(Damaged):
        knows(b"mail.test")


@pytest.mark.parametrize(
    ("sender", "bad"),
    [
        (b"Joe@X.test", True),
        (b"ann@x.test", False),
        (b"any@BAD.test", True),
        (b"any@sub.bad.test", False),
        (b"", False),
    ],
)
def test_badmailfrom_has_addresses_and_hosts(sender: bytes, bad: bool) -> None:
    assert is_bad_sender(sender, frozenset({b"joe@x.test", b"@bad.test"})) is bad


def test_connections_are_counted_in_all_and_for_each_address() -> None:
    limits = ConnectionLimits(3, 2)
    assert [limits.admit("a"), limits.admit("a"), limits.admit("a")] == [True, True, False]
    assert [limits.admit("b"), limits.admit("c")] == [True, False]
    limits.leave("a")
    assert [limits.admit("c"), limits.count] == [True, 3]


def test_settings_have_defaults() -> None:
    found = smtpd_settings({"me": b"me.test \nignored\n"}.get)
    assert (found.greeting, found.local_ip_host, found.rcpthosts) == (b"me.test", b"me.test", None)
    assert (found.timeout_s, found.databytes, found.recipients_max) == (TIMEOUT_S, 0, RECIPIENTS_MAX)
    assert found.badmailfrom == frozenset()
    assert (TIMEOUT_S, RECIPIENTS_MAX) == (1_200, 50_000)  # smtpd(8) says so


def test_settings_say_what_the_files_say() -> None:
    files = {
        "smtpgreeting": b"hello there\n", "localiphost": b"here.test", "rcpthosts": b"# no\nA.test  \n\n.b.test\n",
        "badmailfrom": b"X@y\n", "databytes": b"10 bytes", "timeoutsmtpd": b"0", "maxrcpt": b"0",
    }  # fmt: skip
    found = smtpd_settings(files.get)
    assert (found.greeting, found.local_ip_host) == (b"hello there", b"here.test")
    assert found.rcpthosts == frozenset({b"a.test", b".b.test"})
    assert found.badmailfrom == frozenset({b"x@y"})
    assert (found.databytes, found.timeout_s, found.recipients_max) == (10, 1, 1)


def test_an_empty_rcpthosts_is_not_a_missing_one() -> None:
    assert smtpd_settings({"me": b"m", "rcpthosts": b""}.get).rcpthosts == frozenset()


def test_without_greeting_there_is_no_service_but_localiphost_is_optional() -> None:
    with pytest.raises(Missing):
        smtpd_settings({"localiphost": b"x"}.get)
    assert smtpd_settings({"smtpgreeting": b"g"}.get).local_ip_host is None


def test_databytes_of_the_environment() -> None:
    settings = smtpd_settings({"me": b"m", "databytes": b"7"}.get)
    wants = [(None, 7), (b"", 0), (b"0", 0), (b"9", 9), (b"9x", 9), (b"-9", 0)]
    assert [databytes_limit(settings, value) for value, _ in wants] == [want for _, want in wants]


OWN = frozenset({b"192.0.2.1", b"2001:db8::1", b"0.0.0.0"})


@pytest.mark.parametrize(
    ("address", "want"),
    [
        (b"joe@[192.0.2.1]", b"joe@here.test"),
        (b"joe@[192.0.2.001]", b"joe@here.test"),
        (b"joe@[448.0.2.257]", b"joe@here.test"),  # modulo 256, as in C
        (b"joe@[0.0.0.0]", b"joe@here.test"),
        (b"@[192.0.2.1]", b"@here.test"),
        (b"joe@[192.0.2.2]", b"joe@[192.0.2.2]"),
        (b"joe@[192.0.2.1]x", b"joe@[192.0.2.1]x"),
        (b"joe@[192.0.2]", b"joe@[192.0.2]"),
        (b"joe@[192.0..1]", b"joe@[192.0..1]"),
        (b"joe@[192.0.2.1.5]", b"joe@[192.0.2.1.5]"),
        (b"joe@[IPv6:2001:DB8:0::1]", b"joe@here.test"),
        (b"joe@[IPv6:2001:db8::2]", b"joe@[IPv6:2001:db8::2]"),
        (b"joe@[IPv6:\xff]", b"joe@[IPv6:\xff]"),
        (b"joe@[IPv6:1\x002]", b"joe@[IPv6:1\x002]"),
        (b"joe@[]", b"joe@[]"),
        (b"joe@[", b"joe@["),
        (b"[192.0.2.1]", b"[192.0.2.1]"),
        (b"joe@[192.0.2.1]@x", b"joe@[192.0.2.1]@x"),
    ],
)
def test_own_address_in_brackets_becomes_localiphost(address: bytes, want: bytes) -> None:
    assert without_own_literal(address, b"here.test", lambda: OWN) == want


def test_a_number_without_end_costs_nothing() -> None:
    assert canonical_ip(b"1.2.3." + b"9" * 100_000) is not None
