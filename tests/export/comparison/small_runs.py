"""Run directories made by hand: a configuration and a report, small but whole."""

import copy
import json
from pathlib import Path
from typing import Any

CONFIG = {
    "net": "resnet_20_at_digits32",
    "learner": "weight-sparse",
    "seed": 0,
    "batch_size": 128,
    "ws_prune_ratio": 0.9,
}
REPORT = {
    "model": "resnet_20",
    "dataset": "digits32",
    "data_title": "digits32 (embedded, not CIFAR-10)",
    "learner": "weight-sparse",
    "seed": 0,
    "versions": {"trimflow": "0.1.0", "tensorflow": "2.21.0"},
    "dense": {"accuracy": 0.9},
    "compressed": {"accuracy": 0.88, "sparsity": 0.9},
    "layers": [
        {
            "path": "conv/kernel",
            "shape": [3, 3, 16, 16],
            "parameters": 2304,
            "target_ratio": 0.9,
            "sparsity": 0.9,
            "flops_dense": 4_000_000,
            "flops_sparse": 400_000,
        },
        {
            "path": "fc/kernel",
            "shape": [64, 10],
            "parameters": 640,
            "target_ratio": 0.0,
            "sparsity": 0.0,
            "flops_dense": 1280,
            "flops_sparse": 1280,
        },
    ],
    "search": {
        "protocol": "optimal",
        "rollouts": 100,
        "seconds": 65.0,
        "seconds_per_rollout": 0.5,
        "best_reward": 0.87,
        "dense_step_seconds": 0.1,
        "dense_step_equivalents": 650.0,
    },
    "training": {"iterations": 600, "seconds": 80.0, "images_per_second": 960.0},
    "sizes": {"dense_bytes": 1_100_000, "sparse_bytes": 150_000, "gzip_bytes": 140_000},
    "stages": [{"name": "dense", "seconds": 70.0}, {"name": "search", "seconds": 65.0}],
}


def report_of(**changes: Any) -> dict[str, Any]:
    """A whole report; a dictionary in `changes` is put into the part of its name, all else replaces it."""
    report = copy.deepcopy(REPORT)
    for name, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(report.get(name), dict)
        report[name] = report[name] | value if is_part else value
    return report


def file_row(name: str, size: int, accuracy: float, latency: float | None = None) -> dict[str, Any]:
    """A row of `exports.formats`; a latency in milliseconds, with 0.1 on either side."""
    spread = None if latency is None else {"median": latency, "low": latency - 0.1, "high": latency + 0.1}
    return {
        "format": name,
        "title": f"the {name} file",
        "file": f"exports/{name}",
        "bytes": size,
        "accuracy": accuracy,
        "one_thread": spread,
    }


def refused_row(name: str) -> dict[str, Any]:
    """A row of a file that its runtime refused."""
    return {"format": name, "title": f"the {name} file", "refused": "it is not to be run"}


def exports_of(
    *rows: dict[str, Any], machine: str = "two cores", dense: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The part `exports` of a report."""
    return {
        "model_digest": "0",
        "images": 100,
        "machine": machine,
        "threads": 2,
        "seconds": 5.0,
        "dense": dense or file_row("litert", 1_100_000, 0.9, 2.0),
        "formats": list(rows),
        "layers": [],
    }


def write_run(directory: Path, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A finished run of `CONFIG | config` with `report_of(**changes)`; a seed in `config` is the report's too."""
    directory.mkdir(parents=True)
    config = CONFIG | (config or {})
    report = report_of(**{"seed": config["seed"], "learner": config["learner"]} | changes)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "report.json").write_text(json.dumps(report))
    return directory


def write_accuracy(directory: Path, accuracy: float, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    """As `write_run`, with this accuracy of the compressed network."""
    return write_run(directory, config, compressed={"accuracy": accuracy}, **changes)
