"""The commands of docs/how-to/move-a-site.md, typed into a home as C leaves it. See test_commands.py."""

import re
import subprocess
import sys
from pathlib import Path

from adopt_homes import NETQMAIL, PLENTY, lay_home, lay_message, lay_start, tree

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "how-to" / "move-a-site.md"


def test_moving_a_site(short_path: Path) -> None:
    home = lay_home(short_path / "q", NETQMAIL)
    root = lay_start(short_path / "r", home, PLENTY)
    lay_message(home / "queue", "x\n", sender="a@b.test", todo=["c@mail.test"], intd=True)
    before = tree(home)
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 4
    script = "\n".join(blocks).replace("/opt/notqmail/bin/notqmail adopt", f"notqmail adopt --root {root}")
    script = script.replace("/var/qmail", str(home)).replace(
        "notqmail adopt", f"{sys.executable} -m notqmail.admin adopt"
    )
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", script], cwd=short_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is ours. Start it as you always do" in done.stdout
    assert tree(home) == before
