"""A private Postfix from the Debian package: own configuration, queue, port and log under one directory.

Default-tuned: main.cf says where things are and nothing about speed. It never touches /etc/postfix, /var/spool
or port 25. Needs root (Postfix's master does). Used by the benchmark and by the interop tests.
"""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DURABILITY = "queue file fsynced before 250, its directory entry left to the file system; Maildir file fsynced"
_PROGRAMS = ("postfix", "postconf", "postalias")

# Debian's master.cf, without chroot (the jail's files are a packaging matter, not one of speed) and without the
# examples of foreign transports. Columns: service type private unpriv chroot wakeup maxproc command.
_MASTER = """\
{listen} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
config_directory = {etc}
queue_directory = {queue}
data_directory = {data}
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
meta_directory = /etc/postfix
maillog_file = {log}
maillog_file_prefixes = {base}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = peer.bench.test
mydestination = {mydestination}
mynetworks = 127.0.0.0/8
alias_maps = {aliases}
alias_database = {aliases}
local_recipient_maps =
relayhost = {relayhost}
notify_classes =
"""

_VIRTUAL = """\
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {base}
virtual_mailbox_maps = static:{maildir_name}/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""


def missing() -> list[str]:
    """What is needed and is not there, in words; empty when a private Postfix can be started."""
    lacking = [f"program {name} (Debian package postfix)" for name in _PROGRAMS if not _find(name)]
    if os.geteuid() != 0:
        lacking.append("root (Postfix's master process needs it)")
    return lacking


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def version() -> str:
    """Postfix's own version, for the report."""
    done = subprocess.run([_find("postconf") or "postconf", "-dh", "mail_version"], capture_output=True, check=True)
    return done.stdout.decode().strip()


class PrivatePostfix:
    """One instance. `maildir` receives all mail for `domain`; everything else goes to `relay_port`, or bounces.

    `settings` are more lines of main.cf; they win over those of here.
    """

    def __init__(
        self, base: Path, port: int, *, domain: str = "bench.test", relay_port: int | None = None,
        agent: str = "local", wrap: Callable[[list[str]], list[str]] = list, settings: str = "",
    ) -> None:  # fmt: skip
        self.base, self.port = base, port
        self.maildir, self.log = base / "Maildir", base / "maillog"
        self._etc, self._wrap = base / "etc", wrap
        self._queue = base / "queue"
        for directory in (self._etc, self._queue, base / "data"):
            directory.mkdir(parents=True)
        _let_others_in(base)
        nobody, postfix = pwd.getpwnam("nobody"), pwd.getpwnam("postfix")
        os.chown(base / "data", postfix.pw_uid, postfix.pw_gid)
        for directory in (self.maildir, *(self.maildir / name for name in ("tmp", "new", "cur"))):
            directory.mkdir()
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        main = _MAIN.format(
            etc=self._etc, queue=self._queue, data=base / "data", log=self.log, base=base,
            mydestination=domain if agent == "local" else "",
            aliases=f"hash:{self._etc}/aliases" if agent == "local" else "",
            relayhost=f"[127.0.0.1]:{relay_port}" if relay_port else "[127.0.0.1]:9",
        )  # fmt: skip
        if agent == "virtual":
            main += _VIRTUAL.format(
                domain=domain, base=base, maildir_name="Maildir", uid=nobody.pw_uid, gid=nobody.pw_gid
            )
        for line in settings.splitlines():  # a name set twice would make postconf and all others warn
            main = "".join(old for old in main.splitlines(True) if old.split(" =")[0] != line.split(" =")[0])
        (self._etc / "main.cf").write_text(main + settings)
        (self._etc / "master.cf").write_text(_MASTER.format(listen=f"127.0.0.1:{port}"))
        if agent == "local":  # it delivers a file name from the aliases as default_privs, which is nobody
            (self._etc / "aliases").write_text(f"bench: {self.maildir}/\npostmaster: {self.maildir}/\n")
            self._command("postalias", "-c", str(self._etc), f"hash:{self._etc}/aliases")

    def _command(self, program: str, *arguments: str) -> None:
        argv = self._wrap([_find(program) or program, *arguments])
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            log = self.log.read_text() if self.log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}{log[-2000:]}")

    @property
    def master_pid(self) -> int:
        """The pid of Postfix's master process."""
        return int((self._queue / "pid" / "master.pid").read_text())

    @property
    def top_pids(self) -> list[int]:
        """The pid under which all of its processes are found."""
        return [self.master_pid]

    def start(self) -> None:
        """Starts it; returns when it listens."""
        self._command("postfix", "-c", str(self._etc), "start")

    def stop(self) -> None:
        """Stops it and waits until its master process is gone. Harmless when it never came up."""
        try:
            pid = self.master_pid
        except (OSError, ValueError):
            return
        try:
            self._command("postfix", "-c", str(self._etc), "stop")
        except RuntimeError:
            if Path(f"/proc/{pid}").exists():
                raise
        end = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def queued(self) -> int:
        """Messages Postfix still holds."""
        return sum(
            len(files) for name in ("maildrop", "incoming", "active", "deferred")
            for _, _, files in os.walk(self._queue / name)
        )  # fmt: skip


def _let_others_in(directory: Path) -> None:
    """Postfix's daemons run as `postfix` and `nobody`: they must be able to reach the directory."""
    os.chmod(directory, 0o755)
    for parent in directory.parents:
        if not parent.stat().st_mode & 0o001:
            raise RuntimeError(f"{parent} cannot be entered by other users: choose another --directory")
