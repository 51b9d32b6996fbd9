"""The last round of the search: the best candidates are re-solved progressively, fine-tuned and compared."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learners.training import named_arrays
from learners.weight_sparsification.rollout_eval import RolloutEvaluator
from utils.progress import Progress
from utils.run_dir import Checkpoint, read_checkpoint, write_checkpoint


def judge_finalists(
    candidates: Sequence[Mapping[str, Any]],
    evaluator: RolloutEvaluator,
    resolve: Callable[[Mapping[str, float]], None],
    reward: Callable[[float, Mapping[str, float]], float],
    fine_tuning_iterations: int,
    directory: Path | None = None,
    *,
    quiet: bool = False,
) -> list[Checkpoint]:
    """Each candidate's network as re-solved and fine-tuned, with its figures; what was done before is not repeated.

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
    results = []
    with Progress("finalists", len(candidates), unit="finalist", quiet=quiet) as bar:
        for place, candidate in enumerate(candidates):
            path = directory and directory / f"finalist_{place}.npz"
            found = path and read_checkpoint(path)
            if found is None:
                found = _judge(candidate, evaluator, resolve, reward, fine_tuning_iterations)
                if path is not None:
                    write_checkpoint(path, found)
            results.append(found)
            bar.update(place + 1, reward=found.meta["reward"])
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
