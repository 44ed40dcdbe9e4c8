"""Numbers as a reader meets them: rounded, with a true minus sign, and round ones for a chart's axes."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float | None, digits: int = 3) -> str:
    """A value for people: ``digits`` significant digits, thousands apart, a true minus, "–" for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1000 or value == int(value):
        text = f"{value:,.0f}" if size < 1e7 else f"{value:.{digits - 1}e}"
    elif size < 1e-4:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "−")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``, about ``count``."""
    span = high - low
    if not (math.isfinite(low) and math.isfinite(span)) or span <= 0:
        return [low] if math.isfinite(low) else []
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    places = max(0, -math.floor(math.log10(step)))
    return [round(k * step, places + 1) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Ticks with as many decimals as their distance needs, the same for all."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values else 1.0
    if not 1e-4 < step < 1e5:
        return [number(value) for value in values]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{places}f}".replace("-", "−") for value in values]


def signed(value: float | None) -> str:
    """A difference: with its sign, also where it is positive."""
    return f"+{number(value)}" if value is not None and value > 0 else number(value)
