"""Quantizers by the names that schedules use."""

from compressors.quantizers.base import Quantizer
from compressors.quantizers.dorefa import DorefaQuantizer
from compressors.quantizers.pact import PACTQuantizer
from compressors.quantizers.post_training import PostTrainLinearQuantizer
from compressors.quantizers.range_linear import QuantAwareTrainRangeLinearQuantizer
from compressors.quantizers.wrpn import WRPNQuantizer

QUANTIZERS: dict[str, type[Quantizer]] = {
    "DorefaQuantizer": DorefaQuantizer,
    "WRPNQuantizer": WRPNQuantizer,
    "PACTQuantizer": PACTQuantizer,
    "QuantAwareTrainRangeLinearQuantizer": QuantAwareTrainRangeLinearQuantizer,
    "PostTrainLinearQuantizer": PostTrainLinearQuantizer,
}
