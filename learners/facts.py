"""What a report says beside accuracies: the versions of what made it, and the cost of a training."""

import platform

import keras
import numpy as np
import tensorflow as tf

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
