"""What `notqmail queue check` finds, and what the repair makes of it, on real directories laid out by hand."""

import errno
import os
import stat
from pathlib import Path

import pytest

from notqmail.admin.queue_plan import FAULT, HOPELESS, NOTE, by_what
from notqmail.admin.queue_renumber import arrive
from notqmail.admin.queue_repair import Repair
from notqmail.admin.queue_survey import MOVING, content_fault, survey
from notqmail.admin.queue_target import Target
from notqmail.admin.queue_tree import Aspect, QueueTree
from notqmail.queue.layout import CLEANUP_AGE_S, create_queue
from notqmail.unix.accounts import GROUPS, USERS, Accounts

ME = Accounts(True, dict.fromkeys(USERS, os.geteuid()), dict.fromkeys(GROUPS, os.getegid()))
NOW_S = 1_800_000_000
OURS, BIG = Target(), Target(31, big_todo=True)
CONTENTS = {
    "todo": b"u1\0p2\0Fs@x\0Ta@b\0", "info": b"Fs@x\0", "local": b"Ta@b\0", "remote": b"Da@b\0Tc@d\0",
    "bounce": b"<a@b>:\nno\n",
}  # fmt: skip


class House:
    """A home with a queue; `message` lays one out."""

    def __init__(self, path: Path) -> None:
        self.home, self.queue = path, path / "queue"
        create_queue(bytes(path), ME)

    def message(self, kinds: str, *, called: int | None = None, target: Target = OURS, age_s: int = 0) -> int:
        """With files of these kinds; its number. `called`: the name that the files get instead."""
        new = self.queue / "pid/new"
        new.write_bytes(b"mail")
        os.chmod(new, 0o644)
        os.utime(new, (NOW_S - age_s, NOW_S - age_s))
        number = new.stat().st_ino
        name = number if called is None else called
        new.rename(self.place(target, "mess", name))
        for kind in kinds.split():
            self.put(os.fsdecode(target.path(kind.encode(), name)), CONTENTS.get(kind, b"u1\0"))
        return number

    def place(self, target: Target, kind: str, number: int) -> Path:
        path = self.queue / os.fsdecode(target.path(kind.encode(), number))
        path.parent.mkdir(exist_ok=True)
        return path

    def put(self, path: str, data: bytes) -> None:
        (self.queue / path).parent.mkdir(exist_ok=True)
        (self.queue / path).write_bytes(data)
        os.chmod(self.queue / path, 0o644 if path.startswith(("mess", "todo", "intd", "pid")) else 0o600)

    def repair(self, target: Target = OURS, *, with_strange: bool = False) -> Repair:
        return Repair(QueueTree(bytes(self.queue)), target, ME, NOW_S, with_strange=with_strange)

    def found(self, target: Target = OURS) -> list[tuple[str, str, str]]:
        """path, what is wrong, how bad."""
        findings = self.repair(target).look().findings
        return sorted((os.fsdecode(one.path), one.what, one.weight) for one in findings)

    def files(self) -> set[str]:
        """Of messages."""
        kinds = ("mess", "intd", "todo", "info", "local", "remote", "bounce", "pid")
        return {str(path.relative_to(self.queue)) for kind in kinds for path in (self.queue / kind).rglob("*")
                if not path.is_dir()}  # fmt: skip

    def lost(self) -> set[str]:
        return {path.name for path in self.home.glob("lost+found/*")}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def paths(number: int, kinds: str, target: Target = OURS) -> set[str]:
    return {os.fsdecode(target.path(kind.encode(), number)) for kind in kinds.split()}


@pytest.mark.parametrize(
    ("kinds", "notes"),
    [
        ("", []), ("intd", []), ("todo", []), ("todo intd", []), ("info local", []), ("info remote bounce", []),
        ("info local remote", []), ("info", ["nobody waits for the message any more: qmail-send will end it"]),
        ("local bounce", []),  # what a power cut may leave at the end
    ],
)  # fmt: skip
def test_every_legal_state_is_sound(house: House, kinds: str, notes: list[str]) -> None:
    number = house.message(kinds)
    assert [(what, weight) for _, what, weight in house.found()] == [(note, NOTE) for note in notes]
    plan = house.repair().look()
    assert plan.faults == 0 and plan.messages == 1 and not plan.has_work
    assert house.files() == paths(number, "mess " + kinds)


