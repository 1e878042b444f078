"""Programs without --help, by their contract: what they are given is an address or a text, whatever it says."""

NO_HELP = frozenset({"bouncesaying", "forward", "qmail-getpw", "qreceipt"})
