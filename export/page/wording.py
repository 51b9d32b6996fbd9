"""How pages say numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

NOTHING = "\N{EN DASH}"
ARROW = "\N{RIGHTWARDS ARROW}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
FAMILIES = {"resnet": "ResNet", "preresnet": "PreResNet", "mobilenet": "MobileNet", "vgg": "VGG", "alexnet": "AlexNet"}
FAMILIES |= {"lenet": "LeNet", "simplenet": "SimpleNet", "plain": "Plain"}


class Quality(NamedTuple):
    """What a report calls accuracy: a share in percent, or the mean of another metric as a plain number."""

    name: str
    is_share: bool

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Quality":
        """The quality of a report."""
        name = report.get("metric", "accuracy")
        return cls(name, name == "accuracy")

    def text(self, value: float) -> str:
        """ "90.30%", or "-0.1234" of another metric."""
        return percent(value) if self.is_share else signed_text(f"{value:.4f}")

    def change(self, before: float, after: float) -> str:
        """ "+0.85 points", or "+0.0012"."""
        return signed_text(f"{100 * (after - before):+.2f} points" if self.is_share else f"{after - before:+.4f}")

    def is_kept(self, reference: float, value: float) -> bool:
        """Whether `value` is within one point of `reference`, of another metric within a hundredth of its size."""
        allowed = 0.01 if self.is_share else 0.01 * abs(reference)
        return value >= reference - allowed - 1e-9  # a difference of just one point is within it in floats too


def model_title(name: str) -> str:
    """ "ResNet-20" for "resnet_20"; a name of no family of ours stays as it is."""
    family, _, size = name.partition("_")
    if family not in FAMILIES:
        return name
    if not size:
        return FAMILIES[family]
    return f"{FAMILIES[family]}{' ' if size.startswith('v') else '-'}{size.replace('_', ' ')}"


def capitalised(text: str) -> str:
    """With a capital at the beginning, the rest as it is: "mAP" stays a name."""
    return text[:1].upper() + text[1:]


def signed_text(text: str) -> str:
    """With a minus sign in place of the hyphen."""
    return text.replace("-", MINUS)


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction in percent."""
    return f"{100 * fraction:.{digits}f}%"


def kilobytes(size: int) -> str:
    """Bytes in kB (1,000), of small ones a decimal more."""
    return f"{size / 1e3:,.0f} kB" if size >= 10_000 else f"{size / 1e3:,.2f} kB"


def sizes_text(*sizes: int) -> tuple[str, ...]:
    """Sizes in the same unit, MB where one is at least 1 MB, else kB; each with two digits that say something."""
    unit, name = (1e6, "MB") if max(sizes) >= 1e6 else (1e3, "kB")
    return tuple(f"{size / unit:,.{_decimals(size / unit)}f} {name}" for size in sizes)


def _decimals(value: float) -> int:
    return next((digits for digits, least in enumerate((100, 10, 0.1, 0.01, 0.001)) if value >= least), 2)


def milliseconds(value: float) -> str:
    """Milliseconds with three digits that say something."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def counted(number: int, name: str) -> str:
    """ "1 layer", "22 layers"."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def joined(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
