"""What a report says of how the ratios were chosen."""

from collections.abc import Mapping
from typing import Any


def search_summary(
    stages: Mapping[str, Mapping[str, Any]], protocol: str, reward_metric: str, step_seconds: float
) -> dict[str, Any]:
    """What choosing the ratios cost; a masked training step counts as a dense one (they differ by under 2%)."""
    seconds = sum(stages[name]["seconds"] for name in ("paths", "search", "finalists") if name in stages)
    rollouts = stages.get("search", {}).get("rollouts", 0)
    finalists = stages.get("finalists", {}).get("finalists", [])
    return {
        "protocol": protocol,
        "reward_metric": reward_metric,
        "rollouts": rollouts,
        "seconds": seconds,
        "seconds_per_rollout": stages["search"]["seconds"] / rollouts if rollouts else None,
        "best_reward": max(finalists, key=lambda finalist: finalist["merit"])["reward"] if finalists else None,
        "dense_step_seconds": step_seconds,
        "dense_step_equivalents": seconds / step_seconds,
    }


def notes(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What the report must say of the run beside its figures."""
    source = stages.get("paths", {}).get("source")
    note = f"The pruning paths are those of {source}, which another run built: the time is not counted here."
    return {"notes": [note]} if source else {}
