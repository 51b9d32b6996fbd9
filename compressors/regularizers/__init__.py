"""Regularizers by their names in schedules."""

from compressors.regularizers.base import Regularizer
from compressors.regularizers.group_lasso import GroupLassoRegularizer
from compressors.regularizers.group_variance import GroupVarianceRegularizer
from compressors.regularizers.l1 import L1Regularizer

REGULARIZERS: dict[str, type[Regularizer]] = {
    "L1Regularizer": L1Regularizer,
    "GroupLassoRegularizer": GroupLassoRegularizer,
    "GroupVarianceRegularizer": GroupVarianceRegularizer,
}
