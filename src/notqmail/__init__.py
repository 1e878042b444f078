"""notqmail in Python: a mail transfer agent with qmail's interfaces.

The folders are the chapters of a message's way; docs/journey.md walks it.
"""

__version__ = "0.1.0"
