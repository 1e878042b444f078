"""A whole site in files: controls, users, aliases, and what two people have in their homes.

Every mechanism by which qmail finds the place of a message is in use here at least once (dot-qmail(5), qmail-users(5),
qmail-send(8)). `{alice}` and the like stand for `uid:gid:home` of an account.
"""

CONTROLS = {
    "me": "mail.test",
    "locals": "mail.test\nlocalhost\nlists.mail.test",
    "rcpthosts": "mail.test\nlists.mail.test\nlocalhost\n.virt.test\nvirt.test\nsingle.test\nupper.test\ndup.test\n"
                 "pct.test\nnoat.test\nfar.test\n.far.test\nanything.test",
    "virtualdomains": "joe@single.test:alice-single\nbad@single.test:alice-single\nvirt.test:bob-virt\n"
                      ".sub.virt.test:bob-sub\nexc.sub.virt.test:\nUpper.Test:bob-upper\ndup.test:bob-first\n"
                      "dup.test:alice-second\nmail.test:bob-locals-win\nnoat.test:bob-noat\n"
                      "# all else but the remote ones\nfar.test:\n.far.test:\n:alice-catch",
    "percenthack": "pct.test",
    "envnoathost": "noat.test",
    "defaulthost": "mail.test",
}  # fmt: skip

PASSWD = "dan:x:{bob}\neve:x:{alice}\nfay:x:{alice}\ngus:x:{bob}\nHal:x:{bob}\nida:x:{alice}\njan:x:{nowhere}"
"""Behind the password file that qmail-pw2u is given: more names for the same two people, and one without a home."""

USERS = {
    "include": "# whom mail is for\nalice\nbob \n\nalias\neve\nFay\ngus\nHal\nida\njan",
    "exclude": "# and yet\nEVE",
    "mailnames": "bob:bob:robert\ngus:gustav:g.us:gus-tav\nida:\n# dan:daniel\ndan:daniel",
    "subusers": "sales:alice:sold:\npress:FAY:carol:\ndesk.1:gus:shop-desk:\n# off:bob:virt:\nshort:bob\n",
    "append": "=fay:bob:{bob}:::\n"
              "=carol:alice:{alice}:-:carol:\n+carol-:alice:{alice}:-:carol-:\n+shop.:bob:{bob}:-:shop-:\n"
              "=nobody:alice:{alice}:-:not-this:\n=nobody:alice:{alice}:-:not-this-either:",
}  # fmt: skip

_X_ENV = '"X-Env: $EXT|$EXT2|$EXT3|$DEFAULT|$HOST|$HOST2|$LOCAL|$USER|$RECIPIENT|$SENDER|$NEWSENDER"'
KEEP = f"|{{ echo {_X_ENV}; preline -f cat; }} >kept/$$"

ALICE = {
    "": "./Maildir/\n&copy@far.test",
    # lists
    "list": "+list\n&x@far.test\n&bob@mail.test\n# a comment\nu@virt.test",
    "list-owner": "./owner/",
    "list-owner-default": KEEP,
    "plain": "&x@far.test\nbob@mail.test",
    "plain-owner": "./owner/",
    "broken": "&bob-nosuch@mail.test",
    "broken-owner": "./owner/",
    "broken-owner-default": KEEP,
    # kinds of files
    "mbox": "./Mailbox",
    "both": "./Mailbox\n./other/\n&b@far.test",
    "empty": "",
    "comment": "# nothing is done",
    "blank": "\n./other/",
    "plus": "+list\n+whatever\n&p@far.test",
    "list-then-file": "+list\n./other/",
    "nohost": "&somebody",
    "a-default": KEEP,
    "a:b": "./other/",
    "a-b-default": "./other/",
    "env-default": KEEP,
    # exit codes
    "e0": "&e@far.test\n|echo heard; exit 0\n./after/",
    "e99": "&e@far.test\n|exit 99\n./after/",
    "e100": "&e@far.test\n./before/\n|echo no, thanks; exit 100\n./after/",
    "e64": "|echo usage; exit 64\n./after/",
    "e111": "&e@far.test\n./before/\n|echo later; exit 111\n./after/",
    "e1": "|exit 1\n./after/",
    "crash": "|kill -9 $$\n./after/",
    "missing": "|/no/such/program",
    "no-maildir": "./no-such-maildir/",
    # programs
    "fw": "|forward f@far.test g@far.test",
    "fw-owner": "./owner/",
    "cond": '|condredirect spam@far.test grep -q "^Subject: .*spam"\n./Maildir/',
    "say": '|bouncesaying "No spam here." grep -q "^Subject: .*spam"\n./Maildir/',
    "not": '|except grep -q "^Subject: .*friend"\n./Maildir/',
    "only": '|bouncesaying "Friends only." except grep -q "^Subject: .*friend"\n./Maildir/',
    "vac": "|./vacation\n./Maildir/",
    "dot": "|[ ! -f .forward ] || { forward $(cat .forward) && exit 99; }\n./Maildir/",
    "undot": "|[ ! -f .no-forward ] || { forward $(cat .no-forward) && exit 99; }\n./Maildir/",
    # loops
    "loop": "&bob-loop@mail.test",
    "self": "&alice-self@mail.test",
    # behind users/ and virtualdomains
    "carol": "./other/",
    "carol-default": KEEP,
    "not-this": "./other/",
    "sold": "./other/",
    "sold-default": KEEP,
    "single-joe": "./other/",
    "single-bad": "|echo bad; exit 100",
    "second-default": KEEP,
    "catch-default": KEEP,
}

BOB = {
    "loop": "&alice-loop@mail.test",
    "virt-default": KEEP,
    "virt-bad": "|printf 'two lines\\n\\nand a blank one\\n'; exit 100",
    "sub-default": KEEP,
    "upper-default": KEEP,
    "noat-default": KEEP,
    "shop-default": KEEP,
}

ALIAS = {
    "postmaster": "&bob@mail.test",
    "mailer-daemon": "&postmaster@mail.test",
    "root": "&postmaster@mail.test",
    "default": "./caught/",
    "staff": "&alice-mbox@mail.test\n&bob@mail.test",
    "refused": "|echo not today; exit 100",
}

EXECUTABLE = {"x-bit": "&x@far.test", "x-file": "./other/", "x-program": "|cat >>other/x"}
"""Of alice's; with the execute bit a file may only forward."""

WRITABLE = {"open": "./other/"}
"""Of alice's; anybody may write them."""

VACATION = """#!/bin/sh
# Answers each sender once; never a bounce, and never mail to many.
case $SENDER in '' | '#@[]') exit 0 ;; esac
head=$(preline -f sed '/^$/q')
printf '%s\\n' "$head" | grep -qi '^precedence: bulk' && exit 0
grep -qxF -e "$SENDER" answered 2>/dev/null && exit 0
echo "$SENDER" >>answered
subject=$(printf '%s\\n' "$head" | sed -n 's/^Subject: //p')
printf 'From: <%s>\\nTo: <%s>\\nSubject: Re: %s\\n\\nI am away.\\n' "$RECIPIENT" "$SENDER" "$subject" |
    qmail-inject -f '' "$SENDER"
"""
FORWARD = "d1@far.test d2@far.test\n"
MAILDIRS = {"alice": ("after", "before", "other", "owner"), "alias": ("caught",)}
