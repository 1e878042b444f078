"""How many files a process may have open (setrlimit(2), RLIMIT_NOFILE)."""

import resource


def allow_many_open_files() -> int:
    """Raises the soft limit to the hard one, which needs no right; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft  # some systems say "infinity" and do not mean it
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
