"""qmail-lspawn and its workers as processes: the classic pipes, and what arrives in mailboxes."""

import os
import pwd
import signal
import subprocess
import sys
import textwrap

import pytest
from queue_home import until

from notqmail.control.assign import records
from notqmail.unix.cdb import build_cdb
from notqmail.wire.reports import decode_report
from notqmail.wire.spawn_link import SPAWN_SLOTS, Delivery, ReportReader
from notqmail.wire.wide_link import ASKING_SLOT, WideReportReader, encode_command, terms_from

LOGIN = pwd.getpwuid(os.geteuid()).pw_name.encode()
MESSAGE = b"Subject: x\n\nbody\n"
DONE = b"Kdid 1+0+0\n"


class Spawner:
    """A home in single-user mode, and a qmail-lspawn for it (or the `program` of a test)."""

    def __init__(self, home, default="./Maildir/", environ=None, program=None):
        self.home = home
        home.chmod(0o755)
        for part in ("queue/mess/0", "users", "alias", "bin", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            (home / part).mkdir(parents=True, exist_ok=True)
        self._environ = {**os.environ, "QMAILHOME": str(home), **(environ or {})}
        self._command = program or [sys.executable, "-m", "notqmail.programs.qmail_lspawn", default]
        self._reader = ReportReader()
        self._reports = {}

    def __enter__(self):
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environ, bufsize=0
        )
        assert self.process.stdout.read(1) == bytes([SPAWN_SLOTS])
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.stdout.close()

    def message(self, number, content=MESSAGE):
        (self.home / "queue" / "mess" / "0" / str(number)).write_bytes(content)

    def command(self, *deliveries):
        self.process.stdin.write(b"".join(delivery.encode() for delivery in deliveries))

    def give(self, slot, recipient, number=1, sender=b"s@x"):
        self.command(Delivery(slot, b"0/%d" % number, sender, recipient))

    def report(self, slot):
        """The next report of a slot, letter and text; others are kept."""
        while not self._reports.get(slot):
            data = self.process.stdout.read(65_536)
            assert data, "qmail-lspawn went away"
            for found, report in self._reader.receive(data):
                self._reports.setdefault(found, []).append(report.encode())
        return self._reports[slot].pop(0)

    def ask(self, recipient, **more):
        self.give(7, recipient, **more)
        return self.report(7)

    def new(self):
        return sorted(path.read_bytes() for path in (self.home / "Maildir" / "new").iterdir())

    def descriptors(self):
        """How many are open: of qmail-lspawn and of each worker."""
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in [self.process.pid, *self.workers()]]

    def workers(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]

    def comes_to(self, count):
        """Until it has so many children: who has ended is buried a little later."""
        until(lambda: len(self.workers()) == count, self.workers)


@pytest.fixture
def spawner(short_path):
    with Spawner(short_path) as running:
        running.message(1)
        yield running


