"""A copy of the repository to be changed and thrown away: what measures never touches the product."""

import shutil
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
        shutil.copytree(REPOSITORY, copy, ignore=_LEFT_OUT, symlinks=True)
        (copy / ".venv").symlink_to(REPOSITORY / ".venv")
        yield copy
    finally:
        shutil.rmtree(top)
