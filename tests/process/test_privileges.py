"""What each process may do (docs/explanation/privileges.md), traced and tried out as root.

The page's list is read here. A system under strace handles mail of every kind; whatever its processes opened, connected
to, executed or became must be on the list.
"""

import configparser
import fnmatch
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from classic_house import HOST, USERS, System, made_system, until
from remote_peer import ScriptedPeer

from strace_reader import CALLS, Deeds, read_deeds

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "privileges.md"
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
            str(system.home) + "/": "", str(system.base / "people"): "PEOPLE", str(system.base / "log" / "current"): "LOG",
            str(system.base / "services"): "LOG",
        }  # fmt: skip
        for place, name in places.items():
            if path.startswith(place):
                return name + path.removeprefix(place)
        if path == "/tmp" or re.match(r"/tmp/(?!nqc)", path):
            return "TMP" + path.removeprefix("/tmp")
        return "" if EVERYBODYS.match(path) or f"{path}/".startswith(f"{system.base}/lib/") else path


EVERYBODYS = re.compile(
    r"/$|/usr(/|$)|/lib|/work/|/opt/|/etc/(ld\.so\.|passwd|group|nsswitch\.conf|localtime|resolv\.conf|hosts|host\.conf|gai\.conf)"
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
    """In by SMTP and by hand, small and large; out to Maildir, mbox, program, forward, alias, remote, and back."""
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
    until(lambda: system.log_path.read_text().endswith("local 0/40 remote 0/20\n"), system.log)


def said(system: System, words: str) -> int:
    """How often they are in the log."""
    return system.log_path.read_text().count(words)


def descriptors(pid: int) -> set[str]:
    """What a process holds that has a name."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
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
        if role is not None and not command.startswith("strace"):
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
        assert system.stop() == [0, 0, 0]
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