def test_an_empty_queue_is_sound(house: House) -> None:
    assert house.found() == []
    assert house.repair().run() == []
    assert not (house.home / "lost+found").exists()


STRAY = "there is no message file of this number"
OLD = "neither todo nor info say who it is for, and nobody has touched it for 36 hours"


@pytest.mark.parametrize("kind", ["intd", "todo", "info", "local", "remote", "bounce"])
def test_what_has_no_message_is_put_away(house: House, kind: str) -> None:
    (path,) = paths(457, kind)
    house.put(path, CONTENTS.get(kind, b""))
    assert house.found() == [(path, STRAY, FAULT)]
    assert house.repair().run() == []
    assert house.files() == set() and house.lost() == {path.replace("/", "-")}


@pytest.mark.parametrize(("age_s", "goes"), [(CLEANUP_AGE_S - 1, False), (CLEANUP_AGE_S, True)])
@pytest.mark.parametrize("kinds", ["", "intd", "local remote bounce"])
def test_what_nobody_accepted_is_put_away_after_36_hours_and_not_deleted(
    house: House, kinds: str, age_s: int, goes: bool
) -> None:
    number = house.message(kinds, age_s=age_s)
    all_of_it = paths(number, "mess " + kinds)
    assert house.found() == [(path, OLD, FAULT) for path in sorted(all_of_it) if goes]
    house.repair().run()
    assert house.files() == (set() if goes else all_of_it)
    assert house.lost() == ({path.replace("/", "-") for path in all_of_it} if goes else set())


def test_a_dead_writer_s_file_goes_and_a_living_one_s_stays(house: House) -> None:
    for name, age_s in (("1.2.3", CLEANUP_AGE_S), ("4.5.6", CLEANUP_AGE_S - 1)):
        house.put(f"pid/{name}", b"half")
        os.utime(house.queue / "pid" / name, (NOW_S - age_s, NOW_S - age_s))
    assert house.repair().run() == []
    assert house.files() == {"pid/4.5.6"} and house.lost() == {"pid-1.2.3"}


def test_a_half_settled_message_is_settled_back(house: House) -> None:
    number = house.message("todo intd info local bounce")
    assert {(what, weight) for _, what, weight in house.found()} == {("half settled: qmail-send will do it over", NOTE)}
    assert house.repair().run() == []
    assert house.files() == paths(number, "mess todo intd")


def test_what_belongs_to_no_state_is_put_away(house: House) -> None:
    number = house.message("info local intd")
    assert house.found() == [(f"intd/{number}", "the message is preprocessed: this is left over", FAULT)]
    house.repair().run()
    assert house.files() == paths(number, "mess info local")


@pytest.mark.parametrize("kinds", ["todo", "todo intd", "info local remote bounce", "info remote", ""])
def test_a_copied_message_gets_the_number_of_its_inode(house: House, kinds: str) -> None:
    number = house.message(kinds, called=4_570_000_000)
    times = {}
    for kind in ("info", "local", "remote"):
        if kind in kinds:
            path = house.place(OURS, kind, 4_570_000_000)
            os.utime(path, (5, 7))
            times[kind] = 7
    ((path, what, weight),) = house.found()
    assert (path, weight) == (os.fsdecode(OURS.path(b"mess", 4_570_000_000)), FAULT)
    assert what == f"its inode number is {number}: copied or restored"
    assert house.repair().run() == []
    assert house.files() == paths(number, "mess " + kinds)
    for kind, modified_s in times.items():
        assert house.place(OURS, kind, number).stat().st_mtime == modified_s, "birth and due time stay"
    assert house.lost() == {"ledger-accepted-current", "ledger-ended-current"}


