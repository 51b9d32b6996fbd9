"""Learning rates over epochs, under PyTorch's names, and Keras' own schedules."""

from compressors.lr_schedulers.base import LRScheduler
from compressors.lr_schedulers.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from compressors.lr_schedulers.decays import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    MultiStepMultiGammaLR,
    PolynomialLR,
    StepLR,
)
from compressors.lr_schedulers.keras_schedules import KERAS_SCHEDULES
from compressors.lr_schedulers.plateau import ReduceLROnPlateau

LR_SCHEDULERS: dict[str, type[LRScheduler]] = {
    "StepLR": StepLR,
    "MultiStepLR": MultiStepLR,
    "MultiStepMultiGammaLR": MultiStepMultiGammaLR,
    "ExponentialLR": ExponentialLR,
    "LinearLR": LinearLR,
    "ConstantLR": ConstantLR,
    "PolynomialLR": PolynomialLR,
    "CosineAnnealingLR": CosineAnnealingLR,
    "CosineAnnealingWarmRestarts": CosineAnnealingWarmRestarts,
    "CyclicLR": CyclicLR,
    "OneCycleLR": OneCycleLR,
    "ReduceLROnPlateau": ReduceLROnPlateau,
    "LambdaLR": LambdaLR,
    **KERAS_SCHEDULES,
}

__all__ = ["LR_SCHEDULERS", "LRScheduler"]
