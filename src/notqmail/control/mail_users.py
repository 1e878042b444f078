"""The password file -> lines for users/assign (qmail-pw2u(8), qmail-users(5)). Pure: who owns a home is asked.

Lines that are no account (fewer than seven fields, a NUL byte) are passed over, as are accounts that must not get
mail: root, names with capital letters, those whose home is not theirs, and what users/include and users/exclude say.
"""

from notqmail.control.files import colon_map, entries, leading_digits, name_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from notqmail.control.files import ReadControl

    Owner = Callable[[bytes], int | None]  # a directory's uid, None when there is no such directory; raises Unusable

ALIAS = b"alias"
SKIP_MISSING, STOP_AT_MISSING, ANY_HOME = b"o", b"h", b"H"  # the options' letters
_CAPITALS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Unusable(Exception):
    """No assignments can be made of this; `text` says why."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class Rules:
    """What the options and the files in users/ say."""

    __slots__ = ("break_char", "capitals", "dash", "excluded", "homes", "included", "mail_names")

    def __init__(self, *, homes: bytes = SKIP_MISSING, dash: bytes = b"-", break_char: bytes = b"-") -> None:
        """`homes`: what a missing home means. `break_char`: between user and extension, nothing for no extensions."""
        self.homes, self.dash, self.break_char = homes, dash, break_char
        self.capitals = False
        self.included: frozenset[bytes] | None = None
        self.excluded: frozenset[bytes] = frozenset()
        self.mail_names: dict[bytes, bytes] = {}

    def read(self, read: "ReadControl") -> None:
        """Takes in users/include, exclude and mailnames; `read` finds them."""
        included = entries(read, "include")
        self.included = None if included is None else name_set(included)
        self.excluded = name_set(entries(read, "exclude") or ())
        self.mail_names = colon_map(entries(read, "mailnames") or ())

    def wants(self, user: bytes) -> bool:
        """Whether the account is to get mail, by its name."""
        if not self.capitals and not _CAPITALS.isdisjoint(user):
            return False
        if self.included is not None and user.lower() not in self.included:
            return False
        return user.lower() not in self.excluded

    def names(self, user: bytes) -> list[bytes]:
        """The names under which the account gets mail, which may be none."""
        return [name for name in self.mail_names.get(user.lower(), user).split(b":") if name]


class Assignments:
    """Give `accounts` the password file, then `sub_users` the lines of users/subusers; both give lines to print."""

    __slots__ = ("_owner", "_rules", "_users")

    def __init__(self, rules: Rules, owner: "Owner") -> None:
        self._rules, self._owner = rules, owner
        self._users: dict[bytes, bytes] = {}

    def accounts(self, lines: "Iterable[bytes]") -> "Iterator[bytes]":
        """Raises Unusable, at the end also when the account `alias` was not there: its mail would have no place."""
        has_alias = False
        for line in lines:
            fields = line.split(b":", 6)
            if len(fields) < 7 or b"\0" in line:
                continue
            user, uid, gid, home = fields[0], fields[2], fields[3], fields[5]
            if not self._wanted(user, leading_digits(uid) or 0, home):
                continue
            account = b":".join((b"", user, uid, gid, home, b""))
            self._users[user.lower()] = account
            dash = self._rules.dash
            if user == ALIAS:
                has_alias = True
                yield b"+" + account + dash + b"::\n"
            for name in self._rules.names(user):
                yield b"=" + name + account + b"::\n"
                if self._rules.break_char:
                    yield b"+" + name + self._rules.break_char + account + dash + b"::\n"
        if not has_alias:
            raise Unusable(b"unable to find " + ALIAS + b" user")

    def sub_users(self, lines: "Iterable[bytes]") -> "Iterator[bytes]":
        """Addresses that another account controls, by its files .qmail-PREFIX. Raises Unusable."""
        for line in lines:
            fields = line.split(b":", 3)
            if len(fields) < 4:
                if len(fields) == 3:
                    self._account_of(fields[1])  # a name nobody has is said, even in a line without effect
                continue
            sub, user, prefix, _ = fields
            account, dash, break_char = self._account_of(user), self._rules.dash, self._rules.break_char
            yield b"=" + sub + account + dash + b":" + prefix + b":\n"
            if break_char:
                yield b"+" + sub + break_char + account + dash + b":" + prefix + b"-:\n"

    def _account_of(self, user: bytes) -> bytes:
        account = self._users.get(user.lower())
        if account is None:
            raise Unusable(b"unable to find " + user + b" user for subuser")
        return account

    def _wanted(self, user: bytes, uid: int, home: bytes) -> bool:
        if not uid or not self._rules.wants(user):
            return False
        if self._rules.homes == ANY_HOME:
            return True
        owner = self._owner(home)
        if owner is None and self._rules.homes == STOP_AT_MISSING:
            raise Unusable(b"unable to stat " + home)
        return owner == uid