def test_two_copied_messages_may_have_each_other_s_numbers(house: House) -> None:
    first = house.message("todo")
    second = house.message("info local")
    for kind in ("mess", "todo"):
        house.place(OURS, kind, first).rename(house.place(OURS, kind, 1))
    for kind in ("mess", "info", "local"):
        house.place(OURS, kind, second).rename(house.place(OURS, kind, first))
    for kind in ("mess", "todo"):
        house.place(OURS, kind, 1).rename(house.place(OURS, kind, second))
    assert house.repair().run() == []
    assert house.files() == paths(first, "mess todo") | paths(second, "mess info local")


def test_one_message_file_under_two_numbers_stays_once(house: House) -> None:
    number = house.message("todo")
    os.link(house.place(OURS, "mess", number), house.place(OURS, "mess", 1))
    house.put("todo/1", CONTENTS["todo"])
    why = f"its message file is that of message {number} too"
    assert house.found() == [("mess/1/1", why, FAULT), ("todo/1", why, FAULT)]
    house.repair().run()
    assert house.files() == paths(number, "mess todo") and house.lost() == {"mess-1-1", "todo-1"}


def test_a_second_file_of_a_kind_is_put_away_and_a_second_name_removed(house: House) -> None:
    number = house.message("info local")
    right = f"info/{number % 23}/{number}"
    wrong, other = (f"{kind}/{(number + 1) % 23}/{number}" for kind in ("info", "local"))
    os.link(house.queue / right, house.queue / wrong)
    house.put(other, b"Tother@x\0")
    assert house.found() == [
        (wrong, f"is another name of {right}", FAULT),
        (other, f"the message has local/{number % 23}/{number} already", FAULT),
    ]
    house.repair().run()
    assert house.files() == paths(number, "mess info local") and house.lost() == {other.replace("/", "-")}


@pytest.mark.parametrize("target", [Target(1), Target(17), Target(31), BIG, Target(23, big_todo=True)])
def test_a_queue_moves_to_another_layout_and_back(house: House, target: Target) -> None:
    accepted, settled = house.message("todo intd"), house.message("info local remote bounce")
    ours = house.files()
    empty = {str(path) for path in house.queue.rglob("*") if path.is_dir()}
    assert house.repair(target).run() == []
    assert house.files() == paths(accepted, "mess todo intd", target) | paths(
        settled, "mess info local remote bounce", target
    )
    assert survey(QueueTree(bytes(house.queue))).looks_like() == target
    parts = sum(path.is_dir() for path in (house.queue / "mess").iterdir())
    assert parts == target.split
    assert house.repair(target).look().findings == []
    assert house.repair().run() == []
    assert house.files() == ours
    assert {str(path) for path in house.queue.rglob("*") if path.is_dir()} == empty


def test_an_unsplit_queue_comes_in(house: House) -> None:
    number = house.message("info local")
    for kind in ("mess", "info", "local"):
        house.place(OURS, kind, number).rename(house.queue / kind / str(number))
    assert house.repair().run() == []
    assert house.files() == paths(number, "mess info local")


@pytest.mark.parametrize("name", ["mess/3/core", "mess/3/0457", "todo/1~", "info/readme", "lock/other", "old.todo"])
def test_what_nobody_knows_stays_unless_asked(house: House, name: str) -> None:
    house.put(name, b"?")
    assert house.found() == [(name, "nobody knows what this is", NOTE)]
    assert house.repair().run() == [] and (house.queue / name).exists()
    assert house.repair(with_strange=True).run() == []
    assert not (house.queue / name).exists() and house.lost() == {name.replace("/", "-")}


def test_a_link_is_no_message(house: House) -> None:
    (house.queue / "mess/20/457").symlink_to("/etc/passwd")
    assert house.found() == [("mess/20/457", "nobody knows what this is", NOTE)]


