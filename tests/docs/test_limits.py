"""qmail-limits(7) and the source agree: each limit there exists, has that value, and no new one is forgotten."""

import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "man" / "qmail-limits.7").read_text().replace("\\-", "-")
LIMITS = re.findall(r"(?m)^\.TP\n(.*): ([0-9]+|no limit)\n((?:(?!^\.TP|^\.SS|^\.SH).*\n)*)", PAGE)
WATCHED = (
    "policy/limits", "wire/smtp_server", "wire/command_lines", "receive/queue_callers", "receive/queue_serve",
    "deliver/routes", "queue/layout",
)  # fmt: skip
# Sizes of our own steps, which nobody outside can reach.
NOT_LIMITS = {"BATCH_MAX", "QUEUE_TEXT_MAX"}


def named(text: str) -> list[tuple[str, str]]:
    return re.findall(r"([a-z0-9_]+/[a-z0-9_]+) : ([A-Z_]+)", text)


@pytest.mark.parametrize(("title", "value", "text"), LIMITS, ids=[f"{title}: {value}" for title, value, _ in LIMITS])
def test_the_page_says_what_the_source_says(title: str, value: str, text: str) -> None:
    constants = named(text)
    assert constants or "control/" in text, "each limit says where it is set"
    for module, constant in constants:
        assert getattr(importlib.import_module("notqmail." + module.replace("/", ".")), constant) == int(value)


def test_every_limit_of_these_modules_is_on_the_page() -> None:
    shown = {constant for _, _, text in LIMITS for constant in named(text)}
    assert len(shown) > 30
    for module in WATCHED:
        found = vars(importlib.import_module("notqmail." + module.replace("/", ".")))
        defined = set(
            re.findall(r"(?m)^([A-Z_]+_MAX)(?::.*)? = ", (REPOSITORY / f"src/notqmail/{module}.py").read_text())
        )
        lacking = {name for name in defined & set(found) if (module, name) not in shown and name[0] != "_"}
        assert lacking - NOT_LIMITS == set(), module


def test_the_queue_lifetime_is_the_default() -> None:
    from notqmail.control.send_settings import SendSettings

    settings = SendSettings(lambda name: b"mail.test\n" if name == "me" else None)
    assert f"seconds in the queue: {settings.lifetime_s}" in PAGE
