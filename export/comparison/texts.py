"""How the figures of a comparison are said."""

from collections.abc import Callable
from typing import Any, NamedTuple

from export.comparison.groups import Spread
from export.comparison.measures import ACCURACY

ABSENT = "-"


class Quality(NamedTuple):
    """How what is called accuracy is shown: in percent, or by another name and as a plain number."""

    name: str
    value: Callable[[float], str]
    change: Callable[[float], str]

    @classmethod
    def of(cls, metric: str) -> "Quality":
        """How the metric of a report is shown."""
        if metric == ACCURACY:
            return cls(metric, percent, lambda change: f"{100 * change:+z.2f}")
        return cls(metric, "{:.4f}".format, "{:+z.4f}".format)


def percent(fraction: float) -> str:
    """A fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}%"


def kilobytes(size: float) -> str:
    """Bytes in kB of 1000, a decimal below a thousand."""
    return f"{size / 1000:,.1f}" if size < 1e6 else f"{size / 1000:,.0f}"


def millions(count: float) -> str:
    """A count in millions, two decimals."""
    return f"{count / 1e6:,.2f}"


def milliseconds(value: float) -> str:
    """Milliseconds, two decimals from one on, three below."""
    return f"{value:.3f}" if value < 1 else f"{value:,.2f}"


def flag_value(value: Any) -> str:
    """The value of a flag as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def spread(value: Spread | None, show: Callable[[float], str]) -> str:
    """A mean, with the lowest and the highest of several seeds where they differ."""
    if value is None:
        return ABSENT
    low, high = show(value.low), show(value.high)
    return show(value.mean) if low == high else f"{show(value.mean)} ({low} to {high})"


def cost_text(key: str) -> Callable[[float], str]:
    """How the cost of the front `key` is said, with its unit."""
    said = {
        "bytes": lambda value: f"{kilobytes(value)} kB",
        "flops": lambda value: f"{millions(value)} MFLOPs",
        "latency": lambda value: f"{milliseconds(value)} ms",
    }
    return said[key]
