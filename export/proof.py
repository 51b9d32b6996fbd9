"""Whether exported files are the network: each run by its own runtime over the evaluation set."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.formats import Runner
from utils.errors import first_line
from utils.progress import Progress

TOLERANCE = 0.01  # of the largest output: more than rounding in 32 bits in another order comes to


@dataclass(frozen=True)
class EvaluationSet:
    """What files are judged by.

    Args:
        batches: (examples [B, ...], labels [B, ...]) as NumPy arrays; can be gone through more than once.
        num_batches: how many there are, for the progress line.
        quality: labels, outputs -> [B], whose mean is the accuracy.
        agrees: outputs of the network, outputs of a file -> bool [B], whether they say the same class; None of a
            regression.
        calibration: training examples [N, ...].
    """

    batches: Iterable[tuple[np.ndarray, np.ndarray]]
    num_batches: int
    quality: Callable[[np.ndarray, np.ndarray], np.ndarray]
    agrees: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    calibration: np.ndarray


class Proof(NamedTuple):
    """How a file did: figures, or why it is refused."""

    accuracy: float = 0.0
    agreement: float | None = None
    largest_difference: float = 0.0
    largest_output: float = 0.0
    refused: str = ""


class _Tally:
    """Sums over batches of one file."""

    def __init__(self) -> None:
        self.quality = self.agreement = 0.0
        self.difference = self.output = 0.0
        self.refused = ""

    def add(self, data: EvaluationSet, labels: np.ndarray, wanted: np.ndarray, outputs: np.ndarray) -> None:
        if outputs.shape != wanted.shape:
            self.refused = f"gives outputs of shape {outputs.shape} in place of {wanted.shape}"
        elif not np.isfinite(outputs).all():
            self.refused = "gives outputs that are no numbers"
        else:
            self.quality += float(np.sum(data.quality(labels, outputs), dtype=np.float64))
            if data.agrees is not None:
                self.agreement += float(np.sum(data.agrees(wanted, outputs)))
            self.difference = max(self.difference, float(np.abs(outputs.astype(float) - wanted).max()))
            self.output = max(self.output, float(np.abs(wanted).max()))

    def proof(self, data: EvaluationSet, count: int) -> Proof:
        agreement = None if data.agrees is None else self.agreement / count
        return Proof(self.quality / count, agreement, self.difference, self.output, self.refused)


def prove(
    network: Runner, runners: Mapping[str, Runner], data: EvaluationSet, most: int, quiet: bool = False
) -> tuple[dict[str, Proof], int]:
    """Name -> how its runner did against `network`, and over how many examples: at most `most`.

    A runner that raises, or gives other shapes or NaN, is refused and not asked again.
    """
    tallies = {name: _Tally() for name in runners}
    count = 0
    with Progress("checking exports", data.num_batches, quiet=quiet) as progress:
        for number, (examples, labels) in enumerate(data.batches, 1):
            examples, labels = examples[: most - count], labels[: most - count]
            wanted = network(examples)
            for name in (name for name, tally in tallies.items() if not tally.refused):
                try:
                    tallies[name].add(data, labels, wanted, runners[name](examples))
                except Exception as error:  # whatever the runtime says no with
                    tallies[name].refused = first_line(error)
            count += len(examples)
            progress.update(number)
            if count >= most:
                break
    return {name: tally.proof(data, count) for name, tally in tallies.items()}, count


def is_equal(proof: Proof) -> bool:
    """Whether outputs differ by no more than rounding does in a network that is continuous.

    One that rounds its activations is not: where a sum lies between two levels, its last bit decides.
    """
    return proof.largest_difference <= TOLERANCE * max(1.0, proof.largest_output)
