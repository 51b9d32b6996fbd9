"""PACT: activations clipped at a learned value (Choi et al. 2018, arXiv:1805.06085)."""

from typing import Any, ClassVar

import keras

from compressors.components import NonNegative, Positive
from compressors.quantizers.activations import CLIP, ActivationQuantizer, PactActivation
from compressors.quantizers.training import TrainingQuantizer
from compressors.quantizers.weights import DorefaWeights, WeightQuantizer


class PACTQuantizer(TrainingQuantizer):
    """Weights by `dorefa_weights`; activations by `pact_activations` in place of ReLUs, one clip for each.

    `act_clip_decay` is the L2 decay of the clips; None: that of the weights.
    """

    keeps_zeros: ClassVar[bool] = False

    act_clip_init_val: Positive = 8.0
    act_clip_decay: NonNegative | None = None

    def weight_quantizer(self, bits: int, layer: keras.Layer, variable: keras.Variable) -> WeightQuantizer:
        return DorefaWeights(bits)

    def activation_quantizer(self, bits: int, **layer_arguments: Any) -> ActivationQuantizer:
        return PactActivation(bits, self.act_clip_init_val, **layer_arguments)

    def weight_decay(self, variable: keras.Variable, default: float) -> float:
        is_clip = variable.name == CLIP
        return self.act_clip_decay if is_clip and self.act_clip_decay is not None else default
