"""How a program ends: its exit code, and what becomes of a failure nobody expected."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PERMANENT = 100  # bad usage and the like: trying again will not help
TEMPORARY = 111


def complain(text: str) -> None:
    """One line to descriptor 2; a closed one is no reason to fail."""
    try:
        os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # nobody listens: the exit code still tells


def run(main: "Callable[[], int]", *, uncaught: int = TEMPORARY) -> "None":
    """Runs `main` and leaves with its code. Anything uncaught is one line on fd 2 and `uncaught`: mail waits.

    `os._exit` would skip flushing, so buffered output is the program's own care; interpreter tear-down is skipped
    because it costs as much as the start.
    """
    name = os.path.basename(sys.argv[0])
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
