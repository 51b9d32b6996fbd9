"""The last round of the search: the best candidates are solved again front to back, fine-tuned and compared."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compressors.ratios import Ratios
from learners.variables import named_arrays, restore_variables
from learners.weight_sparsification.ratio_search import Record
from learners.weight_sparsification.rollout_eval import Measure, RolloutEvaluator
from utils.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import RunError
from utils.progress import Progress
from utils.workers import ALONE, Workers, from_first


class ResolvedNetworks:
    """Candidates' networks as `resolve` leaves them, not fine-tuned; each is solved once.

    Args:
        evaluator: its model is where `resolve` sets a candidate's weights.
        resolve: leaves the model pruned to given ratios, and measures it.
        directory: where they are kept for a later start; None: in memory alone.
        workers: solve as many at a time.
    """

    def __init__(
        self,
        evaluator: RolloutEvaluator,
        resolve: Callable[[Ratios], Measure],
        directory: Path | None = None,
        *,
        quiet: bool = False,
        workers: Workers = ALONE,
    ):
        self._evaluator, self._resolve, self._directory = evaluator, resolve, directory
        self._quiet, self._workers = quiet, workers
        self._known: dict[int, Checkpoint] = {}

    def __call__(self, candidates: Sequence[Record]) -> list[Checkpoint]:
        """One checkpoint a candidate: the variables by path; meta `accuracy`, `likelihood`, `seconds`."""
        missing = [candidate for candidate in candidates if candidate["index"] not in self._known]
        files = [self._directory and self._directory / f"resolved_{record['index']}.npz" for record in missing]
        known = _read(files, self._workers)
        show: dict[str, Any] = {"title": "solving front to back", "figure": "likelihood", "quiet": self._quiet}
        found = _complete(known, missing, self._solve, files, self._workers, **show)
        self._known |= {record["index"]: checkpoint for record, checkpoint in zip(missing, found, strict=True)}
        return [self._known[candidate["index"]] for candidate in candidates]

    def best(self, records: Sequence[Record], count: int) -> list[Record]:
        """The `count` records of highest reward, of equal ones the last; the likeliest once re-solved comes first."""
        best = sorted(records, key=lambda record: (record["reward"], record["index"]), reverse=True)[:count]
        likelihoods = {r["index"]: network.meta["likelihood"] for r, network in zip(best, self(best), strict=True)}
        return sorted(best, key=lambda record: likelihoods[record["index"]], reverse=True)

    def _solve(self, candidate: Record) -> Checkpoint:
        started = time.perf_counter()
        meta = self._resolve(candidate["ratios"])._asdict() | {"seconds": time.perf_counter() - started}
        return Checkpoint(named_arrays(self._evaluator.model.variables), meta)


def judge_finalists(
    candidates: Sequence[Record],
    evaluator: RolloutEvaluator,
    resolved: ResolvedNetworks,
    reward: Callable[[float, dict[str, float]], float],
    fine_tuning_iterations: int,
    directory: Path | None = None,
    *,
    quiet: bool = False,
    workers: Workers = ALONE,
) -> list[Checkpoint]:
    """Each candidate's network as re-solved and fine-tuned, with its figures; what was done before is not repeated.

    Several workers judge as many candidates at a time.

    Args:
        candidates: records of roll-outs: `index`, `source`, `ratios`.
        resolved: of the same evaluator.
        fine_tuning_iterations: of each candidate.
        directory: where each candidate's checkpoint is kept; None: nowhere.

    Returns:
        One checkpoint a candidate: the variables by path; meta `index`, `source`, `ratios`, `accuracy`,
        `accuracy_after`, `reward`, `merit`, `seconds` (of fine-tuning and measuring). The merit is the reward with the
        likelihood in place of the accuracy; the choice goes by it, because it depends less on chance
        (docs/architecture.md, section 7).

    Raises:
        RunError: a candidate's quality is no number.
    """
    files = [directory and directory / f"finalist_{place}.npz" for place in range(len(candidates))]
    known = _read(files, workers)
    missing = [candidate for candidate, checkpoint in zip(candidates, known, strict=True) if checkpoint is None]
    networks = {record["index"]: network for record, network in zip(missing, resolved(missing), strict=True)}

    def judge(candidate: Record) -> Checkpoint:
        started = time.perf_counter()
        network = networks[candidate["index"]]
        restore_variables(evaluator.model.variables, network.arrays, f"the network of roll-out {candidate['index']}")
        accuracy, likelihood, after = network.meta["accuracy"], network.meta["likelihood"], None
        if fine_tuning_iterations:
            evaluator.fine_tune(fine_tuning_iterations)
            after, likelihood = evaluator.measure()
        meta = {
            "index": candidate["index"],
            "source": candidate["source"],
            "ratios": dict(candidate["ratios"]),
            "accuracy": accuracy,
            "accuracy_after": after,
            "reward": reward(accuracy if after is None else after, candidate["ratios"]),
            "merit": reward(likelihood, candidate["ratios"]),
            "seconds": time.perf_counter() - started,
        }
        if not math.isfinite(meta["reward"]):
            raise RunError(
                f"the network of roll-out {candidate['index']} ({candidate['source']}) has the quality "
                f"{meta['reward']} on the validation set, as its outputs are no numbers. A lower --ws_prune_ratio may "
                "help (with --overwrite or another --run_dir)."
            )
        return Checkpoint(named_arrays(evaluator.model.variables), meta)

    return _complete(known, candidates, judge, files, workers, title="finalists", figure="reward", quiet=quiet)


def _read(files: Sequence[Path | None], workers: Workers) -> list[Checkpoint | None]:
    """What an earlier start left in the files; None of one that is damaged, which is told: it can be computed again."""

    def read(file: Path | None) -> Checkpoint | None:
        try:
            return None if file is None else read_checkpoint(file)
        except RunError:
            print(f"warning: {file} is damaged; its network is made again", file=sys.stderr)
            return None

    return from_first(workers, lambda: [read(file) for file in files])


def _complete(
    known: Sequence[Checkpoint | None],
    candidates: Sequence[Record],
    compute: Callable[[Record], Checkpoint],
    files: Sequence[Path | None],
    workers: Workers,
    *,
    title: str,
    figure: str,
    quiet: bool,
) -> list[Checkpoint]:
    """`known`, and for the candidates that have None there what `compute` gives: of as many at a time as workers.

    `figure` is what of a checkpoint's meta is shown.
    """
    results = {place: result for place, result in enumerate(known) if result is not None}
    missing = [place for place in range(len(known)) if place not in results]
    if not missing:
        return list(results.values())
    with Progress(title, len(known), "network", initial=len(results), quiet=quiet) as bar:
        for first in range(0, len(missing), workers.size):
            places, mine = missing[first : first + workers.size], None
            if workers.rank < len(places):
                mine = compute(candidates[places[workers.rank]])
            for rank, place in enumerate(places):
                results[place] = result = workers.broadcast(mine, root=rank)
                if (file := files[place]) is not None and workers.is_first:
                    write_checkpoint(file, result)
                bar.update(len(results), **{figure: result.meta[figure]})
    return [results[place] for place in range(len(known))]
