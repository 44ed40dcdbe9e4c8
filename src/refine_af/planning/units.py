"""Numbers as people read them: 46.1 M tokens, 3.2 h, 13.5 GB. A gigabyte is 10⁹ bytes throughout."""

from __future__ import annotations

GB = 1e9


def count(number: float) -> str:
    """A whole number in three digits with a unit: 812, 6.1 k, 46.1 M, 6.74 G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,600 rounds up to 1 M, not to 1000 k
        if number >= size * 0.9995:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """A length of time in its natural unit: 12 s, 8.5 min, 26 h, 5.3 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{_two_digits(seconds / 60)} min"
    if seconds < 72 * 3600:
        return f"{_two_digits(seconds / 3600)} h"
    return f"{_two_digits(seconds / 86400)} days"


def gigabytes(size: float) -> str:
    """A size given in GB: 13.5 GB, or 32 MB under a tenth of one."""
    if size < 0.1:
        return f"{size * 1000:.0f} MB"
    return f"{size:.1f} GB"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
