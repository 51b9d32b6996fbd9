"""Bits by layer: spellings, order, names and mistakes."""

import keras
import pydantic
import pytest

from compressors.quantizers.dorefa import DorefaQuantizer
from compressors.quantizers.overrides import LayerBits, is_match
from compressors.quantizers.pact import PACTQuantizer
from compressors.quantizers.range_linear import QuantAwareTrainRangeLinearQuantizer
from compressors.quantizers.wrpn import WRPNQuantizer
from utils.errors import InputError

ALL = (DorefaQuantizer, WRPNQuantizer, PACTQuantizer, QuantAwareTrainRangeLinearQuantizer)


def model_with(*names):
    x = inputs = keras.Input((4,))
    for name in names:
        x = keras.layers.Dense(4, name=name)(x)
    return keras.Model(inputs, x, name="net")


class TestDefaults:
    @pytest.mark.parametrize("quantizer", ALL)
    def test_without_arguments_nothing_is_quantized(self, quantizer):
        assert quantizer().bits_of("conv1") == LayerBits(None, None, None)

    def test_32_bits_and_null_mean_the_same(self):
        as_32 = DorefaQuantizer(bits_weights=32, bits_activations=32, overrides={"fc": {"bits_weights": 32}})
        assert as_32 == DorefaQuantizer(bits_weights=None, bits_activations=None, overrides={"fc": {"wts": None}})

    def test_bias_is_quantized_only_where_it_is_asked_for(self):
        assert DorefaQuantizer(bits_weights=4).bits_of("fc").bias is None
        assert DorefaQuantizer(bits_weights=4, bits_bias=8).bits_of("fc").bias == 8

    def test_older_quantize_bias_gives_a_bias_the_bits_of_its_weights(self):
        quantizer = DorefaQuantizer(bits_weights=4, quantize_bias=True, overrides={"fc": {"wts": 2}, "a": {"bias": 7}})
        assert [quantizer.bits_of(name).bias for name in ("conv1", "fc", "a")] == [4, 2, 7]

    def test_a_number_as_text_is_a_number(self):
        assert DorefaQuantizer(bits_weights="4").bits_weights == 4


class TestOverrides:
    def test_null_does_not_quantize_the_layer(self):
        quantizer = DorefaQuantizer(
            bits_activations=8, bits_weights=4, overrides={"conv1": {"bits_weights": None, "bits_activations": None}}
        )
        assert quantizer.bits_of("conv1") == LayerBits(None, None, None)
        assert quantizer.bits_of("conv2") == LayerBits(4, 8, None)

    def test_what_is_not_given_stays_at_the_default(self):
        quantizer = DorefaQuantizer(bits_activations=8, bits_weights=4, overrides={"conv1": {"bits_weights": 2}})
        assert quantizer.bits_of("conv1") == LayerBits(2, 8, None)

    def test_the_first_match_wins_in_the_order_written(self):
        narrow, wide = {"conv1": {"wts": 2}}, {"conv.*": {"wts": 3}}
        first_narrow = DorefaQuantizer(overrides=narrow | wide)
        assert [first_narrow.bits_of(name).weights for name in ("conv1", "conv2", "fc")] == [2, 3, None]
        first_wide = DorefaQuantizer(overrides=wide | narrow)
        assert [first_wide.bits_of(name).weights for name in ("conv1", "conv2", "fc")] == [3, 3, None]

    def test_older_spelling_means_the_same(self):
        older = {"conv1": {"wts": None, "acts": 2, "bias": 8}}
        newer = {"conv1": {"bits_weights": None, "bits_activations": 2, "bits_bias": 8}}
        assert DorefaQuantizer(bits_overrides=older) == DorefaQuantizer(overrides=newer)

    def test_no_overrides_may_be_written_as_null(self):
        assert DorefaQuantizer(overrides=None) == DorefaQuantizer()

    def test_arguments_make_the_same_quantizer_again(self):
        quantizer = PACTQuantizer(bits_weights=3, bits_overrides={"fc": {"acts": None}, "a.*": {"wts": 2}})
        assert PACTQuantizer(**quantizer.arguments()) == quantizer
        assert list(quantizer.arguments()["overrides"]) == ["fc", "a.*"]


