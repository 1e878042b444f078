"""qmail-send's envelope rewriting."""

import pytest

from notqmail.control.files import Missing, colon_map
from notqmail.control.rewrite import LOCAL, REMOTE, Routing, routing_from_controls

ROUTING = Routing(
    local_domains=[b"host.example.org", b"Upper.Example.ORG"],
    virtual_domains=colon_map(
        [
            b"virt.org:joe",
            b".sub.org:fred",
            b"exc.sub.org:",
            b"joe@single.org:joe-one",
            b"virt.org:later",  # the last line wins
            b"nobody@virt.org:",
            b"host.example.org:never",  # locals is asked first
        ]
    ),
    percent_domains=[b"pct.org"],
    default_host=b"host.example.org",
)

ROUTES = [
    (b"fred", LOCAL, b"fred@host.example.org"),  # no @: envnoathost
    (b"", LOCAL, b"@host.example.org"),  # the empty recipient becomes the trash address
    (b"fred@HOST.example.ORG", LOCAL, b"fred@HOST.example.ORG"),  # case ignored and kept
    (b"x@upper.example.org", LOCAL, b"x@upper.example.org"),
    (b"a@b@host.example.org", LOCAL, b"a@b@host.example.org"),  # the LAST @ divides
    (b"x@x.host.example.org", REMOTE, b"x@x.host.example.org"),  # locals has no wildcards
    (b"u@virt.org", LOCAL, b"later-u@virt.org"),
    (b"U@Virt.Org", LOCAL, b"later-U@Virt.Org"),
    (b"u@x.virt.org", REMOTE, b"u@x.virt.org"),  # exact unless the key begins with a dot
    (b"nobody@virt.org", REMOTE, b"nobody@virt.org"),  # an empty value is an exception
    (b"NOBODY@virt.org", REMOTE, b"NOBODY@virt.org"),
    (b"u@a.sub.org", LOCAL, b"fred-u@a.sub.org"),
    (b"u@a.b.sub.org", LOCAL, b"fred-u@a.b.sub.org"),
    (b"u@sub.org", REMOTE, b"u@sub.org"),
    (b"u@exc.sub.org", REMOTE, b"u@exc.sub.org"),
    (b"u@x.exc.sub.org", LOCAL, b"fred-u@x.exc.sub.org"),  # exceptions are exact
    (b"joe@single.org", LOCAL, b"joe-one-joe@single.org"),
    (b"jim@single.org", REMOTE, b"jim@single.org"),
    (b"b%c%z.org%pct.org@pct.org", REMOTE, b"b%c@z.org"),
    (b"u%virt.org@PCT.org", LOCAL, b"later-u@virt.org"),
    (b"u@pct.org", REMOTE, b"u@pct.org"),  # nothing to undo
    (b"u%@pct.org", REMOTE, b"u@"),
    (b"u%v@other.org", REMOTE, b"u%v@other.org"),
    (b"u@", REMOTE, b"u@"),
    (b"@", REMOTE, b"@"),
]


@pytest.mark.parametrize(("recipient", "channel", "address"), ROUTES)
def test_recipients_are_routed_as_the_contract_says(recipient: bytes, channel: bytes, address: bytes) -> None:
    assert ROUTING.route(recipient) == (channel, address)


def routing_with(*lines: bytes) -> Routing:
    return Routing(local_domains=(), virtual_domains=colon_map(lines), percent_domains=(), default_host=b"me.org")


def test_the_empty_key_catches_what_no_other_key_does() -> None:
    routing = routing_with(b":all", b".com:")
    assert routing.route(b"a@b.org") == (LOCAL, b"all-a@b.org")
    assert routing.route(b"a@") == (LOCAL, b"all-a@")
    assert routing.route(b"a@b.com") == (REMOTE, b"a@b.com")
    assert routing.route(b"a@.com") == (REMOTE, b"a@.com")


def test_each_dot_begins_a_suffix_also_one_after_another() -> None:
    assert routing_with(b".b:x").route(b"u@a..b") == (LOCAL, b"x-u@a..b")
    assert routing_with(b"..b:x").route(b"u@a..b") == (LOCAL, b"x-u@a..b")


def test_a_trailing_dot_is_a_suffix_of_its_own() -> None:
    assert routing_with(b".:dot").route(b"a@b.") == (LOCAL, b"dot-a@b.")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (b"later-u@virt.org", b"u@virt.org"),
        (b"later-u@VIRT.org", b"u@VIRT.org"),
        (b"Later-u@virt.org", b"Later-u@virt.org"),  # the prefix is ours, so its case must fit
        (b"later@virt.org", b"later@virt.org"),
        (b"fred-u@a.sub.org", b"u@a.sub.org"),
        (b"fred-u@exc.sub.org", b"fred-u@exc.sub.org"),
        (b"joe-one-joe@single.org", b"joe-one-joe@single.org"),  # whole-address keys are not looked at
        (b"u@elsewhere.org", b"u@elsewhere.org"),
        (b"later-u", b"later-u"),
    ],
)
def test_bounces_show_the_address_without_the_virtual_prefix(address: bytes, shown: bytes) -> None:
    assert ROUTING.strip_virtual_prefix(address) == shown


def test_an_address_without_a_domain_has_no_prefix_to_lose() -> None:
    assert routing_with(b":all").strip_virtual_prefix(b"all-x") == b"all-x"
    assert routing_with(b":all").strip_virtual_prefix(b"all-x@y") == b"x@y"


def test_every_virtual_domain_route_is_undone_for_the_bounce() -> None:
    for recipient in (b"a@virt.org", b"a-b@x.sub.org", b"@virt.org", b"later-x@virt.org"):
        assert ROUTING.strip_virtual_prefix(ROUTING.route(recipient)[1]) == recipient


def test_control_files_become_a_routing() -> None:
    files = {"me": b"me.org\n", "virtualdomains": b"# none\nv.org:v \n", "percenthack": b"p.org\n"}
    routing = routing_from_controls(files.get)
    assert routing.route(b"x") == (LOCAL, b"x@me.org")  # locals and envnoathost both default to me
    assert routing.route(b"x@v.org") == (LOCAL, b"v-x@v.org")
    assert routing.route(b"x%y@p.org") == (REMOTE, b"x@y")


def test_an_empty_locals_file_means_that_nothing_is_local() -> None:
    routing = routing_from_controls({"me": b"me.org\n", "locals": b""}.get)
    assert routing.route(b"x") == (REMOTE, b"x@me.org")


def test_without_me_and_envnoathost_the_file_s_name_is_the_host() -> None:
    routing = routing_from_controls({"locals": b"l.org"}.get)
    assert routing.route(b"x") == (REMOTE, b"x@envnoathost")


def test_without_locals_and_me_there_is_no_routing() -> None:
    with pytest.raises(Missing):
        routing_from_controls({}.get)


def test_hup_reads_locals_and_virtualdomains_only() -> None:
    old = routing_from_controls({"me": b"old.org", "percenthack": b"p.org", "virtualdomains": b"v.org:v"}.get)
    new = old.reread({"me": b"new.org", "locals": b"l.org", "percenthack": b"q.org"}.get)
    assert new.route(b"x") == (REMOTE, b"x@old.org")
    assert new.route(b"x@l.org") == (LOCAL, b"x@l.org")
    assert new.route(b"x%y@p.org") == (REMOTE, b"x@y")
    assert new.route(b"x%y@q.org") == (REMOTE, b"x%y@q.org")
    assert new.route(b"x@v.org") == (REMOTE, b"x@v.org")