@pytest.mark.parametrize("kinds", ["info local", "info remote", "todo", "info local bounce", "mess todo"])
def test_a_message_of_which_a_part_is_no_file_is_left_to_a_person(house: House, kinds: str) -> None:
    number = house.message(kinds.removeprefix("mess "))
    odd = house.place(OURS, kinds.split()[-1] if kinds[:4] != "mess" else "mess", number)
    odd.rename(house.home / "elsewhere")
    odd.symlink_to(house.home / "elsewhere")
    before = house.files()
    found = [(str(odd.relative_to(house.queue)), f"is no plain file, and message {number} may need it", HOPELESS)]
    assert house.found() == found
    for with_strange in (False, True):
        assert [one.weight for one in house.repair(with_strange=with_strange).run()] == [HOPELESS]
        assert house.files() == before and house.lost() == set()


@pytest.fixture
def out_of_reach(house: House) -> Path:
    """A directory of root's, and at queue/info/7 a link to it of an account of the mail system."""
    place = house.home / "etc"
    place.mkdir(mode=0o711)
    (house.queue / "info/7").rmdir()
    (house.queue / "info/7").symlink_to(place)
    os.chown(house.queue / "info/7", 7_001, 7_001, follow_symlinks=False)
    return place


@pytest.mark.root
def test_a_link_of_a_lesser_account_is_not_followed(house: House, out_of_reach: Path) -> None:
    with pytest.raises(OSError, match="behind a symbolic link of uid 7001: not followed"):
        house.repair().run()
    assert not list(out_of_reach.iterdir()) and stat.S_IMODE(out_of_reach.stat().st_mode) == 0o711


@pytest.mark.root
def test_owners_are_set_on_nothing_behind_a_link_that_has_just_come(house: House, out_of_reach: Path) -> None:
    tree = QueueTree(bytes(house.queue))
    (out_of_reach / "457").write_bytes(b"")
    for path in (b"info/7", b"info/7/457", b"info/7/"):
        with pytest.raises(OSError, match="not followed"):
            tree.settle(path, 7_001, 7_001, 0o777)
    assert (out_of_reach.stat().st_uid, (out_of_reach / "457").stat().st_uid) == (0, 0)


def test_a_part_of_the_queue_may_be_elsewhere_behind_a_link_of_who_repairs_it(house: House) -> None:
    number = house.message("info local")
    (house.queue / "info").rename(house.home / "info")
    (house.queue / "info").symlink_to("../info")
    os.chmod(house.home / "info", 0o755)
    assert house.repair().run() == []
    assert stat.S_IMODE((house.home / "info").stat().st_mode) == 0o700
    assert paths(number, "mess info local") <= house.files() | paths(number, "info")


def test_owners_are_set_by_absolute_paths_too(house: House) -> None:
    (house.home / "new").write_bytes(b"")
    QueueTree().settle(bytes(house.home / "new"), os.geteuid(), None, 0o755)
    QueueTree(bytes(house.home)).settle(b"new", os.geteuid(), None, 0o751)
    assert stat.S_IMODE((house.home / "new").stat().st_mode) == 0o751
    with pytest.raises(FileNotFoundError):
        QueueTree(bytes(house.home)).settle(b"newer", os.geteuid(), None, 0o755)


def test_what_every_queue_has_is_made(house: House) -> None:
    for name in ("trigger", "sendmutex", "tcpto"):
        (house.queue / "lock" / name).unlink()
    for name in ("info/7", "bounce", "pid"):
        (house.queue / name).rmdir()
    assert {path for path, _, _ in house.found()} == {
        "lock/trigger", "lock/sendmutex", "lock/tcpto", "info/7", "bounce", "pid",
    }  # fmt: skip
    assert house.repair().run() == []
    assert stat.S_ISFIFO((house.queue / "lock/trigger").stat().st_mode)
    assert stat.S_IMODE((house.queue / "lock/trigger").stat().st_mode) == 0o622
    assert (house.queue / "lock/tcpto").read_bytes() == bytes(1024)
    assert stat.S_IMODE((house.queue / "info/7").stat().st_mode) == 0o700


def test_what_stands_in_the_place_of_something_is_put_away(house: House) -> None:
    (house.queue / "lock/trigger").unlink()
    house.put("lock/trigger", b"a person pulled this")
    (house.queue / "info/7").rmdir()
    house.put("info/7", b"")
    (house.queue / "lock/tcpto").write_bytes(b"short")
    assert house.repair().run() == []
    assert house.lost() == {"lock-trigger", "info-7", "lock-tcpto"}
    assert stat.S_ISFIFO((house.queue / "lock/trigger").stat().st_mode)


