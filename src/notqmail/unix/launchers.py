"""Is the program under this path a launcher of ours, or somebody else's?

`notqmail init` writes HOME/bin/qmail-queue and the others as small scripts with a marker near their top
(admin/launchers.py). A resident that would do in-process what the classic program does by exec looks here
first: a C binary or a site's own wrapper under that name must be executed, never bypassed. So must another program of
ours that somebody put in that place, as a filter that ends by running the real one.
"""

MARKER = b"notqmail-python launcher"
_LOOK_AT_BYTES = 512  # the marker is the second line; a shebang line is at most 255 bytes on Linux
_WHOLE_BYTES = 16_384
_STARTS = b"\nfrom notqmail.programs."


def is_ours(path: bytes, program: bytes = b"") -> bool:
    """Whether `path` is a launcher we generated, and for `program` if that is given.

    False when it is missing or may not be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(_WHOLE_BYTES) or b""
    except OSError:
        return False  # missing, a directory, execute-only: not ours, so exec decides what becomes of it
    if MARKER not in text[:_LOOK_AT_BYTES]:
        return False
    _, names_one, rest = text.partition(_STARTS)
    return not (program and names_one) or rest.split(b" ", 1)[0].rstrip(b"_") == program.replace(b"-", b"_")
