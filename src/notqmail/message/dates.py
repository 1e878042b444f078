"""Dates as qmail writes them: always UTC, from whole seconds since 1970."""

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def civil_time(now_s: int) -> tuple[int, int, int, int, int, int, int]:
    """(year, month 1-12, day 1-31, hour, minute, second, weekday with Monday 0), proleptic Gregorian, UTC."""
    days, second = divmod(now_s, 86_400)
    # Years are counted from March, in eras of 400 years (146,097 days), so a leap day is always the last of its year.
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    return year, month, day, second // 3_600, second // 60 % 60, second % 60, (days + 3) % 7


def header_date(now_s: int) -> bytes:
    """For headers: `22 Nov 2026 16:39:29 -0000`, the day not padded (RFC 5322 3.3; -0000: no local zone is claimed)."""
    year, month, day, hour, minute, second, _ = civil_time(now_s)
    return b"%d %b %d %02d:%02d:%02d -0000" % (day, _MONTHS[month - 1], year, hour, minute, second)


def local_header_date(now_s: int, offset_s: int) -> bytes:
    """For headers, in a zone: `22 Nov 2026 17:39:29 +0100`. `offset_s` is east of Greenwich, told to the minute."""
    year, month, day, hour, minute, second, _ = civil_time(now_s + offset_s)
    zone_hour, zone_minute = divmod((abs(offset_s) + 30) // 60, 60)
    sign = b"-" if offset_s < 0 else b"+"
    return b"%d %b %d %02d:%02d:%02d %b%02d%02d" % (
        day, _MONTHS[month - 1], year, hour, minute, second, sign, zone_hour, zone_minute,
    )  # fmt: skip


def mbox_date(now_s: int) -> bytes:
    """For an mbox From_ line: `Sun Nov 22 16:39:29 2026`, the day padded with a zero."""
    year, month, day, hour, minute, second, weekday = civil_time(now_s)
    return b"%b %b %02d %02d:%02d:%02d %d" % (
        _DAYS[weekday],
        _MONTHS[month - 1],
        day,
        hour,
        minute,
        second,
        year,
    )


def compact_date(now_s: int) -> bytes:
    """For Message-ID: `20261122163929`."""
    return b"%d%02d%02d%02d%02d%02d" % civil_time(now_s)[:6]
