"""A message to oneself: in through SMTP, then looked for in the Maildir. `notqmail run` starts with it."""

import os
import smtplib
from email.utils import formatdate, make_msgid

_REPLY_WAIT_S = 20.0
_TEXT = """\
From: the mail system <{to}>
To: <{to}>
Subject: your mail system works
Date: {date}
Message-ID: {message_id}

This message came in over SMTP, was made safe on disk, and was delivered
to the Maildir you found it in. The Received lines tell its way.
"""


def send(address: tuple[str, int], to: str) -> bytes:
    """Sends it; returns the Message-ID by which `find` knows it. Raises OSError or smtplib.SMTPException."""
    message_id = make_msgid(domain="localhost")
    text = _TEXT.format(to=to, date=formatdate(), message_id=message_id).replace("\n", "\r\n")
    with smtplib.SMTP(*address, local_hostname="localhost", timeout=_REPLY_WAIT_S) as connection:
        connection.sendmail(to, [to], text)
    return message_id.encode()


def find(new_path: bytes, message_id: bytes, seen: set[bytes]) -> tuple[bytes, bytes] | None:
    """(file name, header) of the message in Maildir/new, or None so far. `seen` remembers other files."""
    try:
        names = {os.fsencode(name) for name in os.listdir(new_path)} - seen
    except FileNotFoundError:
        return None
    for name in names:
        seen.add(name)  # a file in new/ is whole: looking once is enough
        try:
            with open(os.path.join(new_path, name), "rb") as file:
                header = file.read(65_536).partition(b"\n\n")[0]
        except FileNotFoundError:
            continue  # a reader was quicker
        if message_id in header:
            return name, header
    return None
