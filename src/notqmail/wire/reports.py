"""The answer to an attempt: success, temporary or permanent, and a text for people.

Between qmail's programs the kind is one letter, K, Z or D (qmail-rspawn(8), QMQP). An answer of unknown kind
counts as temporary: mail waits rather than gets lost.
"""

SUCCESS = b"K"
TEMPORARY = b"Z"
PERMANENT = b"D"


class Report:
    """One answer. `kind` is SUCCESS, TEMPORARY or PERMANENT; `text` may have several lines, no final newline needed."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: bytes, text: bytes = b"") -> None:
        self.kind, self.text = kind, text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))

    def __repr__(self) -> str:
        return f"Report({self.kind!r}, {self.text!r})"

    @property
    def succeeded(self) -> bool:
        """Whether the work is done and need not be tried again."""
        return self.kind == SUCCESS

    def encode(self) -> bytes:
        """Letter and text, as the pipes and QMQP carry them."""
        return self.kind + self.text


def success(text: bytes = b"") -> Report:
    """K: done."""
    return Report(SUCCESS, text)


def temporary(text: bytes) -> Report:
    """Z: try again later."""
    return Report(TEMPORARY, text)


def permanent(text: bytes) -> Report:
    """D: never try again."""
    return Report(PERMANENT, text)


def decode_report(data: bytes) -> Report:
    """The inverse of `Report.encode`; anything that starts with no known letter is temporary, kept whole."""
    if data[:1] in (SUCCESS, TEMPORARY, PERMANENT):
        return Report(data[:1], data[1:])
    return Report(TEMPORARY, data)
