"""The options of a resident that listens: what `qmail-smtpd --listen` and its like were asked to be."""

from notqmail.policy.limits import CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX
from notqmail.unix.memory import RESIDENT_BYTES

BACKLOG = 512  # connections the kernel keeps until we accept them


class BadOptions(Exception):
    """str() says which argument is wrong and why."""


class ListenOptions:
    """`addresses` are (address, port) pairs; `rules` is the path of a tcprules cdb, `user` an account, or None.
    `memory_bytes` 0 is no limit."""

    __slots__ = ("addresses", "backlog", "limit", "limit_per_address", "memory_bytes", "rules", "user")

    def __init__(self) -> None:
        self.addresses: list[tuple[str, int]] = []
        self.backlog = BACKLOG
        self.limit, self.limit_per_address = CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX
        self.memory_bytes = RESIDENT_BYTES
        self.rules: bytes | None = None
        self.user: str | None = None


def listen_options(arguments: list[str]) -> ListenOptions:
    """Reads `--name value` and `--name=value`. Raises BadOptions."""
    options = ListenOptions()
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in _OPTIONS:
            raise BadOptions(f"unknown argument {name}")
        if not equals:
            if not rest:
                raise BadOptions(f"{name} needs a value")
            value = rest.pop(0)
        _OPTIONS[name](options, name, value)
    if not options.addresses:
        raise BadOptions("--listen ADDRESS:PORT is missing")
    return options


def _add_address(options: ListenOptions, name: str, value: str) -> None:
    address, colon, port = value.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    if not colon or not address or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise BadOptions(f"{name} {value}: not ADDRESS:PORT")
    options.addresses.append((address, int(port)))


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= 1_000_000:
        raise BadOptions(f"{name} {value}: not a number from 1 to 1000000")
    return int(value)


def _set_limit(options: ListenOptions, name: str, value: str) -> None:
    options.limit = _number(name, value)


def _set_limit_per_address(options: ListenOptions, name: str, value: str) -> None:
    options.limit_per_address = _number(name, value)


def _set_backlog(options: ListenOptions, name: str, value: str) -> None:
    options.backlog = _number(name, value)


def _set_memory(options: ListenOptions, name: str, value: str) -> None:
    options.memory_bytes = 0 if value == "0" else _number(name, value) * 1024 * 1024


def _set_rules(options: ListenOptions, name: str, value: str) -> None:
    if not value:
        raise BadOptions(f"{name} needs a file")
    options.rules = value.encode("utf-8", "surrogateescape")


def _set_user(options: ListenOptions, name: str, value: str) -> None:
    if not value:
        raise BadOptions(f"{name} needs an account")
    options.user = value


_OPTIONS = {
    "--listen": _add_address, "--rules": _set_rules, "--limit": _set_limit, "--backlog": _set_backlog,
    "--limit-per-address": _set_limit_per_address, "--user": _set_user,
    "--memory": _set_memory,
}  # fmt: skip
