"""Is the program under this path a launcher of ours, or somebody else's?

`notqmail init` writes HOME/bin/qmail-queue and the others as small scripts with a marker near their top
(admin/launchers.py). A resident that would do in-process what the classic program does by exec looks here
first: a C binary or a site's own wrapper under that name must be executed, never bypassed.
"""

MARKER = b"notqmail-python launcher"
_LOOK_AT_BYTES = 512  # the marker is the second line; a shebang line is at most 255 bytes on Linux


def is_ours(path: bytes) -> bool:
    """Whether `path` is a launcher we generated; False when it is missing or may not be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return MARKER in (file.read(_LOOK_AT_BYTES) or b"")
    except OSError:
        return False  # missing, a directory, execute-only: not ours, so exec decides what becomes of it
