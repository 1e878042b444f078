"""Other mail servers out of Debian's packages, run from where they were unpacked: the packages are never installed.

`make test` unpacks them into .foreign/ (packaging/foreign-servers). Exim and OpenSMTPD insist on fixed paths and on
accounts of their own, so each gets a small root directory with the libraries it needs and is started by chroot;
chasquid does not. All listen on a high port of 127.0.0.1, know nothing of /etc, and deliver nothing anywhere.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from interop_system import DEADLINE_S, free_port, listens, wait_for

FOREIGN = Path(__file__).parents[2] / ".foreign"
_LIBRARIES = ("libgnutls-dane0", "libunbound8", "libevent-2.1-7")  # of Exim and OpenSMTPD; a machine need not have them


class Foreign:
    """One running server on `port`; `version` is the upstream one, as in Debian's version without its revision."""

    def __init__(self, package: str, argv: list[str], port: int, log: Path) -> None:
        self.port, self._log = port, log
        self.version = upstream((FOREIGN / package / "version").read_text())
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
            )
        try:
            wait_for(self._is_up, package, look=lambda: log.read_text("utf-8", "replace"))
        except BaseException:
            self.stop()
            raise

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            pytest.fail(f"it ended: {self._log.read_text('utf-8', 'replace')}")
        return listens(self.port)

    def stop(self) -> None:
        """Ends it and its children: the process group that it leads, and nobody else."""
        with suppress(ProcessLookupError):  # it has ended by itself, and said why
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def upstream(version: str) -> str:
    """`1:4.96-15+deb12u10` is 4.96."""
    return version.strip().partition("-")[0].rpartition(":")[2]


def missing(package: str, *, root: bool) -> str | None:
    """Why the server cannot be started here, or None."""
    if not (FOREIGN / package / "version").exists():
        return f"{package} is not unpacked in .foreign/ (packaging/foreign-servers; needs Debian's archive)"
    if root and os.geteuid() != 0:
        return f"{package} needs root (chroot)"
    return None


def small_root(base: Path, package: str, program: str, accounts: list[str]) -> Path:
    """A root directory with the package, the libraries of its program and these accounts."""
    shutil.copytree(FOREIGN / package, base, symlinks=True)
    for name in ("dev", "tmp", "run", "var/run", "var/spool", "var/empty"):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "tmp").chmod(0o1777)
    libraries = [*_libraries(base / program), *Path("/lib").glob("*-linux-gnu/libnss_files*")]
    for library in libraries:
        ours = library.is_relative_to(FOREIGN)  # .foreign/PACKAGE/usr/lib/...
        place = base.joinpath(*library.relative_to(FOREIGN).parts[1:] if ours else library.parts[1:])
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    _etc(base / "etc", accounts)
    for name, number in (("null", 3), ("zero", 5), ("urandom", 9)):
        os.mknod(base / "dev" / name, 0o20666, os.makedev(1, number))
        (base / "dev" / name).chmod(0o666)
    return base


def _libraries(program: Path) -> list[Path]:
    """What the program is linked with: the machine's, else those that are unpacked in .foreign/."""
    unpacked = [str(path) for name in _LIBRARIES for path in (FOREIGN / name / "usr/lib").glob("*-linux-gnu")]
    environ = {**os.environ, "LD_LIBRARY_PATH": ":".join(unpacked)}
    needed = subprocess.run(["ldd", program], env=environ, capture_output=True, text=True, check=True).stdout
    if lacking := re.findall(r"(\S+) => not found", needed):
        pytest.skip(f"{program.name} needs {' '.join(lacking)}, which is neither installed nor unpacked in .foreign/")
    return [Path(name) for name in re.findall(r"(/\S+\.so\S*)", needed)]


def _etc(etc: Path, accounts: list[str]) -> None:
    etc.mkdir(exist_ok=True)
    known = ["root:x:0", "nobody:x:65534", *(f"{name}:x:{990 + number}" for number, name in enumerate(accounts))]
    (etc / "passwd").write_text("".join(f"{one}:{one.rpartition(':')[2]}::/var/empty:/bin/false\n" for one in known))
    (etc / "group").write_text("".join(f"{one}:\n" for one in ["mail:x:8", "nogroup:x:65533", *known]))
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "services").write_text("smtp 25/tcp\n")
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nservices: files\n")
    (etc / "mailname").write_text("peer.test\n")


_EXIM = """\
primary_hostname = peer.test
log_file_path = /tmp/%slog
spool_directory = /var/spool/exim4
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_only
keep_environment =
begin acl
"""


def exim(base: Path) -> Foreign:
    """Exim with defaults for everything about SMTP; it queues and never delivers."""
    port = free_port()
    root = small_root(base / "root", "exim4-daemon-light", "usr/sbin/exim4", ["Debian-exim"])
    (root / "exim.conf").write_text(_EXIM)
    options = ["-C", "/exim.conf", "-bdf", "-oX", f"127.0.0.1.{port}"]
    return Foreign("exim4-daemon-light", ["chroot", str(root), "/usr/sbin/exim4", *options], port, base / "log")


def opensmtpd(base: Path) -> Foreign:
    """OpenSMTPD that relays everything to a port where nobody listens."""
    port = free_port()
    root = small_root(base / "root", "opensmtpd", "usr/sbin/smtpd", ["opensmtpd", "opensmtpq"])
    (root / "var/lib/opensmtpd/empty").mkdir(parents=True, exist_ok=True)
    (root / "var/spool/smtpd").mkdir(mode=0o711, exist_ok=True)
    (root / "smtpd.conf").write_text(
        f'listen on 127.0.0.1 port {port}\naction "away" relay host smtp://127.0.0.1:9\n'
        'match from any for any action "away"\n'
    )
    return Foreign("opensmtpd", ["chroot", str(root), "/usr/sbin/smtpd", "-d", "-f", "/smtpd.conf"], port, base / "log")


def chasquid(base: Path) -> Foreign:
    """chasquid with one domain, an account in it, and /bin/true to deliver with."""
    port, conf = free_port(), base / "conf"
    (conf / "domains" / "here.test").mkdir(parents=True)
    (conf / "domains" / "here.test" / "aliases").write_text("c: x@here.test\n")
    certificate = conf / "certs" / "peer.test"
    certificate.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=peer.test", "-keyout", certificate / "privkey.pem", "-out", certificate / "fullchain.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (conf / "chasquid.conf").write_text(
        f'hostname: "peer.test"\nsmtp_address: "127.0.0.1:{port}"\ndata_dir: "{base}/data"\n'
        f'mail_delivery_agent_bin: "/bin/true"\nmail_log_path: "{base}/mail.log"\n'
    )
    argv = [str(FOREIGN / "chasquid/usr/bin/chasquid"), "-config_dir", str(conf)]
    return Foreign("chasquid", argv, port, base / "log")


SERVERS: dict[str, tuple[str, bool, Callable[[Path], Foreign]]] = {
    "Exim": ("exim4-daemon-light", True, exim),
    "OpenSMTPD": ("opensmtpd", True, opensmtpd),
    "chasquid": ("chasquid", False, chasquid),
}
"""Name in the table -> (package, whether it needs root, how to start it in a directory)."""
