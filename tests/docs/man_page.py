"""A man page as its text says: its sections, the names in them, the pages that it refers to."""

import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATHS = sorted((REPOSITORY / "man").glob("*.[1-9]"))
CONTROL, ENVIRONMENT, EXIT = "CONTROL FILES", "ENVIRONMENT", "EXIT CODES"
_FONTS = r"\.(?:[BIR]{1,2}|SB)\s+"


def plain(text: str) -> str:
    """A line of roff, or several, as read: no fonts, no escapes, no quotes of arguments."""
    text = re.sub(r"(?m)^\.(?:[BIR]{1,2}|SB) (.*)$", lambda found: _joined(found[0]), text)
    text = re.sub(r"\\f.|\\&", "", text.replace("\\-", "-"))
    return re.sub(r"(?m)^\.\w+.*\n?", "", text)


def _joined(line: str) -> str:
    macro, rest = line.split(" ", 1)
    words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', rest)]
    return ("" if len(macro) == 3 else " ").join(words)


class ManPage:
    """One page; a section that it does not have is empty."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.number = path, path.stem, path.suffix[1:]
        self.text = path.read_text()
        self._sections = dict(re.findall(r'(?ms)^\.SH "?([^"\n]+)"?\n(.*?)(?=^\.SH|\Z)', self.text))

    def section(self, title: str) -> str:
        """As it is written, in roff."""
        return str(self._sections.get(title, ""))

    def tags(self, title: str) -> list[str]:
        """What the section explains one by one, in its order: the words of its tags."""
        lines = re.findall(r"(?m)^\.TP.*\n(.*)$", self.section(title))
        return [word for line in lines for word in re.split(r"[,\s]+", plain(line).strip()) if word]

    def words(self, title: str) -> set[str]:
        """Every word there, in running text too."""
        return set(re.findall(r"[\w.]*\w", plain(self.section(title))))

    def see_also(self) -> list[tuple[str, str]]:
        """The pages, by name and number, that SEE ALSO names."""
        return re.findall(r"([\w.-]+)\((\d)\)", plain(self.section("SEE ALSO")))

    def sections_of(self, title: str) -> "list[ManPage]":
        """The pages whose section of this name counts here too: this one's says `those of`, `see`, or the like."""
        flat = " ".join(plain(self.section(title)).split())
        named = re.findall(r"(?i)(?:those of|what|see|all of) ([\w-]+) ?(?:\(\d\))?", flat)
        return [pages()[name] for name in named if name in pages() and name != self.name]


@cache
def pages() -> dict[str, ManPage]:
    """All pages by name."""
    return {path.stem: ManPage(path) for path in PATHS}


def said(page: ManPage, title: str) -> set[str]:
    """The words of a section and of the sections that it refers to."""
    found, asked, waiting = set(), set(), [page]
    while waiting:
        here = waiting.pop()
        if here.name not in asked:
            asked.add(here.name)
            found |= here.words(title)
            waiting += here.sections_of(title)
    return found
