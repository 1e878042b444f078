"""A whole site (site_layout.py): each message of site_table.txt goes to all the places it names, and to no other."""

from collections import Counter

import pytest
from site_house import build, cases, find, made_system, next_host, rest, send

pytestmark = pytest.mark.root


@pytest.mark.parametrize("users", [True, False], ids=["users/assign", "the password file"])
def test_every_message_is_in_its_places_and_nowhere_else(users: bool) -> None:
    table = [case for case in cases() if users or case.part != "users/"]
    expected = Counter(f"{case.token} {copy}" for case in table for copy in case.copies)
    with made_system() as system, next_host() as host:
        build(system, host.server_address[1], users=users)
        system.start()
        found = [line for case in table for line in send(system, case)]
        rest(system, sum(copy.startswith("queued ") for case in table for copy in case.copies))
        found += find(system, host)
        assert system.stop() == [0, 0, 0]
    names = {case.token: f"{case.way} {case.sender} {case.recipient}" for case in table}
    lacking = [f"{names[line.split()[0]]}: {line}" for line in expected - Counter(found)]
    too_many = [f"{names[line.split()[0]]}: {line}" for line in Counter(found) - expected]
    assert (lacking, too_many) == ([], [])
