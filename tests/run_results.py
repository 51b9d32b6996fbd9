"""What a finished run says and keeps, without times: equal for two runs that did the same."""

import json
from pathlib import Path
from typing import Any

# Keys of report.json, stages.json and search.jsonl whose values are times, or come from times, or are of the machine.
TIMES = {
    "seconds",
    "agent_seconds",
    "seconds_per_rollout",
    "dense_step_seconds",
    "dense_step_equivalents",
    "images_per_second",
    "one_thread",
    "all_threads",
    "peak_memory_bytes",
}


def without_times(value: Any) -> Any:
    """The same JSON value without what is a time, at any depth."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def results_of(run_dir: Path) -> dict[str, Any]:
    """Report, finished stages and roll-outs, without times."""
    search = run_dir / "search.jsonl"
    return {
        "report": without_times(json.loads((run_dir / "report.json").read_text())),
        "stages": without_times(json.loads((run_dir / "stages.json").read_text())),
        "rollouts": [without_times(json.loads(line)) for line in search.read_text().splitlines()]
        if search.exists()
        else [],
    }
