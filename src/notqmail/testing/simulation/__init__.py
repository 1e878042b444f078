"""A whole mail system in one deterministic program: days of traffic and trouble in seconds, replayed by a seed.

The parts of qmail-send, the queue, qmail-clean, Maildir delivery and the SMTP client are the real ones. Simulated are
what is outside of them: the clock (clockwork), the disk and the deaths of processes (disk), hosts, DNS and mailboxes
(world), the spawners (spawners), the people (traffic) and what goes wrong (faults). `account` knows what became of
every message, `watch` and `audit` hold the rules; `python -m notqmail.testing.simulation --seed 1` runs one.
"""
