"""The file systems whose power is cut: how each is made and mounted."""

_MB = 1 << 20


class Kind:
    """A file system: how it is made and mounted. `sector`: what its disk writes whole or not at all, in bytes."""

    def __init__(self, type_: str, size_mb: int, make: list[str], options: str = "", sector: int = 512) -> None:
        self.type, self.size, self.make, self.options, self.sector = type_, size_mb * _MB, make, options, sector


_EXT4 = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=1"]
KINDS: dict[str, Kind] = {
    "ext4": Kind("ext4", 128, _EXT4),
    "ext4-fast-commit": Kind("ext4", 128, [*_EXT4, "-O", "fast_commit"]),
    "ext4-1k": Kind("ext4", 128, ["mkfs.ext4", "-q", "-F", "-b", "1024", "-E", "lazy_itable_init=0"]),
    "ext4-inline": Kind("ext4", 128, [*_EXT4, "-O", "inline_data"]),
    "ext4-bigalloc": Kind("ext4", 128, [*_EXT4, "-O", "bigalloc"]),
    "ext4-dioread-lock": Kind("ext4", 128, _EXT4, "dioread_lock"),
    "ext3": Kind("ext3", 128, ["mkfs.ext3", "-q", "-F", "-b", "4096"]),
    "ext4-nodelalloc": Kind("ext4", 128, _EXT4, "nodelalloc"),
    "ext4-writeback": Kind("ext4", 128, _EXT4, "data=writeback"),
    "ext4-journal": Kind("ext4", 128, _EXT4, "data=journal"),
    "ext4-nojournal": Kind("ext4", 128, [*_EXT4, "-O", "^has_journal"]),
    "ext2": Kind("ext2", 128, ["mkfs.ext2", "-q", "-F", "-b", "4096"]),
    "xfs": Kind("xfs", 320, ["mkfs.xfs", "-q"]),
    "btrfs": Kind("btrfs", 320, ["mkfs.btrfs", "-q"], sector=4_096),
}
