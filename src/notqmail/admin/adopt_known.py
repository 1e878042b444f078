"""What is known of other people's control files, variables and programs: which patch or fork they belong to, and what
we do about them.

`OURS` are the files that our own programs read (a test compares it with qmail-control(5)); everything else a site
may have in control/ is in `FOREIGN`, found in the sources of the patches, or is unknown.
"""

LINE, NUMBER, LIST, MAP, CLOSED = "line", "number", "list", "map", "closed"
"""Forms of a control file; one that is CLOSED is never opened here: not text, or somebody's secret."""

OURS = {
    "badmailfrom": LIST, "bouncefrom": LINE, "bouncehost": LINE, "concurrencyhost": NUMBER,
    "concurrencylocal": NUMBER, "concurrencyremote": NUMBER, "concurrencyslow": NUMBER, "databytes": NUMBER,
    "defaultdelivery": LIST, "defaultdomain": LINE, "defaulthost": LINE, "doublebouncehost": LINE,
    "doublebounceto": LINE, "envnoathost": LINE, "filtertimeout": NUMBER, "helohost": LINE, "idhost": LINE,
    "localfilters": LIST, "localiphost": LINE, "locals": LIST, "maxrcpt": NUMBER, "me": LINE, "morercpthosts": LIST,
    "morercpthosts.cdb": CLOSED, "outgoingip": LIST, "passwords": CLOSED, "percenthack": LIST, "plusdomain": LINE,
    "qmqpservers": LIST, "qmtproutes": MAP, "queuelifetime": NUMBER, "rcpthosts": LIST, "remotefilters": LIST,
    "smtpfilters": LIST, "smtpgreeting": LINE, "smtproutes": MAP, "tcp.smtp.cdb": CLOSED, "timeoutconnect": NUMBER,
    "timeoutremote": NUMBER, "timeoutsmtpd": NUMBER, "virtualdomains": MAP,
}  # fmt: skip

OTHERWISE = {  # read by us too, but a patch of that name gives it more meaning
    "maxrcpt": "as the maxrcpt patch has it; without the file ours allows 50,000",
    "concurrencyslow": "of ours alone: deliveries beyond concurrencyremote that wait for slow hosts",
    "filtertimeout": "of ours alone: how long a filter may take",
    "localfilters": "as in notqmail's plans; read by our qmail-lfilter, when QMAILLOCAL names it",
    "outgoingip": "as the outgoingip patch has it; ours takes a list, of IPv6 addresses too",
    "passwords": "only our checkpassword reads it; not opened here",
    "remotefilters": "as in notqmail's plans; read by our qmail-rfilter, when QMAILREMOTE names it",
    "smtpfilters": "as notqmail's qmail-qfilter-queue reads it; by ours, when QMAILQUEUE names it",
    "qmtproutes": "as s/qmail has it; only plain QMTP",
}

SCRIPTS_OWN = {
    "concurrencyincoming", "logcount", "logsize", "tcp.smtp", "tcp.pop3", "tcp.pop3.cdb", "tcp.imap", "tcp.imap.cdb",
    "servercert.cnf",
}  # fmt: skip
"""Read by start scripts, and by no mail program."""

_TLS = ("the TLS patch (Vermeulen) and the sets with it", "ours does not speak TLS")
_QREGEX = ("qregex and the sets with it (netqmail, notqmail branch badmailfrom-wildcard)", "ours refuses nobody for it")
_LOOKUP = ("validrcptto.cdb (Simpson)", "ours takes mail for names that do not exist, and bounces it later")
_SPF = ("the SPF patch (spf-rc5)", "ours looks up no SPF")
_SRS = ("the SRS patch", "ours rewrites no senders: forwarded mail keeps its own")
_DKIM = (
    "DKIM: qmail-dkim, dkimsign, the notqmail branch dkim",
    "a QMAILQUEUE or QMAILREMOTE program can go on with it",
)
_SCAN = ("simscan", "simscan reads it itself, and goes on as a QMAILQUEUE program")
_SPP = ("qmail-spp", "ours runs no plug-ins")
_DNSBL = ("the DNSBL patch", "ours asks no lists; rblsmtpd in front of it does")
_SURBL = ("the SURBL filter", "the filter reads it itself, and goes on as a QMAILQUEUE program")
_SQMAIL = ("s/qmail", "ours does not read it")
_INDIMAIL = ("IndiMail", "ours does not read it")
_SENDERIP = ("senderip and bindroutes (Simpson's combined patch)", "ours has one address for all: outgoingip")
_CHANNELS = ("channels (Sandberg)", "ours has two channels; hosts take turns by themselves (concurrencyhost)")
_TARPIT = ("the tarpit patch", "ours slows nobody down")
_FILTERS = (
    "qmail-qfilter, spawn-filter",
    "those programs read it themselves, and go on; ours read smtpfilters, remotefilters and localfilters",
)
_ACCEPT = ("acceptutils (fixsmtpio, authup) or rejectutils", "those programs read it themselves, and go on")
_RECIPIENTS = ("the recipients extension (Hoffmann)", _LOOKUP[1])
_RELAYING = ("relaymailfrom", "ours lets nobody relay for a sender's address, which anybody can write")

