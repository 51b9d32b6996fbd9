"""RunRecord: all that the pages of a finished run are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class KernelPair(NamedTuple):
    """A kernel in the dense and in the compressed network; their shapes differ where filters were removed."""

    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class RunRecord:
    """A run's report and what its pictures show.

    Args:
        report: what `report.json` holds, complete (`export.report_schema`).
        rollouts: lines of `search.jsonl`; none where there was no search.
        finalists: "index", "reward" and "merit" of each.
        histories: training's name ("dense", "training") -> its rows, as `export.plots.plot_training` takes them.
        kernels: kernel path -> before and after, in the order of the layers; none where nothing was compressed.
    """

    report: Mapping[str, Any]
    rollouts: Sequence[Mapping[str, Any]] = ()
    finalists: Sequence[Mapping[str, Any]] = ()
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    kernels: Mapping[str, KernelPair] = field(default_factory=dict)
