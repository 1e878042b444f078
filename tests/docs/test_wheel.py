"""What an installed wheel has besides the package: man pages, where man(1) looks for them."""

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_man_page_is_installed_into_the_directory_of_its_section() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    pages = {f"man/{path.name}": path for path in (REPOSITORY / "man").iterdir()}
    assert listed == {name: f"share/man/man{path.suffix[1:]}/{path.name}" for name, path in pages.items()}


def test_every_man_page_has_the_footer_and_the_title_of_its_section() -> None:
    """So that `man` shows them as one manual: see man(7), .TH."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    manuals = {
        ".1": "General Commands Manual",
        ".5": "File Formats Manual",
        ".7": "Miscellaneous Information Manual",
        ".8": "System Manager's Manual",
    }
    for path in (REPOSITORY / "man").iterdir():
        (title,) = [line for line in path.read_text().splitlines() if line.startswith(".TH ")]
        name, section, _date, rest = title.removeprefix(".TH ").split(" ", 3)
        assert (name, "." + section) == (path.stem, path.suffix)
        assert rest == f'"notqmail {version}" "{manuals[path.suffix]}"', path.name
