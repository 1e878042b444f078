"""Pure: addresses, headers, dates, bounce texts."""
