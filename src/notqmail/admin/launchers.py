"""The scripts in HOME/bin: one short Python file for each program, made for a quick start.

A launcher names the real interpreter (no shim, no wrapper: both cost more than the program), starts it
with -IS (no environment, no `site`), and appends our package and the libraries' directory to the module
path; the standard library comes first, so nothing there can be shadowed. The second line carries
`unix.launchers.MARKER`, by which `is_ours` tells these files from a C program or a site's own wrapper.
Those are never overwritten unasked.
"""

import compileall
import errno
import keyword
import os
import shlex
import stat
import sys

import notqmail
from notqmail.admin.queue_tree import QueueTree
from notqmail.unix.launchers import MARKER, is_ours

SHEBANG_MAX = 127  # Linux before 5.1 cut the line there, and other systems still do
KEPT_SUFFIX = b".before-python"
NEW_SUFFIX = b".python-new"  # what a stop leaves under such a name is replaced by the next try


class Foreign(Exception):
    """Somebody else's program has this name; str() is its path."""


def program_names() -> list[str]:
    """The programs this package has: modules in `programs/` with a `start`, in qmail's spelling, sorted."""
    directory = os.path.join(os.path.dirname(os.path.realpath(notqmail.__file__)), "programs")
    names = []
    for entry in os.scandir(directory):
        if entry.name.endswith(".py") and not entry.name.startswith("_"):
            with open(entry.path, encoding="utf-8") as file:
                if "\ndef start(" in file.read():
                    names.append(entry.name.removesuffix(".py").removesuffix("_").replace("_", "-"))
    return sorted(names)


def module_name(program: str) -> str:
    """Its module in `programs/`; one whose name Python keeps for itself, as `except`, has an underscore behind it."""
    return program.replace("-", "_") + ("_" if keyword.iskeyword(program) else "")


def code_directories() -> list[str]:
    """Where a launcher finds our package and the libraries beside it."""
    package_parent = os.path.dirname(os.path.dirname(os.path.realpath(notqmail.__file__)))
    libraries = [
        entry
        for entry in sys.path
        if os.path.basename(entry) in ("site-packages", "dist-packages") and os.path.isdir(entry)
    ]
    return list(dict.fromkeys([package_parent, *libraries]))


def launcher_text(
    program: str, home: bytes, *, interpreter: bytes | None = None, directories: list[str] | None = None
) -> bytes:
    """The bytes of a launcher. `interpreter` and `directories` are this process's own unless given."""
    python = interpreter if interpreter is not None else os.fsencode(os.path.realpath(sys.executable))
    lines = [
        _first_line(python),
        b"# " + MARKER + b": `notqmail init` wrote this and writes it anew; changes here will not last",
    ]
    if lines[0] == b"#!/bin/sh":
        # sh sees `exec python`, Python sees a string: a shebang line can neither be long nor hold a blank.
        command = os.fsencode(shlex.quote(os.fsdecode(python)))
        lines.append(b"''''exec " + command + b' -IS "$0" "$@" # \'\'\'')
    lines += [
        b"import os",
        b"import sys",
        b'os.environb.setdefault(b"QMAILHOME", ' + ascii(home).encode() + b")",
    ]
    lines += [
        b"sys.path.append(os.fsdecode(" + ascii(os.fsencode(directory)).encode() + b"))"
        for directory in (code_directories() if directories is None else directories)
    ]
    lines += [f"from notqmail.programs.{module_name(program)} import start".encode(), b"start()", b""]
    return b"\n".join(lines)


def _first_line(python: bytes) -> bytes:
    line = b"#!" + python + b" -IS"
    usable = len(line) < SHEBANG_MAX and not any(blank in python for blank in (b" ", b"\t", b"\n"))
    return line if usable else b"#!/bin/sh"


def write_at_once(tree: QueueTree, path: bytes, data: bytes, mode: int) -> None:
    """A file of ours under its name at once, on the disk before it has the name. Raises OSError: then what had the name
    has it still.
    """
    new = path + NEW_SUFFIX
    tree.discard(new)
    tree.create(new, (data,))
    try:
        tree.settle(new, os.geteuid(), None, mode)
        tree.sync([new])  # an empty bin/qmail-queue after a power cut would refuse mail
        tree.rename(new, path)
    except OSError:
        tree.discard(new)
        raise


def keep_foreign(tree: QueueTree, path: bytes) -> None:
    """Gives the program under this name a second one, NAME.before-python, durably; one that it has already is good.

    Raises FileExistsError when an older program is kept there, and other OSErrors.
    """
    here, kept = tree.aspect(path), tree.aspect(path + KEPT_SUFFIX)
    if here is None or (kept is not None and kept.inode == here.inode):
        return
    if kept is not None:
        raise FileExistsError(
            errno.EEXIST, "an older program is kept under this name: move it away first", path + KEPT_SUFFIX
        )  # fmt: skip
    tree.link(path, path + KEPT_SUFFIX)
    tree.sync([os.path.dirname(path)])  # the old one must not be lost with its only name


def write_launcher(
    path: bytes, program: str, home: bytes, *, replace_foreign: bool = False, tree: QueueTree | None = None
) -> None:
    """Writes one launcher under its name at once (no moment without a program), mode 0755. `path` is absolute, or
    relative to `tree`.

    Raises Foreign when another program has the name, unless `replace_foreign`: then that one is kept beside
    it as NAME.before-python, so going back is one `mv`. Raises OSError: then what had the name has it still.
    """
    tree = QueueTree() if tree is None else tree
    here = tree.aspect(path)
    if here is not None and not is_ours(tree.whole(path)):
        if not replace_foreign:
            raise Foreign(os.fsdecode(path))
        keep_foreign(tree, path)
    write_at_once(tree, path, launcher_text(program, home), 0o755)


def what_is_there(path: bytes) -> str:
    """Which program has this name, and whether another is kept beside it: for who could not put ours there."""
    kept = os.fsdecode(os.path.basename(path) + KEPT_SUFFIX)
    beside = f"; {kept} is there too" if os.path.lexists(path + KEPT_SUFFIX) else ""
    if not os.path.lexists(path):
        return f"nothing has that name{beside}"
    if is_ours(path):
        return f"a launcher of ours has that name{beside}"
    if beside and os.path.samestat(os.lstat(path), os.lstat(path + KEPT_SUFFIX)):
        return f"the program that was there has that name still, and {kept} is a second name of it"
    return f"the program that was there has that name still{beside}"


def write_launchers(tree: QueueTree, home: bytes) -> list[str]:
    """Writes bin/ of the tree, whose root is `home`; returns the names left alone, for they are somebody else's."""
    foreign = []
    for program in program_names():
        try:
            write_launcher(b"bin/" + program.encode(), program, home, tree=tree)
        except Foreign:
            foreign.append(program)
    return foreign


def compile_package() -> None:
    """Byte-compiles the package, for the accounts that run the programs may not write beside it.

    Best effort: where it cannot, programs start slower and work the same.
    """
    compileall.compile_dir(os.path.dirname(os.path.realpath(notqmail.__file__)), quiet=2)


def closed_to_others(path: str) -> bool:
    """Whether some directory above `path` (or itself, if it is one) keeps other accounts out."""
    while True:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IXOTH:
            return True
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent


def writable_by_others(directory: str) -> bool:
    """Whether somebody besides root could put code there; what root runs must not import from it."""
    status = os.stat(directory)
    return status.st_uid != 0 or bool(status.st_mode & 0o022)
