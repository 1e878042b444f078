"""The whole system as root with qmail's accounts: who runs as whom, what each may touch, and that it delivers."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from classic_house import HOST, ROLES, System, made_system, roles, until

pytestmark = pytest.mark.root


@pytest.fixture
def new_system() -> Iterator[System]:
    with made_system() as made:
        yield made


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One running system for all tests that only add mail to it."""
    with made_system() as made:
        made.start()
        yield made


def hold_their_roles(system: System) -> None:
    """One process for each role, as its account; what only begins or ends at the moment is waited for."""
    wanted = {name: [role] for name, role in ROLES.items()}
    until(lambda: roles(system) == wanted, lambda: str(roles(system)))


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""  # delivered meanwhile


def test_every_process_is_the_account_that_qmail_gives_it(system: System) -> None:
    hold_their_roles(system)


def test_no_file_of_the_home_is_setuid_or_setgid(system: System) -> None:
    special = {
        str(path.relative_to(system.home)): stat.S_IMODE(path.stat().st_mode)
        for path in system.home.rglob("*")
        if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    }
    assert special == {"alias": 0o2755}


def test_mail_from_the_network_is_the_users_in_the_users_maildir(system: System) -> None:
    system.send("someone@elsewhere.test", f"alice@{HOST}", "Subject: one\r\n\r\nfrom the network\r\n")
    text, status = system.mail("alice", "from the network")
    assert (status.st_uid, status.st_gid) == (system.machine.uid["alice"], system.machine.gid["alice"])
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert text.startswith(f"Return-Path: <someone@elsewhere.test>\nDelivered-To: alice@{HOST}\nReceived: (qmail ")
    assert "invoked from network" in text
    assert f"uid {system.machine.uid['qmaild']}\n" in system.log()


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "by descriptor"])
def test_a_users_own_mail_carries_the_uid_that_the_kernel_knows(system: System, size: int) -> None:
    body = "".join(f"line {number}\n" for number in range(size // 10))
    system.inject("bob", f"To: alice@{HOST}\nSubject: {size} from bob\n\n{body}")
    text, status = system.mail("alice", f"Subject: {size} from bob")
    uid = system.machine.uid["bob"]
    assert status.st_uid == system.machine.uid["alice"]
    assert f" invoked by uid {uid}); " in text
    assert text.endswith(f"\n\n{body}")
    assert f"from <bob@{HOST}> qp " in system.log()
    assert f" uid {uid}\n" in system.log()


def test_mail_for_postmaster_goes_where_alias_says(system: System) -> None:
    system.write(system.home / "alias" / ".qmail-postmaster", f"&bob@{HOST}\n", "alias")
    system.send("", f"postmaster@{HOST}", "Subject: pm\r\n\r\nfor the postmaster\r\n")
    text, status = system.mail("bob", "for the postmaster")
    assert status.st_uid == system.machine.uid["bob"]
    assert "invoked by alias" in text
    assert "invoked from network" in text


def test_a_bounce_reaches_its_sender(system: System) -> None:
    system.inject("bob", f"To: nobody-here@{HOST}\nSubject: lost\n\nlost words\n")
    text, status = system.mail("bob", "lost words")
    assert status.st_uid == system.machine.uid["bob"]
    assert text.startswith("Return-Path: <>\n")
    assert "invoked for bounce" in text
    assert f"<nobody-here@{HOST}>:\nSorry, no mailbox here by that name. (#5.1.1)\n" in text


def test_a_program_in_dot_qmail_is_its_user_and_gets_at_nothing_else(system: System) -> None:
    system.inject("alice", f"To: bob@{HOST}\nSubject: secret\n\nfor bob alone\n")
    system.mail("bob", "for bob alone")
    alice = system.person("alice")
    system.write(system.home / "control" / "secret", "x\n", "root", 0o600)
    system.write(alice / "own", "x\n", "alice", 0o600)
    tried = [
        str(alice / "own"), f"{system.home}/control/me", f"{system.home}/control/secret",
        f"{system.person('bob')}/Maildir/new/*", f"{system.home}/queue/mess/*/*", f"{system.home}/queue/lock/tcpto",
        f"{system.home}/run/qmail-queue.lock",
    ]  # fmt: skip
    script = [
        "exec >spied 2>/dev/null",
        'for f in /proc/$$/fd/*; do [ -L "$f" ] && echo "fd ${f##*/}"; done',
        "echo $(id -u) $(id -g) $(id -G)",
        *[f"cat {name} >/dev/null && echo {name.replace('*', '.')}" for name in tried],
        f"echo x > {system.home}/queue/lock/trigger && echo trigger",
        "echo end",
    ]
    system.write(alice / ".qmail-spy", f"|{'; '.join(script)}\n", "alice")
    system.send("someone@elsewhere.test", f"alice-spy@{HOST}")
    spied = alice / "spied"
    until(lambda: spied.exists() and spied.read_text().endswith("end\n"), system.log)
    ids = [system.machine.uid["alice"], system.machine.gid["alice"], system.machine.gid["alice"]]
    assert spied.stat().st_uid == ids[0]
    assert spied.read_text().splitlines() == [
        "fd 0", "fd 1", "fd 2", " ".join(map(str, ids)), tried[0], tried[1], "end",
    ]  # fmt: skip


def test_root_never_receives_mail_itself(system: System) -> None:
    system.write(system.home / "users" / "assign", f"=toor:root:0:0:{system.base}:::\n.\n", "root")
    done = system.run([f"{system.home}/bin/qmail-newu"])
    assert (done.returncode, done.stderr) == (0, b"")
    system.send("someone@elsewhere.test", f"toor@{HOST}", "Subject: x\r\n\r\nfor root itself\r\n")
    until(lambda: ": deferral: Not_allowed_to_perform_deliveries_as_root./\n" in system.log(), system.log)
    waiting = [path for path in (system.home / "queue" / "mess").glob("*/*") if "for root" in text_of(path)]
    assert len(waiting) == 1
    owners = {
        kind: system.machine.user_name[path.stat().st_uid]
        for kind in ("mess", "info", "local")
        for path in [system.home / "queue" / kind / waiting[0].relative_to(system.home / "queue" / "mess")]
    }
    assert owners == {"mess": "qmailq", "info": "qmails", "local": "qmails"}


def test_without_a_service_for_it_qmail_start_starts_the_writer_and_term_ends_everything(new_system: System) -> None:
    system = new_system
    system.start(own_writer=False)
    hold_their_roles(system)
    system.send("someone@elsewhere.test", f"alice@{HOST}", "Subject: x\r\n\r\nhello\r\n")
    assert "invoked from network" in system.mail("alice", "hello")[0]
    until(lambda: "end msg" in system.log(), system.log)
    assert system.stop() == [0, 0]
    assert system.log_path.read_text().endswith("\nstatus: exiting\n")
    assert not list((system.home / "queue" / "mess").glob("*/*"))
    ledger = system.notqmail("ledger", str(system.home))
    assert "\ndelivered            1\n" in ledger
    assert ledger.endswith("The ledger balances.\n")
    done = system.run([f"{system.home}/bin/qmail-inject"], "alice", f"To: bob@{HOST}\n\nx\n".encode())
    assert done.returncode == 111, "without a writer mail must wait with its sender"
    assert b"qmail-inject: fatal: " in done.stderr
