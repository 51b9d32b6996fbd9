"""DoReFa: weights squashed by tanh, activations clipped to [0, 1] (Zhou et al. 2016, arXiv:1606.06160)."""

from typing import Any, ClassVar

import keras

from compressors.quantizers.activations import ActivationQuantizer, ClippedActivation
from compressors.quantizers.training import TrainingQuantizer
from compressors.quantizers.weights import DorefaWeights, WeightQuantizer


class DorefaQuantizer(TrainingQuantizer):
    """Weights by `dorefa_weights`; activations by `clipped_activations` in place of ReLUs.

    The gradients are not quantized, and 0 is none of the values of a weight: a pruned one is not computed with as 0.
    """

    keeps_zeros: ClassVar[bool] = False

    def weight_quantizer(self, bits: int, layer: keras.Layer, variable: keras.Variable) -> WeightQuantizer:
        return DorefaWeights(bits)

    def activation_quantizer(self, bits: int, **layer_arguments: Any) -> ActivationQuantizer:
        return ClippedActivation(bits, **layer_arguments)