FOREIGN: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ["servercert.pem", "clientcert.pem", "clientca.pem", "clientcrl.pem", "tlsclients", "tlsserverciphers",
         "tlsclientciphers", "tlshosts", "notlshosts", "notlshosts_auto", "servercerts"], _TLS,
    ),
    **dict.fromkeys(
        ["badmailto", "badmailtonorelay", "badmailfromnorelay", "badhelo", "badhelonorelay", "badrcptto",
         "badrcpttonorelay", "badmailpatterns", "badrcptpatterns"], _QREGEX,
    ),
    **dict.fromkeys(
        ["validrcptto", "validrcptto.cdb", "morevalidrcptto", "morevalidrcptto.cdb", "goodrcptto", "moregoodrcptto.cdb",
         "brtlimit", "addrcheck.cdb", "chkrcptdomains"], _LOOKUP,
    ),
    **dict.fromkeys(["recipients", "recipients.cdb", "rcptchecks", "mailfromrules", "mailfromrules.cdb"], _RECIPIENTS),
    **dict.fromkeys(["spfbehavior", "spfrules", "spfguess", "spfexp", "spfexplain", "spflocalrules"], _SPF),
    **dict.fromkeys(
        ["srs_domain", "srs_secrets", "srs_maxage", "srs_hashlength", "srs_hashmin", "srs_separator",
         "srs_alwaysrewrite", "srsdomains"], _SRS,
    ),
    **dict.fromkeys(
        ["dkimkeys", "domainkeys", "dkimdomains", "signatures"], _DKIM,
    ),
    **dict.fromkeys(["simcontrol", "simcontrol.cdb", "ssattach", "simversions", "simversions.cdb"], _SCAN),
    **dict.fromkeys(["smtpplugins"], _SPP),
    **dict.fromkeys(["dnsbllist", "dnsblfailclosed"], _DNSBL),
    **dict.fromkeys(
        ["level2-tlds", "level3-tlds", "surbldomain", "surbldomainwhite", "surblrcpt", "cache", "cachelifetime"], _SURBL
    ),
    **dict.fromkeys(
        ["badloadertypes", "badloadertypes.cdb", "badmimetypes", "badmimetypes.cdb", "domaincerts",
         "domainips", "tlsdestinations"], _SQMAIL,
    ),
    **dict.fromkeys(
        ["domainbindings", "from.envrules", "rcpt.envrules", "auth.envrules", "fromd.envrules", "mailarchive",
         "maxrecipients", "tlsadomains"], _INDIMAIL,
    ),
    **dict.fromkeys(["senderip", "bindroutes"], _SENDERIP),
    **dict.fromkeys(["tarpitcount", "tarpitdelay"], _TARPIT),
    **dict.fromkeys(["ofmipfilters", "filterargs", "qfilters"], _FILTERS),
    **dict.fromkeys(["fixsmtpio", "smtpcapabilities", "pop3capabilities", "pop3greeting", "timeoutpop3d"], _ACCEPT),
    **dict.fromkeys(["relaymailfrom", "relaylimits"], _RELAYING),
    "greetdelay": ("the greetdelay patch or wrapper", "ours greets at once; a wrapper in front of it goes on"),
    "mfcheck": ("mfcheck", "ours does not look up the sender's domain"),
    "rejectnullsenders": ("sagredo's set", "ours takes bounces"),
    "rejectrelaytest": ("sagredo's set", "ours does not read it"),
    "authservid": ("sagredo's set", "ours does not read it"),
    "authsenders": ("the remote AUTH patch", "ours logs in nowhere; passwords are in it, not opened here"),
    "bouncemaxbytes": ("bouncemaxbytes", "ours puts the whole message into a bounce, as C does"),
    "taps": ("qmail-tap", "ours copies no mail to third persons"),
    "policy": ("eMPF (message policy)", "ours has no policy by domain"),
    "moreipme": ("moreipme", "ours knows the addresses of its interfaces only"),
    "notipme": ("moreipme", "ours takes all addresses of its interfaces for its own"),
    "postgrey": ("greylisting", "ours knows none; a program in front of it goes on"),
    "greylist": ("greylisting", "ours knows none; a program in front of it goes on"),
}  # fmt: skip

BEGINNINGS = (
    ("rsa", *_TLS), ("dh", *_TLS),
    ("ldap", "qmail-ldap", "ours knows no LDAP; passwords may be in it, not opened here"),
    ("concurrencysuppl", *_CHANNELS), ("suppls", *_CHANNELS), ("srs_", *_SRS), ("spf", *_SPF), ("tls", *_TLS),
    ("dkim", *_DKIM),
)  # fmt: skip

LEFTOVERS = (".rpmnew", ".rpmsave", ".rpmorig", ".orig", ".bak", ".old", ".dist", ".dpkg-old", ".dpkg-dist",
             ".dpkg-new", ".save", ".swp", "~", ".tmp", ".default", ".sample", ".example")  # fmt: skip


