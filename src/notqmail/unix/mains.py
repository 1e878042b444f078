"""How a program ends: its exit code, and what becomes of a failure nobody expected."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PERMANENT = 100  # bad usage and the like: trying again will not help
TEMPORARY = 111


def complain(text: str | bytes) -> None:
    """One line to descriptor 2; a closed one is no reason to fail."""
    line = text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
    try:
        os.write(2, line + b"\n")
    except OSError:
        pass  # nobody listens: the exit code still tells


def open_standard_error() -> None:
    """qmail-start closes fd 2; left so, the next file opened would get that number, and our complaints."""
    try:
        os.fstat(2)
    except OSError:
        os.dup2(os.open(b"/dev/null", os.O_WRONLY | os.O_CLOEXEC), 2)


_COERCED = (b"C.UTF-8", b"C.utf8", b"UTF-8")


def forget_coerced_locale() -> None:
    """Takes LC_CTYPE out of the environment when only the interpreter has put it there (PEP 538).

    Programs we start must find the environment we were started with, and no more.
    """
    if os.environb.get(b"LC_CTYPE") not in _COERCED:
        return
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            given = b"\0" + file.readall()
    except OSError:
        return  # no way to know: harmless
    if b"\0LC_CTYPE=" not in given:
        del os.environb[b"LC_CTYPE"]


def run(main: "Callable[[], int]", *, uncaught: int = TEMPORARY) -> "None":
    """Runs `main` and leaves with its code. Anything uncaught is one line on fd 2 and `uncaught`: mail waits.

    Interpreter tear-down is skipped, because it costs as much as the start. So standard output and error are flushed
    here, and what does not go out makes a good code `uncaught`; any other buffer is the program's own care.
    """
    name = os.path.basename(sys.argv[0])
    forget_coerced_locale()
    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else uncaught
    except KeyboardInterrupt:
        code = uncaught
    except MemoryError:
        complain(f"{name}: fatal: out of memory")
        code = uncaught
    except Exception as error:  # noqa: BLE001 - the outermost frame: unknown is temporary, never lost
        complain(f"{name}: fatal: {type(error).__name__}: {error}")
        code = uncaught
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or uncaught  # what we printed did not arrive
    os._exit(code)
