"""What qmail-qstat says: how many files are below queue/mess and queue/todo (qmail-qstat(8)).

The two lines are C's to the byte (monitoring reads them): plain files at any depth are counted, whatever their names,
so also what does not belong there. `notqmail queue check` says what that is.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Trouble = Callable[[OSError], None]


def report(queue: bytes, trouble: "Trouble") -> bytes:
    """The two lines; `trouble` is told of each directory that could not be read, whose files are not counted."""
    mess = 0
    try:
        with os.scandir(os.path.join(queue, b"mess")) as parts:
            for part in parts:
                if part.name[:1] != b".":  # as a shell's mess/* does
                    mess += count_files(part, trouble)
    except OSError as error:
        trouble(error)
    todo = count_below(os.path.join(queue, b"todo"), trouble)
    return b"messages in queue: %d\nmessages in queue but not yet preprocessed: %d\n" % (mess, todo)


def count_files(entry: "os.DirEntry[bytes]", trouble: "Trouble") -> int:
    """1 for a plain file, all below it for a directory; a symbolic link is neither."""
    if entry.is_dir(follow_symlinks=False):
        return count_below(entry.path, trouble)
    return int(entry.is_file(follow_symlinks=False))


def count_below(directory: bytes, trouble: "Trouble") -> int:
    """How many plain files are in a directory and its directories."""
    try:
        with os.scandir(directory) as entries:
            return sum([count_files(entry, trouble) for entry in entries])
    except OSError as error:
        trouble(error)
        return 0
