"""How mail goes out: the spawners, local delivery, mailboxes, SMTP to other hosts."""
