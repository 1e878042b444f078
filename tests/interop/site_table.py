"""What is sent to the site of site_layout.py, and every place where it has to be afterwards.

A block is a message: how it comes in (`smtp`, or `inject`: qmail-inject as alice), envelope sender, recipient, words of
its subject. Below it, one line for each copy:

    PLACE RETURN-PATH DELIVERED-TO... [| what is in it]

PLACE is a mailbox (`alice/Maildir`), `remote ADDRESS` (the next host was given it, with that sender), `queued ADDRESS` (it
waits: why), or `refused` by SMTP. Delivered-To lines are in the message's order, the newest first. In a bounce it is
the paragraphs of the recipients, in a file kept by a program the program's environment (site_layout.KEEP).
"""

TABLE = """
# people
smtp s@far.test alice@mail.test
    alice/Maildir <s@far.test> alice@mail.test
    remote copy@far.test <s@far.test> alice@mail.test
smtp s@far.test bob@mail.test
    bob/Maildir <s@far.test> bob@mail.test
smtp s@far.test ALICE@MAIL.TEST
    alice/Maildir <s@far.test> ALICE@MAIL.TEST
    remote copy@far.test <s@far.test> ALICE@MAIL.TEST
smtp <> bob@lists.mail.test
    bob/Maildir <> bob@lists.mail.test
inject alice@mail.test bob@mail.test
    bob/Maildir <alice@mail.test> bob@mail.test
inject alice@mail.test away@far.test
    remote away@far.test <alice@mail.test>
smtp s@far.test alice-nothing@mail.test
    remote s@far.test <> | <alice-nothing@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
smtp s@far.test u@refused.test
    refused | 553
# lists
smtp s@far.test alice-list@mail.test
    remote x@far.test <alice-list-owner-x=far.test@mail.test> alice-list@mail.test
    bob/Maildir <alice-list-owner-bob=mail.test@mail.test> bob@mail.test alice-list@mail.test
    bob/kept <alice-list-owner-bob-virt-u=virt.test@mail.test> bob-virt-u@virt.test alice-list@mail.test | virt-u|u||u|virt.test|virt|bob-virt-u|bob|bob-virt-u@virt.test|alice-list-owner-bob-virt-u=virt.test@mail.test|alice-list-owner-bob-virt-u=virt.test@mail.test
smtp <> alice-list@mail.test
    remote x@far.test <> alice-list@mail.test
    bob/Maildir <> bob@mail.test alice-list@mail.test
    bob/kept <> bob-virt-u@virt.test alice-list@mail.test | virt-u|u||u|virt.test|virt|bob-virt-u|bob|bob-virt-u@virt.test||
smtp s@far.test alice-plain@mail.test
    remote x@far.test <alice-plain-owner@mail.test> alice-plain@mail.test
    bob/Maildir <alice-plain-owner@mail.test> bob@mail.test alice-plain@mail.test
smtp s@far.test alice-list-owner@mail.test
    alice/owner <s@far.test> alice-list-owner@mail.test
smtp <> alice-list-owner-x=far.test@mail.test
    alice/kept <> alice-list-owner-x=far.test@mail.test | list-owner-x=far.test|owner-x=far.test|x=far.test|x=far.test|mail.test|mail|alice-list-owner-x=far.test|alice|alice-list-owner-x=far.test@mail.test||
smtp s@far.test alice-broken@mail.test
    alice/kept <> alice-broken-owner-@mail.test | broken-owner-|owner-|||mail.test|mail|alice-broken-owner-|alice|alice-broken-owner-@mail.test|| | <bob-nosuch@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
# kinds of .qmail files
smtp s@far.test alice-mbox@mail.test
    alice/Mailbox <s@far.test> alice-mbox@mail.test
smtp <> alice-mbox@mail.test
    alice/Mailbox <> alice-mbox@mail.test
smtp s@far.test alice-both@mail.test
    alice/Mailbox <s@far.test> alice-both@mail.test
    alice/other <s@far.test> alice-both@mail.test
    remote b@far.test <s@far.test> alice-both@mail.test
smtp s@far.test alice-empty@mail.test
    alice/Maildir <s@far.test> alice-empty@mail.test
smtp s@far.test alice-comment@mail.test
smtp s@far.test alice-blank@mail.test
    queued alice-blank@mail.test <s@far.test> | Uh-oh:_first_line_of_.qmail_file_is_blank._(#4.2.1)/
smtp s@far.test alice-plus@mail.test
    remote p@far.test <s@far.test> alice-plus@mail.test
smtp s@far.test alice-list-then-file@mail.test
    queued alice-list-then-file@mail.test <s@far.test> | Uh-oh:_.qmail_has_file_delivery_but_has_x_bit_set._(#4.7.0)/
smtp s@far.test alice-x-bit@mail.test
    remote x@far.test <s@far.test> alice-x-bit@mail.test
smtp s@far.test alice-x-file@mail.test
    queued alice-x-file@mail.test <s@far.test> | Uh-oh:_.qmail_has_file_delivery_but_has_x_bit_set._(#4.7.0)/
smtp s@far.test alice-x-program@mail.test
    queued alice-x-program@mail.test <s@far.test> | Uh-oh:_.qmail_has_prog_delivery_but_has_x_bit_set._(#4.7.0)/
smtp s@far.test alice-open@mail.test
    queued alice-open@mail.test <s@far.test> | Uh-oh:_.qmail_file_is_writable._(#4.7.0)/
smtp s@far.test alice-nohost@mail.test
    bob/kept <s@far.test> bob-noat-somebody@noat.test alice-nohost@mail.test | noat-somebody|somebody||somebody|noat.test|noat|bob-noat-somebody|bob|bob-noat-somebody@noat.test|s@far.test|s@far.test
smtp s@far.test alice-folder@mail.test
    remote s@far.test <> | <alice-folder@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
smtp s@far.test alice-link@mail.test
    alice/other <s@far.test> alice-link@mail.test
# which file
smtp s@far.test alice-A-x-Y@mail.test
    alice/kept <s@far.test> alice-A-x-Y@mail.test | A-x-Y|x-Y|Y|x-Y|mail.test|mail|alice-A-x-Y|alice|alice-A-x-Y@mail.test|s@far.test|s@far.test
smtp s@far.test alice-a-b-c-d@mail.test
    alice/other <s@far.test> alice-a-b-c-d@mail.test
smtp s@far.test alice-A.B@mail.test
    alice/other <s@far.test> alice-A.B@mail.test
smtp s@far.test alice-env-One-two-three-four@mail.test
    alice/kept <s@far.test> alice-env-One-two-three-four@mail.test | env-One-two-three-four|One-two-three-four|two-three-four|One-two-three-four|mail.test|mail|alice-env-One-two-three-four|alice|alice-env-One-two-three-four@mail.test|s@far.test|s@far.test
# exit codes of programs
smtp s@far.test alice-e0@mail.test
    alice/after <s@far.test> alice-e0@mail.test
    remote e@far.test <s@far.test> alice-e0@mail.test
smtp s@far.test alice-e99@mail.test
    remote e@far.test <s@far.test> alice-e99@mail.test
smtp s@far.test alice-e100@mail.test
    alice/before <s@far.test> alice-e100@mail.test
    remote s@far.test <> | <alice-e100@mail.test>:/no, thanks/
smtp s@far.test alice-e64@mail.test
    remote s@far.test <> | <alice-e64@mail.test>:/usage/
smtp s@far.test alice-e111@mail.test
    alice/before <s@far.test> alice-e111@mail.test
    queued alice-e111@mail.test <s@far.test> | later/
smtp s@far.test alice-e1@mail.test
    queued alice-e1@mail.test <s@far.test> |
smtp s@far.test alice-crash@mail.test
    queued alice-crash@mail.test <s@far.test> | Aack,_child_crashed._(#4.3.0)/
smtp s@far.test alice-missing@mail.test
    queued alice-missing@mail.test <s@far.test> | /bin/sh:_1:_/no/such/program:_not_found/
smtp s@far.test alice-no-maildir@mail.test
    queued alice-no-maildir@mail.test <s@far.test> | Unable_to_chdir_to_maildir._(#4.2.1)/
# programs
smtp s@far.test alice-fw@mail.test
    remote f@far.test <alice-fw-owner@mail.test> alice-fw@mail.test
    remote g@far.test <alice-fw-owner@mail.test> alice-fw@mail.test
smtp s@far.test alice-cond@mail.test spam
    remote spam@far.test <s@far.test> alice-cond@mail.test
smtp s@far.test alice-cond@mail.test
    alice/Maildir <s@far.test> alice-cond@mail.test
smtp s@far.test alice-say@mail.test spam
    remote s@far.test <> | <alice-say@mail.test>:/No spam here./
smtp s@far.test alice-say@mail.test
    alice/Maildir <s@far.test> alice-say@mail.test
smtp s@far.test alice-not@mail.test friend
    remote s@far.test <> | <alice-not@mail.test>:/
smtp s@far.test alice-not@mail.test
    alice/Maildir <s@far.test> alice-not@mail.test
smtp s@far.test alice-only@mail.test
    remote s@far.test <> | <alice-only@mail.test>:/Friends only./
smtp s@far.test alice-only@mail.test friend
    alice/Maildir <s@far.test> alice-only@mail.test
smtp s@far.test alice-vac@mail.test
    alice/Maildir <s@far.test> alice-vac@mail.test
    remote s@far.test <> | answer
smtp <> alice-vac@mail.test
    alice/Maildir <> alice-vac@mail.test
smtp many@far.test alice-vac@mail.test bulk
    alice/Maildir <many@far.test> alice-vac@mail.test
smtp s@far.test alice-dot@mail.test
    remote d1@far.test <s@far.test> alice-dot@mail.test
    remote d2@far.test <s@far.test> alice-dot@mail.test
smtp s@far.test alice-undot@mail.test
    alice/Maildir <s@far.test> alice-undot@mail.test
# loops
smtp s@far.test alice-loop@mail.test
    remote s@far.test <> | <alice-loop@mail.test>:/This message is looping: it already has my Delivered-To line. (#5.4.6)/
smtp s@far.test alice-self@mail.test
    remote s@far.test <> | <alice-self@mail.test>:/This message is looping: it already has my Delivered-To line. (#5.4.6)/
# users/
smtp s@far.test carol@mail.test
    alice/other <s@far.test> carol@mail.test
smtp s@far.test Carol-MiXed@mail.test
    alice/kept <s@far.test> Carol-MiXed@mail.test | carol-MiXed|MiXed||MiXed|mail.test|mail|Carol-MiXed|alice|Carol-MiXed@mail.test|s@far.test|s@far.test
smtp s@far.test shop.Item@mail.test
    bob/kept <s@far.test> shop.Item@mail.test | shop-Item|Item||Item|mail.test|mail|shop.Item|bob|shop.Item@mail.test|s@far.test|s@far.test
smtp s@far.test nobody@mail.test
    alice/other <s@far.test> nobody@mail.test
smtp s@far.test robert@mail.test
    bob/Maildir <s@far.test> robert@mail.test
smtp s@far.test robert-shop-1@mail.test
    bob/kept <s@far.test> robert-shop-1@mail.test | shop-1|1||1|mail.test|mail|robert-shop-1|bob|robert-shop-1@mail.test|s@far.test|s@far.test
smtp s@far.test sales@mail.test
    alice/other <s@far.test> sales@mail.test
smtp s@far.test sales-2@mail.test
    alice/kept <s@far.test> sales-2@mail.test | sold-2|2||2|mail.test|mail|sales-2|alice|sales-2@mail.test|s@far.test|s@far.test
# alias/
smtp s@far.test postmaster@mail.test
    bob/Maildir <s@far.test> bob@mail.test postmaster@mail.test
smtp <> MAILER-DAEMON@mail.test
    bob/Maildir <> bob@mail.test postmaster@mail.test MAILER-DAEMON@mail.test
smtp s@far.test staff@mail.test
    alice/Mailbox <s@far.test> alice-mbox@mail.test staff@mail.test
    bob/Maildir <s@far.test> bob@mail.test staff@mail.test
smtp s@far.test anybody-else@mail.test
    alias/caught <s@far.test> anybody-else@mail.test
smtp s@far.test alias-staff@mail.test
    alice/Mailbox <s@far.test> alice-mbox@mail.test alias-staff@mail.test
    bob/Maildir <s@far.test> bob@mail.test alias-staff@mail.test
smtp s@far.test refused@mail.test
    remote s@far.test <> | <refused@mail.test>:/not today/
# virtualdomains, percenthack, envnoathost
smtp s@far.test joe@single.test
    alice/other <s@far.test> alice-single-joe@single.test
smtp s@far.test other@single.test
    alice/kept <s@far.test> alice-catch-other@single.test | catch-other|other||other|single.test|single|alice-catch-other|alice|alice-catch-other@single.test|s@far.test|s@far.test
smtp s@far.test bad@single.test
    remote s@far.test <> | <alice-single-bad@single.test>:/bad/
smtp s@far.test u@virt.test
    bob/kept <s@far.test> bob-virt-u@virt.test | virt-u|u||u|virt.test|virt|bob-virt-u|bob|bob-virt-u@virt.test|s@far.test|s@far.test
smtp s@far.test bad@virt.test
    remote s@far.test <> | <bad@virt.test>:/two lines//and a blank one/
smtp s@far.test U.v@VIRT.test
    bob/kept <s@far.test> bob-virt-U.v@VIRT.test | virt-U.v|U.v||U.v|VIRT.test|VIRT|bob-virt-U.v|bob|bob-virt-U.v@VIRT.test|s@far.test|s@far.test
smtp s@far.test u@x.sub.virt.test
    bob/kept <s@far.test> bob-sub-u@x.sub.virt.test | sub-u|u||u|x.sub.virt.test|x.sub.virt|bob-sub-u|bob|bob-sub-u@x.sub.virt.test|s@far.test|s@far.test
smtp s@far.test u@exc.sub.virt.test
    remote u@exc.sub.virt.test <s@far.test>
smtp s@far.test u@x.exc.sub.virt.test
    bob/kept <s@far.test> bob-sub-u@x.exc.sub.virt.test | sub-u|u||u|x.exc.sub.virt.test|x.exc.sub.virt|bob-sub-u|bob|bob-sub-u@x.exc.sub.virt.test|s@far.test|s@far.test
smtp s@far.test u@other.virt.test
    alice/kept <s@far.test> alice-catch-u@other.virt.test | catch-u|u||u|other.virt.test|other.virt|alice-catch-u|alice|alice-catch-u@other.virt.test|s@far.test|s@far.test
smtp s@far.test u@upper.test
    bob/kept <s@far.test> bob-upper-u@upper.test | upper-u|u||u|upper.test|upper|bob-upper-u|bob|bob-upper-u@upper.test|s@far.test|s@far.test
smtp s@far.test u@dup.test
    alice/kept <s@far.test> alice-second-u@dup.test | second-u|u||u|dup.test|dup|alice-second-u|alice|alice-second-u@dup.test|s@far.test|s@far.test
smtp s@far.test u@anything.test
    alice/kept <s@far.test> alice-catch-u@anything.test | catch-u|u||u|anything.test|anything|alice-catch-u|alice|alice-catch-u@anything.test|s@far.test|s@far.test
smtp s@far.test u@deep.far.test
    remote u@deep.far.test <s@far.test>
smtp s@far.test u%virt.test@pct.test
    bob/kept <s@far.test> bob-virt-u@virt.test | virt-u|u||u|virt.test|virt|bob-virt-u|bob|bob-virt-u@virt.test|s@far.test|s@far.test
smtp s@far.test u%v%far.test%pct.test@pct.test
    remote u%v@far.test <s@far.test>
smtp s@far.test bob%mail.test@PCT.test
    bob/Maildir <s@far.test> bob@mail.test
smtp s@far.test u@pct.test
    alice/kept <s@far.test> alice-catch-u@pct.test | catch-u|u||u|pct.test|pct|alice-catch-u|alice|alice-catch-u@pct.test|s@far.test|s@far.test
smtp s@far.test somebody
    bob/kept <s@far.test> bob-noat-somebody@noat.test | noat-somebody|somebody||somebody|noat.test|noat|bob-noat-somebody|bob|bob-noat-somebody@noat.test|s@far.test|s@far.test
# bounces of bounces
smtp alice-nosuch@mail.test alice-nothing@mail.test
    bob/Maildir <#@[]> bob@mail.test postmaster@mail.test | <alice-nosuch@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
smtp <> alice-nothing@mail.test
    bob/Maildir <#@[]> bob@mail.test postmaster@mail.test | <alice-nothing@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
smtp #@[] alice-nothing@mail.test
smtp bob@mail.test alice-nothing@mail.test
    bob/Maildir <> bob@mail.test | <alice-nothing@mail.test>:/Sorry, no mailbox here by that name. (#5.1.1)/
"""