class TestMatching:
    @pytest.mark.parametrize(
        ("key", "matches", "others"),
        [
            ("conv1", ["conv1", "module.conv1"], ["conv10", "layer1.0.conv1", "aconv1"]),
            ("module.conv1", ["conv1"], ["conv2"]),
            (r"module\.layer1\.0\.conv1", ["layer1.0.conv1"], ["layer1.0.conv2"]),
            ("features.module.0", ["features.0"], ["features.1"]),
            (r"layer1\..*", ["layer1.0.conv1", "layer1.1.bn1"], ["layer2.0.conv1", "layer1"]),
            ("conv1|fc", ["conv1", "fc"], ["conv11", "afc"]),
            (r"(a|b)\.conv\d", ["a.conv1", "b.conv2"], ["a.conv12", "c.conv1"]),
            (r"(?P<stage>\d)\.(?P=stage)", ["1.1"], ["1.2"]),
        ],
    )
    def test_a_key_is_a_regular_expression_for_the_whole_name(self, key, matches, others):
        assert [is_match(key, name) for name in matches] == [True] * len(matches)
        assert [is_match(key, name) for name in others] == [False] * len(others)

    def test_the_documented_example_matches_the_layers_that_it_is_said_to(self):
        # "The convolution layers are named conv1, conv2 and so on": block1.conv*
        names = ["block1.conv1", "block1.conv2", "block1.conv12", "block1.conv"]
        assert all(is_match("block1.conv*", name) for name in names)
        assert not any(is_match("block1.conv*", name) for name in ("block1.bn1", "block2.conv1", "block1.relu"))
        assert is_match(r"mlp\.*", "mlp.0")

    def test_other_stars_are_those_of_regular_expressions(self):
        assert is_match(r"layer\d*", "layer12")
        assert not is_match(r"layer\d*", "layer1.conv1")
        assert not is_match("layer[12]*", "layer1.conv1")


class TestMistakes:
    @pytest.mark.parametrize("quantizer", ALL)
    def test_a_key_without_layer_names_the_nearest(self, quantizer):
        model = model_with("layer1.0.conv1", "layer1.0.conv2", "fc")
        wrong = quantizer(bits_weights=4, overrides={"fc": {}, "module.layer1.0.conv3": {"bits_weights": None}})
        with pytest.raises(InputError, match=r"matches 'module.layer1.0.conv3'; the nearest are layer1.0.conv"):
            wrong.check(model)

    def test_an_input_is_no_layer(self):
        model = keras.Sequential([keras.Input((4,), name="images"), keras.layers.Dense(2, name="fc")])
        model = keras.Model(model.inputs, model.layers[-1].output)
        assert model.layers[0].name == "images"
        with pytest.raises(InputError, match="matches 'images'"):
            DorefaQuantizer(bits_weights=4, overrides={"images": {"acts": 8}}).check(model)

    def test_keys_that_match_are_accepted_even_where_another_came_first(self):
        DorefaQuantizer(bits_weights=4, overrides={".*": {"wts": 2}, "fc": {"wts": 3}}).check(model_with("fc"))

    def test_bits_for_nothing_that_the_model_has(self):
        with pytest.raises(InputError, match="DorefaQuantizer has nothing to quantize in 'net'"):
            DorefaQuantizer(bits_activations=4).check(model_with("fc"))
        DorefaQuantizer().check(model_with("fc"))

    @pytest.mark.parametrize(
        "arguments",
        [
            {"overrides": {"conv1(": {}}},
            {"overrides": {"*conv1": {}}},
            {"overrides": {"conv1": {"bits": 3}}},
            {"overrides": {"conv1": 3}},
            {"overrides": {"conv1": {"wts": 3, "bits_weights": 3}}},
            {"overrides": {}, "bits_overrides": {}},
            {"bits_weights": 0},
            {"bits_weights": 33},
            {"bits_weights": True},
            {"bits_weights": 2.5},
            {"bits_activations": -1},
            {"overrides": {"conv1": {"acts": 64}}},
            {"train_with_fp_copy": False},
        ],
    )
    @pytest.mark.parametrize("quantizer", ALL)
    def test_wrong_arguments(self, quantizer, arguments):
        with pytest.raises(pydantic.ValidationError):
            quantizer(**arguments)

    def test_an_invalid_expression_is_named(self):
        with pytest.raises(pydantic.ValidationError, match=r"regular expressions as keys. Received: 'conv1\('"):
            DorefaQuantizer(overrides={"conv1(": {}})

    @pytest.mark.parametrize(
        ("quantizer", "field"),
        [
            (WRPNQuantizer, "bits_weights"),
            (WRPNQuantizer, "bits_bias"),
            (QuantAwareTrainRangeLinearQuantizer, "bits_weights"),
            (QuantAwareTrainRangeLinearQuantizer, "bits_activations"),
        ],
    )
    def test_one_bit_is_too_few_where_one_is_the_signs(self, quantizer, field):
        for arguments in ({field: 1}, {"overrides": {"fc": {field: 1}}}):
            with pytest.raises(pydantic.ValidationError, match=f"{field} must be from 2 to"):
                quantizer(**arguments)
        assert getattr(quantizer(**{field: 2}), field) == 2
