"""A run in one sentence."""

from collections.abc import Mapping
from typing import Any

from export.page.verdicts import fastest_sound, smallest_sound, speed_of
from export.page.wording import ARROW, TIMES, Quality, model_title, percent, sizes_text

BYTES_PER_WEIGHT = 4


def summary(report: Mapping[str, Any]) -> str:
    """What was removed, what it cost, how small and how fast: "ResNet-20: 90.0% fewer prunable weights, ...".

    The file is the smallest that is sound, the speed that of the fastest one; without exports only what is known.
    """
    dense, compressed, quality = report["dense"], report["compressed"], Quality.of(report)
    parts = []
    if compressed is None:
        parts.append(f"{quality.name} {quality.text(dense['accuracy'])}")
    else:
        parts.append(f"{percent(compressed['sparsity'], 1)} fewer prunable weights")
        before, after = (quality.text(result["accuracy"]) for result in (dense, compressed))
        parts.append(f"{quality.name} {before} {ARROW} {after}")
    parts.append(_size(report))
    fastest = fastest_sound(report)
    if fastest is not None:
        speed = speed_of(fastest, report["exports"]["dense"])
        assert speed is not None, "the fastest has one"
        parts.append(f"{speed.times:.1f}{TIMES} faster as {fastest['title']}")
    return f"{model_title(report['model'])}: {', '.join(parts)}"


def dense_bytes(report: Mapping[str, Any]) -> int:
    """Bytes of the dense network's weights as 32-bit floats."""
    parameters = report["dense"].get("parameters")
    return report["sizes"]["dense_bytes"] if parameters is None else BYTES_PER_WEIGHT * parameters


def _size(report: Mapping[str, Any]) -> str:
    smallest = smallest_sound(report)
    if smallest is None:
        before, after = sizes_text(dense_bytes(report), report["sizes"]["gzip_bytes"])
        return f"weights {before} {ARROW} {after} gzipped"
    before = report["exports"]["dense"].get("bytes")
    if before is None:
        return f"file {sizes_text(smallest['bytes'])[0]} ({smallest['title']})"
    texts = sizes_text(before, smallest["bytes"])
    return f"file {texts[0]} {ARROW} {texts[1]} ({smallest['title']})"
