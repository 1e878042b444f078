"""How its reader fetches mail: POP3, the programs before it, and tools for mailboxes."""
