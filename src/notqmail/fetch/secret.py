"""Passwords are bytearrays here, so that they can be taken out of memory again."""


def overwrite(data: bytearray) -> None:
    """Zeroes, in place."""
    data[:] = bytes(len(data))