def test_without_a_default_delivery_it_does_not_start():
    program = [sys.executable, "-m", "notqmail.programs.qmail_lspawn"]
    done = subprocess.run(program, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (100, b"")


def test_two_hundred_messages_reach_the_maildir_and_no_descriptor_is_lost(spawner):
    for number in range(200):
        spawner.message(number, b"Subject: %d\n\nbody\n" % number)
    assert spawner.ask(LOGIN + b"@h", number=0) == DONE
    before = spawner.descriptors()
    waiting = []
    for number in range(1, 200):
        if len(waiting) == 100:
            assert spawner.report(waiting.pop(0)) == DONE
        slot = number % SPAWN_SLOTS
        spawner.give(slot, LOGIN + b"@h", number=number)
        waiting.append(slot)
    assert [spawner.report(slot) for slot in waiting] == [DONE] * 100
    top = b"Return-Path: <s@x>\nDelivered-To: %b@h\n" % LOGIN
    assert spawner.new() == sorted(top + b"Subject: %d\n\nbody\n" % number for number in range(200))
    assert list((spawner.home / "Maildir" / "tmp").iterdir()) == []
    until(lambda: spawner.descriptors() == before, lambda: (before, spawner.descriptors()))


def test_a_qmail_send_of_ours_may_have_a_thousand_deliveries_at_once(spawner):
    spawner.command(Delivery(ASKING_SLOT, b"wide", b"", b""))
    terms = terms_from(decode_report(spawner.report(ASKING_SLOT)))
    assert (terms.slots, terms.recipients) == (1_000, 1)
    spawner._reader = WideReportReader()
    slots = range(0, 1_000, 3)
    for slot in slots:
        spawner.process.stdin.write(encode_command(Delivery(slot, b"0/1", b"s@x", LOGIN + b"@h")))
    assert [spawner.report(slot) for slot in slots] == [DONE] * len(slots)
    assert len(spawner.new()) == len(slots)
    spawner.process.stdin.write(encode_command(Delivery(1_000, b"0/1", b"s@x", LOGIN + b"@h")))
    assert spawner.report(1_000) == b"ZInternal error: delnum too big. (#4.3.5)\n"


REFUSED = [
    (Delivery(3, b"0/99", b"", b"a@h"), b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
    (Delivery(3, b"../x", b"", b"a@h"), b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
    (Delivery(3, b"0/1", b"", b"nohost"), b"DSorry, address must include host name. (#5.1.3)\n"),
    (Delivery(120, b"0/1", b"", b"a@h"), b"ZInternal error: delnum too big. (#4.3.5)\n"),
    (Delivery(3, b"0/1", b"", b"@h"), b"K"),  # to nobody: discarded
    (Delivery(3, b"0/1", b"x" * 20_000, b"a@h"), b"Zqmail-spawn out of memory. (#4.3.0)\n"),
    (Delivery(3, b"0/1", b"", b"nobody-here@h"), b"DSorry, no mailbox here by that name. (#5.1.1)\n"),
    (Delivery(3, b"0/1", b"", LOGIN + b"-none@h"), b"DSorry, no mailbox here by that name. (#5.1.1)\n"),
]


@pytest.mark.parametrize(("delivery", "report"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_delivered_is_answered_and_costs_no_descriptor(spawner, delivery, report):
    assert spawner.ask(LOGIN + b"@h") == DONE
    before = spawner.descriptors()
    for _ in range(3):
        spawner.command(delivery)
        assert spawner.report(delivery.slot) == report
    until(lambda: spawner.descriptors() == before, lambda: (before, spawner.descriptors()))


def test_extensions_and_aliases_find_their_files(spawner):
    (spawner.home / ".qmail-list-default").write_text('|echo "$LOCAL $DEFAULT $SENDER $USER"\n')
    (spawner.home / "alias" / ".qmail-postmaster").write_text("|echo alias $EXT; pwd -P\n")
    login = LOGIN.decode()
    assert spawner.ask(LOGIN + b"-List-A@h").decode() == f"K{login}-List-A A s@x {login}\ndid 0+0+1\n"
    home = os.path.realpath(spawner.home / "alias")
    assert spawner.ask(b"Postmaster@h").decode() == f"Kalias Postmaster\n{home}\ndid 0+0+1\n"


def test_users_cdb_comes_first_and_a_new_one_counts_at_once(spawner):
    for name in ("one", "two"):
        (spawner.home / name).mkdir(mode=0o755)
        (spawner.home / name / ".qmail-x").write_text(f"|echo {name}\n")
        line = b"+%b-:u:1:1:%b:-::\n.\n" % (LOGIN, os.fsencode(spawner.home / name))
        (spawner.home / "users" / "cdb.tmp").write_bytes(build_cdb(records(line)))
        (spawner.home / "users" / "cdb.tmp").rename(spawner.home / "users" / "cdb")
        assert spawner.ask(LOGIN + b"-x@h") == b"K%b\ndid 0+0+1\n" % name.encode()
    (spawner.home / "users" / "cdb").write_bytes(b"damaged")
    assert spawner.ask(LOGIN + b"-x@h") == b"ZTrouble reading users/cdb in qmail-lspawn.\n"


EXITS = [  # a site's own qmail-local: exit code, letter
    (0, b"K"), (100, b"D"), (111, b"Z"), (71, b"Z"), (74, b"Z"), (75, b"Z"), (1, b"D"), (99, b"D"), (255, b"D"),
]  # fmt: skip


def test_a_site_s_own_qmail_local_is_run_with_the_classic_arguments(spawner):
    program = spawner.home / "bin" / "qmail-local"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"; pwd -P; cat; exit $(cat code)\n')
    program.chmod(0o755)
    for code, letter in EXITS:
        (spawner.home / "code").write_text(str(code))
        lines = spawner.ask(LOGIN + b"-E.x@h").decode().splitlines()
        home = os.path.realpath(spawner.home)
        assert lines[0][:1].encode() == letter
        login = LOGIN.decode()
        assert lines[1:] == [
            "--", login, str(spawner.home), f"{login}-E.x", "-", "E.x", "h", "s@x", "./Maildir/", home,
            "Subject: x", "", "body",
        ]  # fmt: skip
    program.write_text("#!/bin/sh\nexit 111\n" + "#" * 600 + "notqmail-python launcher\n")  # too far down to count
    assert spawner.ask(LOGIN + b"@h") == b"Z"
    program.write_text("#!/bin/sh\n# notqmail-python launcher\nexit 111\n")
    assert spawner.ask(LOGIN + b"@h") == DONE  # ours: done in the worker


def test_qmaillocal_is_run_in_its_place_and_one_that_is_missing_defers(short_path):
    wrapper = short_path / "wrapper"
    wrapper.write_text("#!/bin/sh\necho wrapped; printf 'cut\\0here'\n")
    wrapper.chmod(0o755)
    with Spawner(short_path, environ={"QMAILLOCAL": str(wrapper)}) as spawner:
        spawner.message(1)
        assert spawner.ask(LOGIN + b"@h") == b"Kwrapped\ncut"
        wrapper.unlink()
        assert spawner.ask(LOGIN + b"@h") == b"ZUnable to run qmail-local.\n"


@pytest.mark.parametrize(
    ("line", "report"),
    [
        ("|echo no; exit 100", b"Dno\n"),
        ("|echo later; exit 1", b"Zlater\n"),
        ("|kill -9 $$", b"ZAack, child crashed. (#4.3.0)\n"),
        ("|kill -9 $PPID", b"Zqmail-local crashed.\n"),
        ("./Mailbox\n./Maildir/\n|true", b"Kdid 2+0+1\n"),
        ("# nobody", b"Kdid 0+0+0\n"),
        ("./missing/", b"ZUnable to chdir to maildir. (#4.2.1)\n"),
        ("\n", b"ZUh-oh: first line of .qmail file is blank. (#4.2.1)\n"),
        ("|printf 'cut\\0here'", b"Kcut"),
        ("|exec >&- 2>&-; exit 0", b"Kdid 0+0+1\n"),
    ],
)
def test_what_a_line_comes_to_is_reported(spawner, line, report):
    (spawner.home / ".qmail").write_text(line + "\n")
    assert spawner.ask(LOGIN + b"@h") == report
    before = spawner.descriptors()
    assert spawner.ask(LOGIN + b"@h") == report
    until(lambda: spawner.descriptors() == before, lambda: (before, spawner.descriptors()))


def test_long_output_is_cut_with_a_note(spawner):
    (spawner.home / ".qmail").write_text("|head -c 200000 /dev/zero | tr '\\0' x; exit 100\n")
    report = spawner.ask(LOGIN + b"@h")
    assert len(report) < 3_000 and report.startswith(b"Dxxx")
    assert report.endswith(b"\nError report too long, sorry.\n")


def test_forwards_go_to_the_queue_program(short_path):
    queue = short_path / "queue-program"
    queue.write_text('#!/bin/sh\ncat >"$QMAILHOME/m"\ncat <&1 >"$QMAILHOME/e"\n')
    queue.chmod(0o755)
    with Spawner(short_path, environ={"QMAILQUEUE": str(queue)}) as spawner:
        spawner.message(1)
        (short_path / ".qmail").write_text("&a@x\nb@y\n")
        assert spawner.ask(LOGIN + b"@h").startswith(b"Kdid 0+2+0\nqp ")
        assert (short_path / "e").read_bytes() == b"Fs@x\0Ta@x\0Tb@y\0\0"
        assert (short_path / "m").read_bytes() == b"Delivered-To: %b@h\n" % LOGIN + MESSAGE


def test_a_slow_program_holds_up_nobody_and_its_slot_stays_busy(spawner):
    os.mkfifo(spawner.home / "gate")
    (spawner.home / ".qmail-slow").write_text("|cat gate\n")
    spawner.give(0, LOGIN + b"-slow@h")
    assert spawner.ask(LOGIN + b"@h") == DONE
    spawner.give(0, LOGIN + b"@h")
    assert spawner.report(0) == b"ZInternal error: delnum in use. (#4.3.5)\n"
    (spawner.home / "gate").write_text("opened\n")
    assert spawner.report(0) == b"Kopened\ndid 0+0+1\n"


def test_a_large_message_arrives_whole(spawner):
    large = b"Subject: x\n\n" + b"y" * 79 * 10_000 + b"\n"
    spawner.message(2, large)
    assert spawner.ask(LOGIN + b"@h", number=2) == DONE
    assert spawner.new()[0].endswith(b"@h\n" + large)


def test_a_killed_worker_costs_its_open_jobs_only(spawner):
    os.mkfifo(spawner.home / "gate")
    (spawner.home / ".qmail-slow").write_text("|cat gate\n")
    assert spawner.ask(LOGIN + b"@h") == DONE
    [worker] = spawner.workers()
    spawner.give(0, LOGIN + b"-slow@h")
    with (spawner.home / "gate").open("wb"):  # opening it waits until the program runs
        os.kill(worker, signal.SIGKILL)
        assert spawner.report(0) == b"Zqmail-local crashed.\n"
    assert spawner.ask(LOGIN + b"@h") == DONE
    assert set(spawner.workers()) - {worker}


def test_it_finishes_what_it_began_when_commands_end(spawner):
    os.mkfifo(spawner.home / "gate")
    (spawner.home / ".qmail-slow").write_text("|cat gate\n")
    spawner.give(0, LOGIN + b"-slow@h")
    spawner.process.stdin.close()
    (spawner.home / "gate").write_text("opened\n")
    assert spawner.report(0) == b"Kopened\ndid 0+0+1\n"


def test_commands_cut_anywhere_are_understood(spawner):
    whole = Delivery(0, b"0/1", b"s@x", LOGIN + b"@h").encode()
    for cut in range(1, len(whole)):
        spawner.process.stdin.write(whole[:cut])
        spawner.process.stdin.write(whole[cut:])
        assert spawner.report(0) == DONE


CLASSIC = """
    import os
    from notqmail.deliver.lspawn import LocalSpawner
    from notqmail.deliver.lspawn_children import Settings
    from notqmail.unix.accounts import Accounts
    from notqmail.unix.clock import Clock
    home = os.environb[b"QMAILHOME"]
    accounts = Accounts(False, {"queue": 2, "password": 65534}, {"nofiles": 65534})
    LocalSpawner(Settings(home, b"./Maildir/", accounts, os.environb), Clock()).run()
"""  # what qmail-lspawn does where the classic accounts exist; the queue is uid 2's here


@pytest.mark.root
def test_as_root_each_uid_has_its_own_worker_without_any_other_right(short_path):
    program = [sys.executable, "-c", textwrap.dedent(CLASSIC)]
    lines = b""
    for name in ("daemon", "nobody"):
        account = pwd.getpwnam(name)
        home = short_path / name
        for part in ("Maildir/tmp", "Maildir/new", "Maildir/cur"):
            (home / part).mkdir(parents=True)
        (home / ".qmail-who").write_text("|id -u; id -g; id -G; umask\n")
        (home / ".qmail-box").write_text("./Mailbox\n")
        (home / ".qmail-other").write_text(f"{short_path}/daemon/Maildir/\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        arguments = (name.encode(), name.encode(), account.pw_uid, account.pw_gid, os.fsencode(home))
        lines += b"=%b:%b:%d:%d:%b:::\n" % arguments + b"+%b-:%b:%d:%d:%b:-::\n" % arguments
    lines += b"=toor:root:0:0:/root:::\n=minus:x:4294967295:1:/:::\n.\n"
    with Spawner(short_path, program=program) as spawner:
        (short_path / "users" / "cdb").write_bytes(build_cdb(records(lines)))
        spawner.message(1)
        spawner.message(3)
        os.chown(short_path / "queue/mess/0/1", 2, 2)
        (short_path / "queue/mess/0/1").chmod(0o600)
        for name in ("daemon", "nobody"):
            account = pwd.getpwnam(name)
            assert spawner.ask(name.encode() + b"@h") == DONE
            [path] = (short_path / name / "Maildir" / "new").iterdir()
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (account.pw_uid, 0o600)
            who = f"K{account.pw_uid}\n{account.pw_gid}\n{account.pw_gid}\n0077\ndid 0+0+1\n"
            assert spawner.ask(name.encode() + b"-who@h").decode() == who
            assert spawner.ask(name.encode() + b"-box@h") == DONE
        spawner.comes_to(2)
        assert spawner.ask(b"daemon-other@h") == DONE
        assert spawner.ask(b"nobody-other@h") == b"ZTemporary error on maildir delivery. (#4.3.0)\n"
        assert spawner.ask(b"toor@h") == b"ZNot allowed to perform deliveries as root.\n"
        assert spawner.ask(b"minus@h") == b"ZInternal qmail-lspawn bug.\n"
        assert spawner.ask(b"daemon@h", number=3) == b"ZSorry, message has wrong owner. (#4.3.5)\n"
        for pid in spawner.workers():
            with open(f"/proc/{pid}/status") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            assert len(set(status["Uid"].split())) == len(set(status["Gid"].split())) == 1
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


@pytest.mark.root
def test_as_root_the_password_file_is_asked_in_a_child_and_a_site_s_own_getpw_is_run(short_path):
    program = [sys.executable, "-c", textwrap.dedent(CLASSIC)]
    with Spawner(short_path, program=program) as spawner:
        spawner.message(1)
        os.chown(short_path / "queue/mess/0/1", 2, 2)
        for _ in range(2):
            try:
                pwd.getpwnam("alias")
            except KeyError:
                assert spawner.ask(b"no-such-user@h") == b"ZUnable to find alias user!\n"
        getpw = short_path / "bin" / "qmail-getpw"
        getpw.write_text(
            '#!/bin/sh\necho "$1 $(id -u)" >&2\nprintf "nobody\\00065534\\00065534\\000/nonexistent\\000-\\000x\\000"\n'
        )
        getpw.chmod(0o755)
        expected = b"ZUnable to switch to /nonexistent: file does not exist. (#4.3.0)\n"
        slots = range(20)
        for slot in slots:
            spawner.give(slot, b"somebody@h")
        assert [spawner.report(slot) for slot in slots] == [expected] * 20
        getpw.write_text("#!/bin/sh\nexit 111\n")
        assert spawner.ask(b"another@h") == b"Z"
        spawner.comes_to(1)  # the lookups' children are waited for


SHORT_IDLE = """
    import sys
    from notqmail.deliver import crew
    crew.WORKER_IDLE_S = 0.0
    crew.LOOK_ROUND_S = 0.01
    from notqmail.deliver import lspawn
    from notqmail.programs import qmail_lspawn
    sys.argv = ["qmail-lspawn", "./Maildir/"]
    qmail_lspawn.start()
"""


def test_an_idle_worker_is_let_go_and_the_next_delivery_gets_another(short_path):
    with Spawner(short_path, program=[sys.executable, "-c", textwrap.dedent(SHORT_IDLE)]) as spawner:
        spawner.message(1)
        for _ in range(2):
            assert spawner.ask(LOGIN + b"@h") == DONE
            spawner.comes_to(0)
        assert len(spawner.new()) == 2


@pytest.mark.root
def test_when_there_are_too_many_workers_the_one_idle_longest_is_let_go(short_path):
    few = "    from notqmail.deliver import crew\n    crew.WORKERS_MAX, crew.LOOK_ROUND_S = 2, 0.01\n"
    with Spawner(short_path, program=[sys.executable, "-c", textwrap.dedent(few + CLASSIC[1:])]) as spawner:
        spawner.message(1)
        os.chown(short_path / "queue/mess/0/1", 2, 2)
        people = [b"=u%d:u:%d:%d:/:-:x:\n" % (uid, uid, uid) for uid in range(50_001, 50_006)]
        (short_path / "users" / "cdb").write_bytes(build_cdb(records(b"".join(people) + b".\n")))
        for uid in range(50_001, 50_006):
            assert spawner.ask(b"u%d@h" % uid) == b"DSorry, no mailbox here by that name. (#5.1.1)\n"
        spawner.comes_to(2)