def test_a_directory_in_the_place_of_a_file_wants_a_person(house: House) -> None:
    (house.queue / "lock/sendmutex").unlink()
    (house.queue / "lock/sendmutex").mkdir()
    (left,) = house.repair().run()
    assert (left.path, left.weight) == (b"lock/sendmutex", HOPELESS)


def test_modes_are_put_right(house: House) -> None:
    number = house.message("info local")
    info = house.place(OURS, "info", number)
    os.chmod(info, 0o644)
    os.chmod(house.queue / "mess", 0o777)
    os.chmod(house.queue, 0o755)
    assert [path for path, _, _ in house.found()] == [".", str(info.relative_to(house.queue)), "mess"]
    assert house.repair().run() == []
    assert [stat.S_IMODE(path.stat().st_mode) for path in (info, house.queue / "mess", house.queue)] == [
        0o600, 0o750, 0o750,
    ]  # fmt: skip


@pytest.mark.root
def test_owners_are_put_right_and_a_setuid_queue_s_groups_do_not_matter(tmp_path: Path) -> None:
    house = House(tmp_path)
    number = house.message("info local")
    uids = dict.fromkeys(USERS, 7_000) | {"send": 7_001, "remote": 7_002}
    classic = Accounts(False, uids, dict.fromkeys(GROUPS, 7_100))
    mess = house.place(OURS, "mess", number)
    repair = Repair(QueueTree(bytes(house.queue)), OURS, classic, NOW_S)
    assert repair.run() == []
    owners = {
        str(path.relative_to(house.queue)): (path.stat().st_uid, path.stat().st_gid)
        for path in (mess, house.queue / "info", house.place(OURS, "info", number), house.queue / "lock/tcpto")
    }
    assert owners[str(mess.relative_to(house.queue))] == (7_000, os.getegid())
    assert owners["info"] == (7_001, 7_100) and owners["lock/tcpto"] == (7_002, 7_100)
    assert owners[f"info/{number % 23}/{number}"] == (7_001, os.getegid())
    assert repair.look().findings == []


@pytest.mark.parametrize(
    ("kind", "data", "fault"),
    [
        (b"todo", b"u1\0p2\0Fs\0Tr\0", ""), (b"todo", b"u1\0p2\0Fs\0", ""), (b"todo", b"", "it is empty"),
        (b"todo", b"u1\0p2\0Tr\0", "it has no sender"),
        (b"todo", b"u1\0Fs\0Tr", "its last record is not ended: it has been cut off"),
        (b"todo", b"u1\0Fs\0Xr\0", "it has a record of a kind that nobody knows"),
        (b"todo", b"\0Fs\0", "it has a record of a kind that nobody knows"),
        (b"info", b"F\0", ""), (b"info", b"Fs\0rest", ""), (b"info", b"", "it is empty"),
        (b"info", b"Fs", "it has no sender"), (b"info", b"s\0", "it has no sender"),
        (b"info", b"\0", "it has no sender"),
        (b"local", b"", ""), (b"local", b"Ta\0Db\0", ""),
        (b"remote", b"Ta\0Db", "its last record is not ended: it has been cut off"),
        (b"remote", b"Ta\0Xb\0", "it has a record that is neither T nor D"),
        (b"local", b"\0", "it has a record that is neither T nor D"),
    ],
)  # fmt: skip
def test_what_qmail_send_would_not_understand_is_named(kind: bytes, data: bytes, fault: str) -> None:
    assert content_fault(kind, data) == fault


def test_a_damaged_envelope_wants_a_person_and_stays(house: House) -> None:
    number = house.message("todo")
    house.put(f"todo/{number}", b"")
    (left,) = house.repair().run()
    assert (left.what, left.weight) == ("it is empty", HOPELESS)
    assert house.files() == paths(number, "mess todo")


