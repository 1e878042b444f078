"""Pure: bytes to events and back, for every protocol spoken here."""
