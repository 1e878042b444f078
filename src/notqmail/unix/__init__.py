"""The machine, no mail: disk, locks, descriptors, processes, clock, accounts, sockets."""
