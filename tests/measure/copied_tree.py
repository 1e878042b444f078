"""A copy of the repository to be changed and thrown away: what measures never touches the product.

It has what git tracks, as it lies in the working tree: a test that git has not been told of (`git add`) is not in it,
and neither is a home that somebody keeps beside the sources. Without git it has all files but caches and the like.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".hypothesis", ".*_cache", "__pycache__", "var", "build", "dist", "*.pyc"
)


@contextmanager
def copied_tree(prefix: str) -> Iterator[Path]:
    """The copy, with the same .venv. Other accounts may read it: tests that are root become them."""
    top = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        top.chmod(0o755)
        copy = top / "tree"
        copy_files(REPOSITORY, copy)
        (copy / ".venv").symlink_to(REPOSITORY / ".venv")
        yield copy
    finally:
        shutil.rmtree(top)


def copy_files(source: Path, copy: Path) -> None:
    """Makes `copy`: the tracked files of `source` that are there, or without git everything that looks like one."""
    names = tracked(source)
    if not names:
        shutil.copytree(source, copy, ignore=_without_special_files, symlinks=True)
        return
    for name in names:
        found, target = source / name, copy / name
        if found.is_symlink() or found.is_file():  # not what was removed and not yet told to git
            _make_parents(target.parent)
            shutil.copy2(found, target, follow_symlinks=False)


def tracked(source: Path) -> list[str]:
    """What git tracks there, as paths below `source`; nothing where there is no git, or it knows nothing of these."""
    try:
        done = subprocess.run(["git", "-C", source, "ls-files", "-z"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return [name.decode("utf-8", "surrogateescape") for name in done.stdout.split(b"\0") if name]


def _make_parents(directory: Path) -> None:
    if not directory.exists():
        _make_parents(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)  # whatever the umask is


def _without_special_files(directory: str, names: list[str]) -> set[str]:
    """Sockets, pipes and devices are no sources, and opening one may wait for ever."""
    special = {name for name in names if not _is_ordinary(Path(directory, name))}
    return special | set(_LEFT_OUT(directory, names))


def _is_ordinary(path: Path) -> bool:
    return path.is_symlink() or path.is_file() or path.is_dir()
