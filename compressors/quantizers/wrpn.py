"""WRPN: weights clipped to [-1, 1], activations to [0, 1] (Mishra et al. 2017, arXiv:1709.01134)."""

from typing import Any, ClassVar

import keras

from compressors.quantizers.activations import ActivationQuantizer, ClippedActivation
from compressors.quantizers.overrides import FLOAT_BITS
from compressors.quantizers.training import TrainingQuantizer
from compressors.quantizers.weights import WeightQuantizer, WrpnWeights


class WRPNQuantizer(TrainingQuantizer):
    """Weights by `wrpn_weights`, of at least 2 bits; activations by `clipped_activations` in place of ReLUs.

    Layers are not widened; the paper's network is built wider.
    """

    possible_weight_bits: ClassVar[range] = range(2, FLOAT_BITS)

    def weight_quantizer(self, bits: int, layer: keras.Layer, variable: keras.Variable) -> WeightQuantizer:
        return WrpnWeights(bits)

    def activation_quantizer(self, bits: int, **layer_arguments: Any) -> ActivationQuantizer:
        return ClippedActivation(bits, **layer_arguments)
