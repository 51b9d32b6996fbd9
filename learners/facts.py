"""What a report says beside accuracies: the versions of what made it, the cost of a training, what stays dense."""

import platform

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.kernels import find_kernels
from learners.training import TrainingResult
from utils.version import VERSION


def training_summary(result: TrainingResult) -> dict[str, float]:
    """The `training` entry of a report."""
    return {
        "iterations": result.iterations,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
    }


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    return {
        "trimflow": VERSION,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def what_stays_dense(model: keras.Model) -> str:
    """The layers whose kernels no allocation prunes, eight of them by name; empty where there are none."""
    pruned = {id(kernel) for kernel in prunable_kernels(model)}
    names = [
        f"{layer.nested_name} ({layer.op_type})"
        for layer in find_kernels(model).layers
        if not layer.is_opt_in and not pruned.issuperset(map(id, layer.kernels.values()))
    ]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
