"""A bound on what a resident may take of the machine: if its other limits fail, it hurts itself and no neighbour."""

import resource

RESIDENT_BYTES = 2 * 1024**3  # far above what its other limits let it need


def limit_memory(size: int) -> None:
    """From now on this process (and what it starts) may have so many bytes of data; 0: as many as it could before.

    Only ever lowers the soft limit. Beyond it Python raises MemoryError. Threads' stacks and the heap count,
    mapped files and programs do not (RLIMIT_DATA, setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if size and (soft == resource.RLIM_INFINITY or size < soft):
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
