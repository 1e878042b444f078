"""May we? Decides and does nothing."""
