"""The small programs for `.qmail` lines, each one module: forward, condredirect, except, preline and their kin."""
