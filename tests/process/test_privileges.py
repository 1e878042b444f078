"""What each process may do (docs/explanation/privileges.md), traced and tried out as root.

The page's list is read here. A system under strace handles mail of every kind; whatever its processes opened, connected
to, executed or became must be on the list.
"""

import configparser
import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from classic_house import HOST, USERS, System, made_system, until
from other_services import mail_by_the_other_services
from remote_peer import ScriptedPeer
from strace_reader import CALLS, Deeds, read_deeds

pytestmark = [
    pytest.mark.root,
    pytest.mark.debian("tcpserver"),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "privileges.md"
SERVERS = ("qmail-smtpd", "qmail-qmtpd", "qmail-qmqpd")
KINDS = ("identity", "becomes", "reads", "writes", "connects", "binds", "executes", "keeps")


def the_list() -> dict[str, dict[str, list[str]]]:
    """Role -> kind -> what is allowed, out of the page."""
    (block,) = re.findall(r"```privileges\n(.*?)```", PAGE.read_text(), re.DOTALL)
    parser = configparser.ConfigParser()
    parser.read_string(block)
    for role in parser.sections():
        assert set(parser[role]) <= set(KINDS), role
    return {role: {kind: parser[role].get(kind, "").split() for kind in KINDS} for role in parser.sections()}


# ── a traced system that handles mail of every kind ─────────────────────────────────────────────────────────────────


class Traced:
    """What a whole day's kinds of mail made the processes do, and what the residents held open meanwhile."""

    def __init__(self, system: System, deeds: dict[str, Deeds], held: dict[str, set[str]]) -> None:
        self.system, self.deeds, self.held = system, deeds, held

    def named(self, path: str) -> str:
        """A path in the page's words; empty for what everybody may open."""
        system = self.system
        places = {
            str(system.home) + "/": "",
            str(system.base / "people"): "PEOPLE",
            str(system.base / "log" / "current"): "LOG",
            str(system.base / "services"): "LOG",
        }  # fmt: skip
        for place, name in places.items():
            if path.startswith(place):
                return name + path.removeprefix(place)
        if path == "/tmp" or re.match(r"/tmp/(?!nqc)", path):
            return "TMP" + path.removeprefix("/tmp")
        return "" if EVERYBODYS.match(path) or f"{path}/".startswith(f"{system.base}/lib/") else path


EVERYBODYS = re.compile(
    re.escape(f"{Path(__file__).parents[2]}/")
    + r"|/$|/usr(/|$)|/lib|/opt/|/etc/(ld\.so\.|passwd|group|nsswitch\.conf|localtime|resolv\.conf|hosts|host\.conf)"
    r"|/etc/gai\.conf"
    r"|/proc/(self|\d+)/|/dev/urandom$|/sys/|/var/run/nscd/|/run/systemd/userdb"
    r"|/(etc|run|run/host)(/userdb(/.*)?|/host)?$"  # the name service's "systemd" module, where it is installed
)


def trace_into(directory: Path, system: System) -> None:
    """From now on whatever the system starts is traced."""
    directory.mkdir()
    directory.chmod(0o1777)

    def tracer(user: str) -> list[str]:
        group = USERS.get(user, "root")
        place = directory / f"{system.machine.uid[user]}:{system.machine.gid[group]}"
        place.mkdir(exist_ok=True)
        place.chmod(0o1777)
        return ["strace", "-D", "-ff", "-y", "-s", "300", "-o", f"{place}/t", "-e", f"trace={CALLS}"]

    system.tracer = tracer


def mail_of_every_kind(system: System, peer_port: int) -> None:
    """In by SMTP, QMTP, QMQP and by hand, small and large; out to Maildir, mbox, program, forward, alias, remote, and
    back, and by POP3.
    """
    alice = system.person("alice")
    system.write(system.home / "control" / "smtproutes", f"routed.test:127.0.0.1:{peer_port}\n", "root")
    system.write(system.home / "users" / "assign", f"=cdbalice:alice:{system.machine.uid['alice']}:"
                 f"{system.machine.gid['alice']}:{alice}:::\n.\n", "root")  # fmt: skip
    assert system.run([f"{system.home}/bin/qmail-newu"]).returncode == 0
    for name, line in {"mbox": "./Mailbox", "program": "|cat >>program", "forward": f"&bob@{HOST}"}.items():
        system.write(alice / f".qmail-{name}", f"{line}\n", "alice")
    system.write(system.home / "alias" / ".qmail-postmaster", f"&bob@{HOST}\n", "alias")
    large = "Subject: large\r\n\r\n" + "a line of some length, many times over\r\n" * 5_000
    for local in ("alice", "alice-mbox", "alice-program", "alice-forward", "cdbalice", "postmaster", "nobody-here"):
        system.send(f"bob@{HOST}", f"{local}@{HOST}", f"Subject: to {local}\r\n\r\nfor {local}\r\n")
    system.send("someone@elsewhere.test", f"alice@{HOST}", large)
    for user in ("alice", "bob"):
        system.inject(user, f"To: bob@{HOST}, x@routed.test, y@no-such-name.test\nSubject: by hand, {user}\n\nx\n")
        system.inject(user, f"To: bob@{HOST}\nSubject: large by hand\n\n{large}")
    for needle in ("for alice\n", "for cdbalice", "Subject: large"):
        system.mail("alice", needle)
    for needle in ("for alice-forward", "for postmaster", "This is the qmail-send", "by hand, alice", "by hand, bob"):
        system.mail("bob", needle)
    until(lambda: (alice / "Mailbox").exists() and (alice / "program").exists(), system.log)
    until(lambda: said(system, "success: 127.0.0.1_accepted_message") == 2, system.log)
    until(lambda: said(system, ": deferral: Sorry,_I_couldn't_find_any_host") == 2, system.log)
    mail_by_the_other_services(system)
    until(lambda: is_at_rest(system, left=2), system.log)


def said(system: System, words: str) -> int:
    """How often they are in the log."""
    return system.log_path.read_text().count(words)


def is_at_rest(system: System, left: int) -> bool:
    """Whether so many messages wait for their next try and nothing else goes on: none unread in todo/, none tried."""
    log = system.log_path.read_text()
    status = [line for line in log.splitlines() if "status: " in line][-1:]
    unread = list((system.home / "queue" / "todo").iterdir())
    idle = bool(status) and "status: local 0/40 remote 0/100" in status[0]
    return idle and not unread and log.count("new msg ") - log.count("end msg ") == left


def descriptors(pid: int) -> set[str]:
    """What a process holds that has a name; of one that has ended meanwhile, nothing."""
    found: set[str] = set()
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return found
    for entry in entries:
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # closed while we looked
        if target.startswith("/"):
            found.add(target)
    return found


def real_uid(pid: int) -> int:
    """Whose process it is."""
    (line,) = re.findall(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(line)


def running(system: System) -> dict[str, list[int]]:
    """Role -> its processes. qmail-lspawn's children are its workers."""
    found: dict[str, list[int]] = {}
    for pid, command in system.processes().items():
        role = re.search(rf"{system.home}/bin/([a-z-]+)", command)
        if role is not None and not re.match(r"strace|\S*tcpserver ", command):
            worker = role[1] == "qmail-lspawn" and real_uid(pid) != 0
            found.setdefault("worker" if worker else role[1], []).append(pid)
    return found


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    with made_system() as system, ScriptedPeer({b"EHLO": b"250-x\r\n250 PIPELINING\r\n", b"MAIL": b"250 ok\r\n",
                                                b"RCPT": b"250 ok\r\n", b".": b"250 ok\r\n"}) as peer:  # fmt: skip
        trace_into(system.base / "trace", system)
        system.start()
        mail_of_every_kind(system, peer.port)
        held = {role: set().union(*map(descriptors, pids)) for role, pids in running(system).items()}
        assert set(system.stop()) == {0}
        deeds = read_deeds(system.base / "trace", str(system.home), system.machine.uid["qmailp"])
        yield Traced(system, deeds, held)


def account(system: System, who: str) -> str:
    """user:group of uid:gid."""
    uid, gid = map(int, who.split(":"))
    return f"{system.machine.user_name[uid]}:{system.machine.group_name[gid]}"


def is_allowed(name: str, allowed: list[str], user: str) -> bool:
    """Whether one of the page's patterns covers it, for that user."""
    own = "alias" if user == "alias" else f"PEOPLE/{user}"
    patterns = [pattern.replace("OWN", own) for pattern in allowed]
    if "USER" in allowed:
        patterns += ["alias:nofiles", "alice:alice", "bob:bob"]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("kind", ["reads", "writes", "connects", "binds", "executes", "becomes"])
def test_no_process_did_what_the_page_does_not_have(traced: Traced, kind: str) -> None:
    allowed, beyond = the_list(), set()
    for role, deeds in traced.deeds.items():
        for what, who in getattr(deeds, kind):
            user = account(traced.system, who).partition(":")[0]
            name = account(traced.system, what) if kind == "becomes" else traced.named(what)
            if kind == "reads" and name == f"bin/{role}":
                continue
            if name and not is_allowed(name, allowed[role][kind], user):
                beyond.add((role, user, name))
    assert beyond == set()


def test_every_role_of_the_page_was_seen_at_work_and_no_other(traced: Traced) -> None:
    assert set(traced.deeds) == set(the_list())


def test_what_is_done_as_root_before_giving_it_up_touches_nothing_of_the_mail_system(traced: Traced) -> None:
    for server in SERVERS:
        deeds, first = traced.deeds[server], "0:0"
        for kind in ("reads", "writes", "connects"):
            touched = {traced.named(what) for what, who in getattr(deeds, kind) if who == first}
            assert touched <= {"", f"bin/{server}"}, (server, kind)
        assert {who for _, who in deeds.binds} == {first}


def test_qmail_lspawn_opens_messages_and_reads_none(traced: Traced) -> None:
    messages = {
        role: {path for path in deeds.contents if "/queue/mess/" in path} for role, deeds in traced.deeds.items()
    }
    assert messages["worker"], "the trace does not show who reads"
    assert messages["qmail-rspawn"]
    assert any("/queue/mess/" in path for path, _ in traced.deeds["qmail-lspawn"].reads)
    assert not messages["qmail-lspawn"]
    people = [path for path in traced.deeds["qmail-lspawn"].contents if f"{traced.system.base}/people" in path]
    assert not people


def test_processes_hold_what_the_page_has(traced: Traced) -> None:
    allowed, beyond = the_list(), set()
    assert {"qmail-lspawn", "worker", "qmail-send", "qmail-queue", "qmail-clean", *SERVERS} <= set(traced.held)
    for role, paths in traced.held.items():
        for name in map(traced.named, paths):
            if name and not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed[role]["keeps"]):
                beyond.add((role, name))
    assert beyond == set()


# ── tried out ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One running system with mail in its queue and a worker each for alice and bob."""
    with made_system() as made:
        made.start()
        made.write(made.home / "control" / "secret", "x\n", "root", 0o600)
        made.write(made.home / "control" / "smtproutes", "dead.test:127.0.0.1:9\n", "root")
        made.inject("bob", f"To: alice@{HOST}, bob@{HOST}, x@dead.test\nSubject: stays\n\nstays in the queue\n")
        made.mail("alice", "stays in the queue")
        made.mail("bob", "stays in the queue")
        until(lambda: "deferral" in made.log_path.read_text(), made.log)
        yield made


PROBE = """
import os, sys
home, people = sys.argv[1:]
for top in (home, people):
    for place, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = os.path.join(place, name)
            kind = "d" if name in directories else "f"
            for right, flag in (("r", os.R_OK), ("w", os.W_OK)):
                if os.access(path, flag):
                    print(right, kind, path)
"""


def reached(system: System, user: str) -> dict[str, set[str]]:
    """right -> what this account may read or write of homes and mail system, in the page's words, numbers as N."""
    done = system.run(["/usr/bin/python3", "-I", "-c", PROBE, str(system.home), str(system.base / "people")], user)
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {"r": set(), "w": set()}
    for line in done.stdout.decode().splitlines():
        right, _, path = line.split(" ", 2)
        name = path.replace(f"{system.home}/", "").replace(f"{system.base}/people", "PEOPLE")
        name = re.sub(r"/\d+(?=/|$)", "/N", name)
        if right == "w" or name.startswith(("queue", "PEOPLE", "control/secret")):
            found[right].add(name)
    return found


QMAIL_GROUP_READS = {"queue/lock", "queue/lock/tcpto", "queue/mess", "queue/mess/N", "queue/mess/N/N", "queue/todo",
                     "queue/ledger"}  # fmt: skip
QUEUE_OWNERS = {
    "queue/lock", "queue/pid", "queue/mess", "queue/mess/N", "queue/mess/N/N", "queue/intd", "queue/todo",
    "queue/ledger", "queue/ledger/accepted", "queue/ledger/accepted/current",
}  # fmt: skip
SENDS = {"queue/lock/sendmutex", "queue/lock/trigger", "queue/ledger/ended", "queue/ledger/ended/current"} | {
    f"queue/{kind}{end}" for kind in ("info", "local", "remote") for end in ("", "/N", "/N/N")
}
REACH = {  # account -> what it may read of queue, homes and secrets; what it may write anywhere
    "qmaild": (set(), {"run/qmail-queue"}),
    "qmaill": (set(), {"run/qmail-queue"}),
    "qmailp": (set(), {"run/qmail-queue"}),
    "qmailr": (QMAIL_GROUP_READS, {"run/qmail-queue", "queue/lock/tcpto", "queue/lock/trigger"}),
    "qmailq": (QMAIL_GROUP_READS | QUEUE_OWNERS, QUEUE_OWNERS | {"run", "run/qmail-queue", "run/qmail-queue.lock",
                                                               "queue", "queue/lock/trigger"}),
    "qmails": (QMAIL_GROUP_READS | SENDS | {"queue/bounce"}, SENDS | {"run/qmail-queue", "queue/bounce"}),
}  # fmt: skip


@pytest.mark.parametrize("user", REACH)
def test_an_account_reaches_its_part_of_the_queue_and_nobodys_mail(system: System, user: str) -> None:
    reads, writes = REACH[user]
    found = reached(system, user)
    assert {name for name in found["r"] if not name.startswith("PEOPLE/")} - {"PEOPLE", "queue"} <= reads
    assert not {name for name in found["r"] if name.count("/") > 1 and name.startswith("PEOPLE")}
    assert found["w"] <= writes
    assert ("queue/mess/N/N" in found["r"]) == (user in ("qmailq", "qmailr", "qmails"))


def test_nothing_is_setuid_or_setgid(system: System) -> None:
    places = [system.home, system.base / "lib", PAGE.parents[2] / "src", PAGE.parents[2] / "packaging"]
    special = [
        path for place in places for path in place.rglob("*") if path.lstat().st_mode & 0o6000 and path.is_file()
    ]
    assert special == []


def test_a_worker_holds_its_own_things_and_even_its_user_cannot_look_into_it(system: System) -> None:
    workers = {real_uid(pid): pid for pid in running(system)["worker"]}
    for user in ("alice", "bob"):
        pid = workers[system.machine.uid[user]]
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert sum(link.startswith("socket:") for link in links) == 1, links
        assert not [link for link in links if "/queue/" in link or link == "anon_inode:[eventpoll]"]
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0, "dumpable: its user could trace it"
        for what in ("mem", "fd", "environ"):
            done = system.run(["/bin/sh", "-c", f"ls /proc/{pid}/{what}/ || cat /proc/{pid}/{what} | head -c 1"], user)
            assert not done.stdout and b"denied" in done.stderr, (what, done)
    status = Path(f"/proc/{workers[system.machine.uid['alice']]}/status").read_text()
    assert re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\s+(\w+)", status, re.M) == ["0" * 16] * 4


def test_a_users_program_has_the_message_read_only_and_two_pipes(system: System) -> None:
    alice = system.person("alice")
    script = "; ".join([
        "a=$(readlink /proc/$$/fd/0); b=$(readlink /proc/$$/fd/1); c=$(readlink /proc/$$/fd/2); exec >looked",
        'echo "$a"; echo "$b"; echo "$c"; grep -h flags /proc/$$/fdinfo/0',
        "(echo x >/proc/$$/fd/0) 2>/dev/null && echo wrote; grep ^Cap[PE] /proc/$$/status; echo end",
    ])  # fmt: skip
    system.write(alice / ".qmail-look", f"|{script}\n", "alice")
    system.send("someone@elsewhere.test", f"alice-look@{HOST}")
    looked = alice / "looked"
    until(lambda: looked.exists() and looked.read_text().endswith("end\n"), system.log)
    message, out, err, flags, permitted, effective, _ = looked.read_text().splitlines()
    assert "/queue/mess/" in message
    assert out.startswith("pipe:") and err == out
    assert int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY
    assert {permitted.split()[1], effective.split()[1]} == {"0" * 16}


ATTACK = """
import os, socket, struct, sys, tempfile, threading
sys.path.insert(0, sys.argv[2])
from notqmail.wire.qmqp import encode_descriptor_package, encode_package
def connected():
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(10)
    one.connect(sys.argv[1])
    return one
def offer(name, descriptor, length):
    one = connected()
    socket.send_fds(one, [encode_descriptor_package(length, b"s@x", [b"nobody@x"])], [descriptor])
    # Whoever closes last waits. A thread, for that may be us.
    threading.Thread(target=os.close, args=(descriptor,), daemon=True).start()
    print(name, one.recv(1000).decode())
pipe_in, pipe_out = os.pipe()
offer("fifo", pipe_in, 70000)
offer("zero", os.open("/dev/zero", os.O_RDONLY), 70000)
offer("directory", os.open("/", os.O_RDONLY), 10)
offer("path", os.open("/etc/passwd", os.O_PATH), 10)
offer("memory", os.open("/proc/self/mem", os.O_RDONLY), 70000)
offer("writable", os.open(tempfile.mkstemp()[1], os.O_WRONLY), 0 + 1)
sparse = os.memfd_create("sparse")
os.ftruncate(sparse, 2 ** 60)
offer("sparse", sparse, 2 ** 60)
listener = socket.create_server(("127.0.0.1", 0))
slow = socket.create_connection(listener.getsockname())
peer = listener.accept()[0]
slow.setblocking(False)
try:
    while True:
        slow.send(b"x" * 65536)
except BlockingIOError:
    pass
slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
offer("lingering", slow.detach(), 5)
one = connected()
forged = b"Received: (qmail 1 invoked by uid 0); 1 Jan 1970 00:00:00 -0000\\n\\nforged\\n"
one.sendall(encode_package(forged, b"root@x", [sys.argv[3].encode()]))
print("good", one.recv(1000).decode(), flush=True)
os._exit(0)
"""


def test_a_user_can_neither_hold_the_writer_up_nor_be_somebody_else(system: System) -> None:
    arguments = [f"{system.home}/run/qmail-queue", f"{system.base}/lib", f"alice@{HOST}"]
    done = system.run(["/usr/bin/python3", "-I", "-c", ATTACK, *arguments], "bob")
    assert done.returncode == 0, done.stderr
    answers = dict(line.split(" ", 1) for line in done.stdout.decode().splitlines())
    assert answers.pop("good").split(":")[1].startswith("Kok qp ")
    assert answers.pop("sparse").endswith(":Zqq write error or disk full (#4.3.0),")
    assert {answer.split(":", 1)[1] for answer in answers.values()} == {"Zqq read error (#4.3.0),"}
    assert len(answers) == 7
    text, _ = system.mail("alice", "forged\n")
    uid = system.machine.uid["bob"]
    received = [line for line in text.splitlines() if line.startswith("Received: (qmail")]
    assert re.fullmatch(rf"Received: \(qmail \d+ invoked by uid {uid}\); .*", received[0])
    assert f"from <root@x> qp {received[0].split()[2]} uid {uid}\n" in system.log()
