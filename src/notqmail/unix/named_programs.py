"""Running a program that a command line names, found along PATH as execvp(3) finds it.

By posix_spawn(3): the child begins without our memory, and a program that cannot be run is an OSError here, not an
exit code to be guessed at. Two things of execvp that Python's own lacks are kept, for `.qmail` lines rely on them: a
script without `#!` is run by /bin/sh, and only certain errors let the search go on.
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    Result = TypeVar("Result")

DEFAULT_PATH = b"/bin:/usr/bin"  # where execvp looks without PATH
SIGNALS_THE_INTERPRETER_IGNORES = (13, 25)
"""SIGPIPE and SIGXFSZ, the same numbers everywhere we run; `import signal` would cost as much as the rest."""

_SHELL = b"/bin/sh"
_SIGXFSZ = 25
_SEARCH_ON = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)


def start_program(words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", *, stdin_fd: int = 0) -> int:
    """Starts it with `stdin_fd` as its descriptor 0; returns its pid. Raises OSError when it cannot be run."""
    actions = [(os.POSIX_SPAWN_DUP2, stdin_fd, 0)] if stdin_fd else []

    def attempt(path: bytes, argv: "Sequence[bytes]") -> int:
        return os.posix_spawn(
            path, list(argv), dict(environ), file_actions=actions, setsigdef=SIGNALS_THE_INTERPRETER_IGNORES
        )

    return _along_path(words, environ, attempt)


def start_apart(words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", descriptors: "Mapping[int, int]") -> int:
    """Starts it at the head of a process group of its own; returns its pid. Raises OSError when it cannot be run.

    `descriptors` maps the program's numbers to ours, which are greater than all of its. SIGPIPE stays as we have it.
    """
    actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in descriptors.items()]

    def attempt(path: bytes, argv: "Sequence[bytes]") -> int:
        return os.posix_spawn(path, list(argv), dict(environ), file_actions=actions, setpgroup=0, setsigdef=[_SIGXFSZ])

    return _along_path(words, environ, attempt)


def become_program(words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> None:
    """Becomes it, and returns never. Raises OSError when it cannot be run."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    def attempt(path: bytes, argv: "Sequence[bytes]") -> None:
        os.execve(path, list(argv), dict(environ))

    _along_path(words, environ, attempt)


def _along_path(
    words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", attempt: "Callable[[bytes, Sequence[bytes]], Result]"
) -> "Result":
    name = words[0]
    if not name:
        raise FileNotFoundError(errno.ENOENT, "no name")
    if b"/" in name:
        return _or_as_script(name, words, attempt)
    why: OSError | None = None
    for directory in environ.get(b"PATH", DEFAULT_PATH).split(b":"):
        try:
            path = os.path.join(directory, name)
            os.stat(path)  # much cheaper than a child that cannot become it
            return _or_as_script(path, words, attempt)
        except OSError as error:
            if error.errno not in _SEARCH_ON:
                raise
            if why is None or why.errno != errno.EACCES:  # "may not" says more than "is not there"
                why = error
    assert why is not None
    raise why


def _or_as_script(
    path: bytes, words: "Sequence[bytes]", attempt: "Callable[[bytes, Sequence[bytes]], Result]"
) -> "Result":
    try:
        return attempt(path, words)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    return attempt(_SHELL, [_SHELL, path, *words[1:]])
