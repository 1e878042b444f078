"""The store: its layout on disk, its steps, and the client that hands it a message."""
