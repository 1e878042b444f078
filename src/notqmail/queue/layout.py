"""Where everything lies in the queue (INTERNALS of qmail, section 2), and making an empty one.

mess, info, local and remote are split over SPLIT directories by message number; the number is the inode number
of the mess file, so no two living messages share it. The same tree is read and written by C qmail programs.

The legal states of a message (+ there, - not, ? either):

    state  mess intd todo info local remote bounce
    S1      -    -    -    -    -     -      -     no message
    S2      +    -    -    -    -     -      -     being written, or being removed
    S3      +    +    -    -    -     -      -     envelope being written (C only: ours is written under pid/)
    S4      +    ?    +    ?    ?     ?      ?     accepted; but for mess and todo all is redone from scratch
    S5      +    -    -    +    ?     ?      ?     preprocessed

After a power cut mail that C's qmail-queue accepted may show intd again in S3 or S5, and S3 local, remote and bounce:
nobody looks at them then, and they go with the message. After one while a message ends, S2 may still show local, remote
or bounce: without info and todo nobody looks at them, and they are removed with, or before, the message file
(QueueStore.forget_leftovers).
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.accounts import Accounts

SPLIT = 23  # conf-split
WRITER_DIES_S = 24 * 60 * 60  # qmail-queue gives up and leaves
CLEANUP_AGE_S = 36 * 60 * 60  # only then may anyone remove its files
assert WRITER_DIES_S < CLEANUP_AGE_S, "a cleaner must never race a living writer"

TRIGGER = b"lock/trigger"
SENDMUTEX = b"lock/sendmutex"
TCPTO = b"lock/tcpto"
TCPTO_BYTES = 1024


def split_path(kind: bytes, number: int) -> bytes:
    """The path of a split file: split_path(b"mess", 457) is b"mess/20/457"."""
    return b"%b/%d/%d" % (kind, number % SPLIT, number)


def split_directory(kind: bytes, number: int) -> bytes:
    """The directory that holds it."""
    return b"%b/%d" % (kind, number % SPLIT)


def number_of(name: bytes) -> int | None:
    """The message number that a file's name is, or None: strange files are left alone."""
    return int(name) if name.isdigit() and len(name) <= 20 and (name[:1] != b"0" or name == b"0") else None


DIRECTORIES = (  # path, owner, mode
    (b"", "queue", 0o750),
    (b"pid", "queue", 0o700),
    (b"mess", "queue", 0o750),
    (b"intd", "queue", 0o700),
    (b"todo", "queue", 0o750),
    (b"info", "send", 0o700),
    (b"local", "send", 0o700),
    (b"remote", "send", 0o700),
    (b"bounce", "send", 0o700),
    (b"lock", "queue", 0o750),
    (b"ledger", "queue", 0o750),
    (b"ledger/accepted", "queue", 0o700),
    (b"ledger/ended", "send", 0o700),
)
FILES = (  # path, owner, mode
    (SENDMUTEX, "send", 0o600),
    (TCPTO, "remote", 0o644),
    (TRIGGER, "send", 0o622),
    (b"ledger/accepted/current", "queue", 0o600),
    (b"ledger/ended/current", "send", 0o600),
)
SPLIT_KINDS = (b"mess", b"info", b"local", b"remote")


def create_queue(home: bytes, accounts: "Accounts") -> None:
    """Makes HOME/queue with the classic owners and modes; what is there already stays, its mode is put right.

    Raises OSError.
    """
    root = os.path.join(home, b"queue")
    group = accounts.gids["queue"]

    def settle(path: bytes, owner: str, mode: int) -> None:
        os.chmod(path, mode)
        if not accounts.single_user:
            os.chown(path, accounts.uids[owner], group)

    def directory(path: bytes, owner: str, mode: int) -> None:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # an existing queue is kept
        settle(path, owner, mode)

    for name, owner, mode in DIRECTORIES:
        path = os.path.join(root, name) if name else root
        directory(path, owner, mode)
        if name in SPLIT_KINDS:
            for part in range(SPLIT):
                directory(os.path.join(path, b"%d" % part), owner, mode)
    _create_files(root, settle)


def _create_files(root: bytes, settle: object) -> None:
    for name, owner, mode in FILES:
        path = os.path.join(root, name)
        try:
            if name == TRIGGER:
                os.mkfifo(path, mode)
            else:
                with open(path, "xb") as file:
                    file.write(bytes(TCPTO_BYTES) if name == TCPTO else b"")
        except FileExistsError:
            pass  # kept: tcpto's memory, a trigger somebody has open, the ledger
        assert callable(settle)
        settle(path, owner, mode)


def queue_directory(home: bytes) -> bytes:
    """HOME/queue."""
    return os.path.join(home, b"queue")