def test_a_number_that_is_also_a_directory_s_name_wants_a_person(house: House) -> None:
    number = house.message("todo")
    house.repair(BIG).run()
    # As if the inode number were so small.
    os.rename(house.queue / f"todo/{number % 31}", house.queue / f"todo/{number}")
    left = {(os.fsdecode(one.path), one.what) for one in house.repair().run()}
    assert (f"todo/{number}/{number}", f"belongs to todo/{number}, which is a directory") in left
    assert house.files() == {*paths(number, "mess"), f"todo/{number}/{number}"}


def test_the_ledger_is_begun_anew_when_numbers_change_and_only_then(house: House) -> None:
    journal = house.queue / "ledger/accepted/current"
    journal.write_bytes(b"+ 1 2 3\n")
    house.message("todo", target=BIG)
    house.repair().run()
    assert journal.read_bytes() == b"+ 1 2 3\n"
    house.message("todo", called=4_570_000_000)
    house.repair().run()
    assert journal.read_bytes() == b"" and stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert (house.home / "lost+found/ledger-accepted-current").read_bytes() == b"+ 1 2 3\n"


def test_a_home_without_a_ledger_gets_none(house: House) -> None:
    for name in ("accepted", "ended"):
        (house.queue / "ledger" / name / "current").unlink()
        (house.queue / "ledger" / name).rmdir()
    (house.queue / "ledger").rmdir()
    assert house.found() == [] and house.repair().run() == []
    assert not (house.queue / "ledger").exists()


def test_lost_and_found_keeps_both_of_two_with_one_name(house: House) -> None:
    for text in (b"first", b"second"):
        house.put("info/20/457", text)
        house.repair().run()
    assert (house.home / "lost+found/info-20-457").read_bytes() == b"first"
    assert (house.home / "lost+found/info-20-457.1").read_bytes() == b"second"


def test_findings_of_one_sort_are_told_together(house: House) -> None:
    for number in (457, 458):
        house.put(f"info/{number % 23}/{number}", b"")
        house.put(f"local/{number % 23}/{number}", b"")
        house.put(f"local/{number % 23}/x{number}", b"")
    groups = by_what(house.repair().look().findings)
    assert [(found[0].weight, len(found)) for found in groups] == [(FAULT, 4), (NOTE, 2)]


def test_what_is_put_away_when_asked_is_said_so(house: House) -> None:
    house.put("mess/3/core", b"?")
    findings = house.repair(with_strange=True).look().findings
    assert [(one.path, one.what, one.weight) for one in findings] == [
        (b"mess/3/core", "nobody knows what this is", FAULT)
    ]
    assert "lost+found" in findings[0].remedy


def test_an_interrupted_repair_is_named_with_its_messages(house: House) -> None:
    number = house.message("info local")
    for kind in ("mess", "info", "local"):
        house.place(OURS, kind, number).rename(house.queue / kind / f"{number}{MOVING.decode()}")
    (found,) = [one for one in house.repair().look().findings if "interrupted" in one.what]
    assert (found.path, found.what) == (
        b"mess/*" + MOVING, "an interrupted repair was giving 1 messages new numbers"
    )  # fmt: skip
    assert house.repair().run() == []
    assert house.files() == paths(number, "mess info local")


def test_a_table_of_time_outs_of_another_size_is_found(house: House) -> None:
    house.put("lock/tcpto", bytes(1_000))
    os.chmod(house.queue / "lock/tcpto", 0o644)
    ((path, what, _),) = house.found()
    assert (path, what) == ("lock/tcpto", "has 1000 bytes and not 1024")
    assert house.repair().run() == []
    assert (house.queue / "lock/tcpto").read_bytes() == bytes(1_024) and house.found() == []


def test_a_file_in_the_trigger_s_place_is_found_and_the_trigger_is_made(house: House) -> None:
    (house.queue / "lock/trigger").unlink()
    house.put("lock/trigger", b"")
    os.chmod(house.queue / "lock/trigger", 0o622)
    assert [(path, what) for path, what, _ in house.found()] == [("lock/trigger", "is a file and should be a fifo")]
    assert house.repair().run() == []
    assert stat.S_ISFIFO((house.queue / "lock/trigger").stat().st_mode) and house.found() == []


