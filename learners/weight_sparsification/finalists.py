"""The last round of the search: the best candidates are re-solved progressively, fine-tuned and compared."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learners.variables import named_arrays
from learners.weight_sparsification.rollout_eval import RolloutEvaluator
from utils.progress import Progress
from utils.run_dir import Checkpoint, read_checkpoint, write_checkpoint
from utils.workers import ALONE, Workers, from_first


def judge_finalists(
    candidates: Sequence[Mapping[str, Any]],
    evaluator: RolloutEvaluator,
    resolve: Callable[[Mapping[str, float]], None],
    reward: Callable[[float, Mapping[str, float]], float],
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
        resolve: sets the candidate's weights on the evaluator's model.
        fine_tuning_iterations: of each candidate.
        directory: where each candidate's checkpoint is kept; None: nowhere.

    Returns:
        One checkpoint a candidate: the variables by path; meta `index`, `source`, `ratios`, `accuracy`,
        `accuracy_after`, `reward`, `merit`, `seconds`. The merit is the reward with the likelihood in place of the
        accuracy; the choice goes by it, because it depends less on chance (docs/architecture.md, section 7).
    """
    files = [directory and directory / f"finalist_{place}.npz" for place in range(len(candidates))]
    results = from_first(workers, lambda: [file and read_checkpoint(file) for file in files])
    missing = [place for place, result in enumerate(results) if result is None]
    with Progress("finalists", len(candidates), unit="finalist", quiet=quiet) as bar:
        for first in range(0, len(missing), workers.size):
            places, mine = missing[first : first + workers.size], None
            if workers.rank < len(places):
                candidate = candidates[places[workers.rank]]
                mine = _judge(candidate, evaluator, resolve, reward, fine_tuning_iterations)
            for rank, place in enumerate(places):
                results[place] = workers.broadcast(mine, root=rank)
                if directory is not None and workers.is_first:
                    write_checkpoint(files[place], results[place])
                bar.update(len(candidates) - len(missing) + first + rank + 1, reward=results[place].meta["reward"])
    return results


def _judge(candidate, evaluator, resolve, reward, fine_tuning_iterations) -> Checkpoint:
    started = time.perf_counter()
    resolve(candidate["ratios"])
    resolved, after = evaluator.measure(), None
    if fine_tuning_iterations:
        evaluator.fine_tune(fine_tuning_iterations)
        after = evaluator.measure()
    final = after or resolved
    meta = {
        "index": candidate["index"],
        "source": candidate["source"],
        "ratios": dict(candidate["ratios"]),
        "accuracy": resolved.accuracy,
        "accuracy_after": after and after.accuracy,
        "reward": reward(final.accuracy, candidate["ratios"]),
        "merit": reward(final.likelihood, candidate["ratios"]),
        "seconds": time.perf_counter() - started,
    }
    return Checkpoint(named_arrays(evaluator.model.variables), meta)
