"""Shipped test tools: fakes of disk, clock and resolver."""