def owner_of(name: str) -> tuple[str, str] | None:
    """(whose file this is, what becomes of it) for a control file that we do not read; None for an unknown one."""
    if name in FOREIGN:
        return FOREIGN[name]
    for beginning, whose, fate in BEGINNINGS:
        if name.startswith(beginning) and (beginning not in ("rsa", "dh") or name.endswith(".pem")):
            return whose, fate
    return None


VARIABLES: dict[str, tuple[str, bool]] = {  # what becomes of it, and whether somebody has to think about it
    "RELAYCLIENT": ("read as by C", False),
    "DATABYTES": ("read as by C", False),
    "QMAILQUEUE": ("the program runs as under C", False),
    "QMAILREMOTE": ("the program runs as under C", False),
    "QMAILLOCAL": ("the program runs in place of qmail-local", False),
    "RBLSMTPD": ("read by rblsmtpd, in front of qmail-smtpd", False),
    "TCPREMOTEINFO": ("read as by C", False),
    "TCPREMOTEHOST": ("read as by C", False),
    "NOSPP": ("qmail-spp: ours runs no plug-ins", False),
    "GREETDELAY": ("greetdelay: ours greets at once", True),
    "SMTPD_GREETDELAY": ("greetdelay: ours greets at once", True),
    "SENDER_NOCHECK": ("chkuser: ours does not know it", True),
    "RCPTCHECK": ("RCPTCHECK: ours asks no program about recipients", True),
    "SPPCONFFILE": ("qmail-spp: ours runs no plug-ins", True),
    "ENABLE_SPP": ("qmail-spp: ours runs no plug-ins", True),
    "BADMIMETYPE": ("s/qmail, qmailtoaster: ours does not read attachments", True),
    "BADLOADERTYPE": ("s/qmail, qmailtoaster: ours does not read attachments", True),
    "QHPSI": ("QHPSI: ours runs no virus scanner; QMAILQUEUE can", True),
    "SIMSCAN_DEBUG": ("simscan reads it", False),
    "QS_SPAMASSASSIN": ("qmail-scanner reads it", False),
    "TARPITCOUNT": ("tarpit: ours slows nobody down", True),
    "TARPITDELAY": ("tarpit: ours slows nobody down", True),
    "MAXRCPT": ("maxrcpt: ours reads control/maxrcpt", True),
    "MFCHECK": ("mfcheck: ours does not look up the sender's domain", True),
    "REQUIRE_AUTH": ("SMTP AUTH: ours knows none", True),
    "SMTPAUTH": ("SMTP AUTH: ours knows none", True),
    "FORCETLS": ("TLS: ours does not speak it", True),
    "FORCE_TLS": ("TLS: ours does not speak it", True),
    "SMTPS": ("TLS: ours does not speak it", True),
    "UCSPITLS": ("UCSPI-TLS: ours does not speak it", True),
    "SPFBEHAVIOR": ("SPF: ours looks up none", True),
    "DKIMSIGN": ("qmail-dkim reads it", False),
    "DKIMVERIFY": ("qmail-dkim reads it", False),
    "DKIMQUEUE": ("qmail-dkim reads it", False),
    "DKQUEUE": ("qmail-dk reads it", False),
    "DKSIGN": ("qmail-dk reads it", False),
    "DKVERIFY": ("qmail-dk reads it", False),
}  # fmt: skip
_FAMILIES = (("CHKUSER_", "chkuser: ours does not know it"), ("VALIDRCPTTO", "validrcptto: ours does not know it"),
             ("AUTH_", "SMTP AUTH: ours knows none"), ("TLS_", "TLS: ours does not speak it"),
             ("SPF_", "SPF: ours looks up none"), ("GL_", "greylisting: ours knows none"),
             ("JGREYLIST", "greylisting: ours knows none"), ("DNSBL", "DNSBL: ours asks no lists"))  # fmt: skip


def fate_of_variable(name: str) -> tuple[str, bool] | None:
    """What becomes of a variable that rules or scripts set, and whether somebody has to decide; None: unknown."""
    for beginning, fate in _FAMILIES:
        if name.startswith(beginning):
            return fate, True
    return VARIABLES.get(name)


MARKS = (  # what a compiled program has in it when it can do something that C as it comes cannot
    (b"STARTTLS", "TLS"), (b"AUTH LOGIN", "AUTH"), (b"RCPTCHECK", "RCPTCHECK"), (b"CHKUSER", "chkuser"),
    (b"vpopmail", "vpopmail"), (b"SPPCONFFILE", "qmail-spp"), (b"GREETDELAY", "greetdelay"), (b"QHPSI", "QHPSI"),
    (b"BADMIMETYPE", "BADMIMETYPE"), (b"Received-SPF", "SPF"), (b"libldap", "LDAP"), (b"SMTPUTF8", "SMTPUTF8"),
)  # fmt: skip
