"""The `notqmail` command for people: make a home, run everything."""
