"""Manual and code name the same control files, environment variables and exit codes, program by program, both ways."""

import re
from functools import cache

import pytest
from code_facts import ExitCodes, control_files, texts, variables
from man_page import CONTROL, ENVIRONMENT, EXIT, ManPage, pages, plain, said
from reached_code import Node, reached

from notqmail.admin.launchers import module_name, program_names

PROGRAMS = program_names()
ALL = [*PROGRAMS, "notqmail"]
OF_ALL = "LC_CTYPE"  # unix.mains: in qmail(7)

# What the code names and the page need not, or the other way round; each with its reason.
NOT_READ = {
    "qmail-pw2u": ({"include", "exclude", "mailnames"}, "these are in users/, and under FILES"),
    "qmail-showctl": ({"me", "morercpthosts", "rcpthosts"}, "it shows every file, and obeys none"),
}
NOT_VARIABLES = {
    "datemail": ({"PATH"}, "what it runs is named with its directory"),
    "mailsubj": ({"PATH"}, "what it runs is named with its directory"),
    "notqmail": ({"TMPDIR"}, "no message is handed over: it asks whether somebody takes one"),
    "qmail-pop3d": ({"USER"}, "a word of POP3"),
    "qmail-popup": ({"USER"}, "a word of POP3"),
    "qmail-smtpd": ({"MAIL"}, "a word of SMTP"),
    "tcp-env": ({"HOST", "LOCAL"}, "pieces of names"),
}
BUILT = {
    "qmail-inject": (
        {"QMAILDEFAULTDOMAIN", "QMAILDEFAULTHOST", "QMAILPLUSDOMAIN", "QMAILIDHOST"}, "QMAIL and the file's name",
    ),
    "tcp-env": (
        {f"TCP{side}{what}" for side in ("LOCAL", "REMOTE") for what in ("HOST", "IP", "PORT")}, "of pieces",
    ),
    "qmail-lfilter": ({"localfilters"}, "the name is with the place, deliver/filters"),
    "qmail-rfilter": ({"remotefilters"}, "the name is with the place, deliver/filters"),
}  # fmt: skip
FILTERS_END = {51, 52, 53, 54, 81, 91}
NOT_ITS_CODES = {
    "qmail-lfilter": (FILTERS_END, "become a report"),
    "qmail-rfilter": (FILTERS_END, "become a report"),
    "datemail": ({100}, "predate's, for a call without a program"),
    "qmail-lspawn": ({112, 115, 116, 117, 118}, "of a lookup, which become a report"),
}


def code_of(program: str) -> frozenset[Node]:
    if program == "notqmail":  # but for `adopt`, which speaks of other programs' settings
        found = reached("notqmail.admin.main", "main", "run")
        return frozenset(node for node in found if not node[0].startswith("notqmail.admin.adopt"))
    return reached(f"notqmail.programs.{module_name(program)}", "main", "start")


def exit_codes_of(program: str) -> ExitCodes:
    if program == "notqmail":
        return ExitCodes("notqmail.admin.main", "run")
    return ExitCodes(f"notqmail.programs.{module_name(program)}")


@cache
def known(title: str) -> frozenset[str]:
    """Every name that a page explains under this title, or that a program uses in the plain way."""
    explained = {tag.removeprefix("control/") for page in pages().values() for tag in page.tags(title)}
    used = {
        name
        for program in PROGRAMS
        for name in (variables if title == ENVIRONMENT else control_files)(code_of(program))
    }
    return frozenset(explained | used)


def excused(table: dict[str, tuple[set, str]], program: str) -> set:
    return table.get(program, (set(), ""))[0]


def lacking(page: ManPage, title: str, names: set[str]) -> set[str]:
    words = said(page, title)
    return {name for name in names if name not in words and f"control/{name}" not in words}


@pytest.mark.parametrize("program", ALL)
def test_control_files_that_are_read_are_in_the_page(program: str) -> None:
    read = control_files(code_of(program)) - excused(NOT_READ, program)
    assert lacking(pages()[program], CONTROL, read) == set()


@pytest.mark.parametrize("program", ALL)
def test_control_files_in_the_page_are_read(program: str) -> None:
    named = {tag.removeprefix("control/") for tag in pages()[program].tags(CONTROL)}
    assert named - control_files(code_of(program)) - excused(BUILT, program) == set()


def test_control_files_of_all_pages_are_in_the_table() -> None:
    """qmail-control(5) has a line for each, which names each program that has it in its page; and no other."""
    rows = re.findall(r"(?m)^([a-z][a-z.]*)\t[^\t]*\t[^\t]*\t(?:T\{\n)?(.*)$", pages()["qmail-control"].text)
    table = {(name, reader) for name, readers in rows for reader in re.findall(r"[a-z][a-z0-9-]+", readers)}
    assert len(table) > 40
    explained = {
        (tag.removeprefix("control/"), program) for program in PROGRAMS for tag in pages()[program].tags(CONTROL)
    }
    by_reference = {(name, "qmail-rspawn") for name, program in explained if program == "qmail-remote"}
    not_settings = {("morercpthosts.tmp", "qmail-newmrh"), ("morercpthosts.cdb", "qmail-newmrh")}
    named = {(name, reader) for name, reader in explained | by_reference if name != "me"} - not_settings
    assert named == {(name, reader) for name, reader in table if name != "me" and reader in PROGRAMS}


@pytest.mark.parametrize("program", ALL)
def test_variables_that_are_used_are_in_the_page(program: str) -> None:
    code = code_of(program)
    used = variables(code) | (texts(code) & known(ENVIRONMENT))
    assert lacking(pages()[program], ENVIRONMENT, used - {OF_ALL} - excused(NOT_VARIABLES, program)) == set()


@pytest.mark.parametrize("program", ALL)
def test_variables_in_the_page_are_used(program: str) -> None:
    code = code_of(program)
    assert set(pages()[program].tags(ENVIRONMENT)) - variables(code) - texts(code) - excused(BUILT, program) == set()


@pytest.mark.parametrize("program", ALL)
def test_exit_codes_that_are_given_are_in_the_page(program: str) -> None:
    codes = exit_codes_of(program)
    given = set(codes.all) - excused(NOT_ITS_CODES, program)
    if re.match(r"(?:After \S.*, )?[Tt]h(?:at|ose) of\s", plain(pages()[program].section(EXIT))):
        given.discard(0)  # another program's codes, success among them
    assert {str(code) for code in given} - said(pages()[program], EXIT) == set()


@pytest.mark.parametrize("program", ALL)
def test_exit_codes_in_the_page_are_given(program: str) -> None:
    codes = exit_codes_of(program)
    named = {int(tag) for tag in pages()[program].tags(EXIT) if tag.isdigit()}
    assert named - codes.all == set()


def test_every_excuse_is_needed() -> None:
    """What no longer differs is to be taken out of the tables above."""
    for program, (names, _) in NOT_READ.items():
        assert names <= lacking(pages()[program], CONTROL, control_files(code_of(program))), program
    for program, (names, _) in NOT_VARIABLES.items():
        code = code_of(program)
        assert names <= lacking(pages()[program], ENVIRONMENT, variables(code) | texts(code)), program
    for program, (names, _) in BUILT.items():
        code = code_of(program)
        assert names & (control_files(code) | variables(code)) <= {"TCPREMOTEINFO"}, program
    for program, (codes, _) in NOT_ITS_CODES.items():
        said_there = said(pages()[program], EXIT)
        assert {code for code in codes if str(code) not in said_there} <= exit_codes_of(program).all, program
        assert {str(code) for code in codes} - said_there, program
