"""Pure: control-file text to values."""
