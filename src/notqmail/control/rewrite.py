"""Where a recipient goes: qmail-send's envelope rewriting (qmail-send(8)). Pure.

The order is the contract: a domain is added to an address without one, percent signs are undone, `locals` is
asked, then `virtualdomains`. Names are compared without regard to ASCII case and kept as they were written.
"""

from notqmail.control.files import Missing, colon_map, entries, line_or_me, name_set, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from notqmail.control.files import ReadControl

LOCAL = b"local"
REMOTE = b"remote"


class Routing:
    """The values of `locals`, `virtualdomains`, `percenthack` and `envnoathost`, ready to be asked.

    `local_domains` and `percent_domains` are lines of list files; `virtual_domains` maps keys in lower case
    to prefixes (`colon_map`). Never changes: a HUP makes a new one with `reread`.
    """

    __slots__ = ("_default_host", "_local_domains", "_percent_domains", "_virtual_domains")

    def __init__(
        self, *, local_domains: "Iterable[bytes]", virtual_domains: "Mapping[bytes, bytes]",
        percent_domains: "Iterable[bytes]", default_host: bytes,
    ) -> None:  # fmt: skip
        self._local_domains = name_set(local_domains)
        self._virtual_domains = virtual_domains
        self._percent_domains = name_set(percent_domains)
        self._default_host = default_host

    def route(self, recipient: bytes) -> tuple[bytes, bytes]:
        """(LOCAL or REMOTE, the address that goes into the queue's local/ or remote/ file)."""
        box, at, domain = recipient.rpartition(b"@")
        if not at:
            box, domain = recipient, self._default_host
        while domain.lower() in self._percent_domains:
            before, percent, after = box.rpartition(b"%")
            if not percent:
                break
            box, domain = before, after
        address = box + b"@" + domain
        if domain.lower() in self._local_domains:
            return LOCAL, address
        if self._virtual_domains:
            prefix = self._virtual_domains.get(address.lower())
            if prefix is None:
                prefix = self._domain_prefix(domain)
            if prefix:
                return LOCAL, prefix + b"-" + address
        return REMOTE, address

    def strip_virtual_prefix(self, address: bytes) -> bytes:
        """The address as its sender knew it, for bounces: without the prefix that `virtualdomains` gave it.

        Entries for a whole `user@domain` are not looked at (so their prefix stays), as in qmail: the key that
        led here cannot be known from the result.
        """
        _box, at, domain = address.rpartition(b"@")
        if not at or not self._virtual_domains:
            return address
        prefix = self._domain_prefix(domain)
        return address.removeprefix(prefix + b"-") if prefix else address

    def reread(self, read: "ReadControl") -> "Routing":
        """What HUP asks for: `locals` and `virtualdomains` anew, the rest as it was.

        Raises Missing, Unreadable: the old tables stay in force.
        """
        return Routing(
            local_domains=_local_domains(read),
            virtual_domains=colon_map(entries(read, "virtualdomains") or ()),
            percent_domains=self._percent_domains,
            default_host=self._default_host,
        )

    def _domain_prefix(self, domain: bytes) -> bytes:
        """The value of the first key there is: the domain, its suffixes from each dot on, the empty key.

        b"" when there is none: no prefix, like the empty value of an exception.
        """
        found = self._virtual_domains.get
        domain = domain.lower()
        prefix = found(domain)
        dot = domain.find(b".", 1)
        while prefix is None and dot != -1:
            prefix = found(domain[dot:])
            dot = domain.find(b".", dot + 1)
        return found(b"", b"") if prefix is None else prefix


def routing_from_controls(read: "ReadControl") -> Routing:
    """Reads all four files. Raises Missing without `locals` and `me`, Unreadable when one cannot be read."""
    return Routing(
        local_domains=_local_domains(read),
        virtual_domains=colon_map(entries(read, "virtualdomains") or ()),
        percent_domains=entries(read, "percenthack") or (),
        default_host=line_or_me(read, "envnoathost", b"envnoathost"),
    )


def _local_domains(read: "ReadControl") -> list[bytes]:
    """The lines of `locals`; without that file the host named in `me` is the only local one."""
    lines = entries(read, "locals")
    if lines is not None:
        return lines
    name = one_line(read, "me")
    if name is None:
        raise Missing("locals")
    return [name]
