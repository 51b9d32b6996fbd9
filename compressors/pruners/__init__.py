"""The pruners by the names that schedules give them."""

from compressors.pruners.agp import AutomatedGradualPruner
from compressors.pruners.base import Pruner
from compressors.pruners.level import SparsityLevelParameterPruner
from compressors.pruners.random_groups import (
    BernoulliFilterPruner,
    BernoulliFilterPruner_AGP,
    RandomLevelStructureParameterPruner,
)
from compressors.pruners.ranked import (
    L1RankedStructureParameterPruner,
    L1RankedStructureParameterPruner_AGP,
    L2RankedStructureParameterPruner,
    L2RankedStructureParameterPruner_AGP,
)
from compressors.pruners.ranked_evidence import (
    ActivationAPoZRankedFilterPruner,
    ActivationAPoZRankedFilterPruner_AGP,
    ActivationMeanRankedFilterPruner,
    ActivationMeanRankedFilterPruner_AGP,
    GradientRankedFilterPruner,
    GradientRankedFilterPruner_AGP,
    RandomRankedFilterPruner,
    RandomRankedFilterPruner_AGP,
)
from compressors.pruners.splicing import SplicingPruner
from compressors.pruners.structure import StructureParameterPruner
from compressors.pruners.threshold import BaiduRNNPruner, MagnitudeParameterPruner, SensitivityPruner

PRUNERS: dict[str, type[Pruner]] = {
    "MagnitudeParameterPruner": MagnitudeParameterPruner,
    "SparsityLevelParameterPruner": SparsityLevelParameterPruner,
    "SensitivityPruner": SensitivityPruner,
    "SplicingPruner": SplicingPruner,
    "AutomatedGradualPruner": AutomatedGradualPruner,
    "BaiduRNNPruner": BaiduRNNPruner,
    "StructureParameterPruner": StructureParameterPruner,
    "L1RankedStructureParameterPruner": L1RankedStructureParameterPruner,
    "L1RankedStructureParameterPruner_AGP": L1RankedStructureParameterPruner_AGP,
    "L2RankedStructureParameterPruner": L2RankedStructureParameterPruner,
    "L2RankedStructureParameterPruner_AGP": L2RankedStructureParameterPruner_AGP,
    "ActivationAPoZRankedFilterPruner": ActivationAPoZRankedFilterPruner,
    "ActivationAPoZRankedFilterPruner_AGP": ActivationAPoZRankedFilterPruner_AGP,
    "ActivationMeanRankedFilterPruner": ActivationMeanRankedFilterPruner,
    "ActivationMeanRankedFilterPruner_AGP": ActivationMeanRankedFilterPruner_AGP,
    "GradientRankedFilterPruner": GradientRankedFilterPruner,
    "GradientRankedFilterPruner_AGP": GradientRankedFilterPruner_AGP,
    "RandomRankedFilterPruner": RandomRankedFilterPruner,
    "RandomRankedFilterPruner_AGP": RandomRankedFilterPruner_AGP,
    "BernoulliFilterPruner": BernoulliFilterPruner,
    "BernoulliFilterPruner_AGP": BernoulliFilterPruner_AGP,
    "RandomLevelStructureParameterPruner": RandomLevelStructureParameterPruner,
}