class OnTwoDisks(QueueTree):
    """Below `mount` is another file system, where everything happens to have the inode number of `twin`."""

    def __init__(self, house: House, mount: bytes, twin: bytes) -> None:
        super().__init__(bytes(house.queue))
        self._mount, self._inode = mount, (house.queue / os.fsdecode(twin)).stat().st_ino

    def aspect(self, path: bytes) -> Aspect | None:
        found = super().aspect(path)
        if found is not None and (path + b"/").startswith(self._mount):
            found.device += 1
            found.inode = self._inode
        return found

    def link(self, old: bytes, new: bytes) -> None:
        if old.startswith(self._mount) != new.startswith(self._mount):
            raise OSError(errno.EXDEV, "on another file system", new)
        super().link(old, new)

    def repair(self, *, with_strange: bool = False) -> Repair:
        return Repair(self, OURS, ME, NOW_S, with_strange=with_strange)


def test_what_lost_and_found_has_with_the_inode_number_of_another_disk_is_not_taken_for_it(house: House) -> None:
    (house.home / "lost+found").mkdir()
    (house.home / "lost+found/strange").write_bytes(b"first")
    house.put("strange", b"second")
    OnTwoDisks(house, b"../lost+found/", b"strange").repair(with_strange=True).run()
    assert house.lost() == {"strange", "strange.1"}
    assert (house.home / "lost+found/strange").read_bytes() == b"first"
    assert (house.home / "lost+found/strange.1").read_bytes() == b"second"


def test_a_file_of_another_disk_is_no_second_name(house: House) -> None:
    number = house.message("info local")
    right, part = f"info/{number % 23}/{number}", (number + 1) % 23
    house.put(f"info/{part}/{number}", b"Fother@x\0")
    tree = OnTwoDisks(house, b"info/%d/" % part, right.encode())
    assert [one.what for one in tree.repair().look().findings if one.path.endswith(b"%d" % number)] == [
        f"the message has {right} already"
    ]
    tree.repair().run()
    assert house.files() == paths(number, "mess info local")
    assert (house.home / f"lost+found/info-{part}-{number}").read_bytes() == b"Fother@x\0"


def test_a_file_of_another_disk_is_not_one_that_has_left(house: House) -> None:
    number = house.message("info local")
    for kind in ("mess", "info", "local"):
        house.place(OURS, kind, number).rename(house.queue / kind / f"457{MOVING.decode()}")
    house.put("info/20/457", b"Fother@x\0")
    OnTwoDisks(house, b"info/20/", b"info/457" + MOVING).repair().run()
    assert house.files() == paths(number, "mess info local")
    assert (house.home / "lost+found/info-20-457").read_bytes() == b"Fother@x\0"


def test_a_place_that_a_file_of_another_disk_has_is_not_free(house: House) -> None:
    number = house.message("info")
    part = number % 23
    for kind in ("mess", "info"):
        house.place(OURS, kind, number).rename(house.queue / kind / f"457{MOVING.decode()}")
    house.put(f"info/{part}/{number}", b"Fother@x\0")
    homeless: list[bytes] = []
    arrive(OnTwoDisks(house, b"info/%d/" % part, b"info/457" + MOVING), OURS, homeless.extend)
    assert sorted(homeless) == [b"info/457" + MOVING, b"mess/457" + MOVING]


@pytest.mark.parametrize(
    ("mount", "noted"),
    [("mess", ["mess/0"]), ("mess/7", ["mess/7"]), ("todo", ["todo"]), ("intd", []), ("info", [])],
)  # fmt: skip
def test_what_must_be_on_the_file_system_of_pid_and_is_not_is_noted(
    house: House, mount: str, noted: list[str]
) -> None:  # fmt: skip
    found = OnTwoDisks(house, mount.encode() + b"/", b"pid").repair().look().findings
    what = "is on another file system than pid: qmail-queue cannot put a message there"
    assert [(one.path.decode(), one.what, one.weight) for one in found] == [(path, what, NOTE) for path in noted]
