"""`python -m notqmail.admin` is the `notqmail` command, for a package that is not installed."""

from notqmail.admin.main import run

run()
