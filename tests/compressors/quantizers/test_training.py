"""The quantizers for training on a small network: what all of them promise, and what each does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers import QUANTIZERS
from compressors.quantizers.activations import ActivationQuantizer, ClippedActivation, LinearActivation, PactActivation
from compressors.quantizers.dorefa import DorefaQuantizer
from compressors.quantizers.layers import QuantizedConv2D, QuantizedWeights
from compressors.quantizers.pact import PACTQuantizer
from compressors.quantizers.range_linear import QuantAwareTrainRangeLinearQuantizer
from compressors.quantizers.wrpn import WRPNQuantizer

ALL = (DorefaQuantizer, WRPNQuantizer, PACTQuantizer, QuantAwareTrainRangeLinearQuantizer)
IN_PLACE = {DorefaQuantizer: ClippedActivation, WRPNQuantizer: ClippedActivation, PACTQuantizer: PactActivation}
ENDS_FLOAT = {name: {"bits_weights": None, "bits_activations": None} for name in ("conv1", "relu1", "fc2")}

parametrize_all = pytest.mark.parametrize("quantizer", ALL)


def kernels(model):
    return {layer.name: layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")}


def test_registry_has_every_quantizer_under_its_name():
    assert {name: kind.__name__ for name, kind in QUANTIZERS.items()} == {name: name for name in QUANTIZERS}
    assert set(QUANTIZERS) == {kind.__name__ for kind in ALL} | {"PostTrainLinearQuantizer"}
    assert [kind.is_for_training for kind in QUANTIZERS.values()] == [True] * 4 + [False]


@parametrize_all
class TestPrepare:
    def test_names_paths_and_float_values_are_unchanged(self, quantizer, network):
        prepared = quantizer(bits_activations=4, bits_weights=3, bits_bias=8).prepare(network)
        names = {layer.name for layer in prepared.layers}
        assert {layer.name for layer in network.layers} <= names
        values = {variable.path: variable.numpy() for variable in prepared.variables}
        for variable in network.variables:
            np.testing.assert_array_equal(values[variable.path], variable.numpy())

    def test_layers_says_what_prepare_does(self, quantizer, network):
        chosen = quantizer(bits_activations=4, bits_weights=3, bits_bias=8, overrides=ENDS_FLOAT)
        said = chosen.layers(network)
        assert said.pop("images", None) == ("activations 4 bits" if "range" in quantizer.__module__ else None)
        assert said == {
            "block1.conv1": "weights 3 bits, activations 4 bits, bias 8 bits",
            "block1.conv2": "weights 3 bits, bias 8 bits",
            "block1.relu": "activations 4 bits",
            "block1.relu6": "activations 4 bits",
            "fc1": "weights 3 bits, activations 4 bits, bias 8 bits",
            "fc2": "bias 8 bits",
        }

    def test_a_layer_that_null_leaves_out_stays_float(self, quantizer, network, images):
        prepared = quantizer(bits_activations=4, bits_weights=3, overrides=ENDS_FLOAT).prepare(network)
        for name in ENDS_FLOAT:
            assert type(prepared.get_layer(name)) is type(network.get_layer(name))
        assert isinstance(prepared.get_layer("block1.conv1"), QuantizedConv2D)
        first = [keras.Model(model.input, model.get_layer("relu1").output) for model in (network, prepared)]
        if "range" not in quantizer.__module__:
            np.testing.assert_array_equal(first[0](images), first[1](images))

    def test_bits_for_nothing_change_nothing(self, quantizer, network, images):
        prepared = quantizer().prepare(network)
        assert not any(isinstance(layer, ActivationQuantizer | QuantizedWeights) for layer in prepared.layers)
        np.testing.assert_array_equal(prepared(images), network(images))

    def test_the_same_network_is_prepared_the_same_again(self, quantizer, network, images):
        chosen = quantizer(bits_activations=4, bits_weights=3)
        first, second = chosen.prepare(network), chosen.prepare(network)
        assert [variable.path for variable in first.variables] == [variable.path for variable in second.variables]
        np.testing.assert_array_equal(first(images, training=True), second(images, training=True))


@parametrize_all
class TestTraining:
    def test_the_loss_falls_and_the_step_is_traced_once(self, quantizer, network, trainer):
        training = trainer(quantizer(bits_activations=8, bits_weights=6).prepare(network), is_compiled=True)
        losses = training.losses(25)
        assert losses[-1] < 0.9 * losses[0]
        assert training.trace_count == 1

    def test_every_float_weight_is_trained(self, quantizer, network, trainer):
        prepared = quantizer(bits_activations=8, bits_weights=6).prepare(network)
        before = kernels(prepared)
        trainer(prepared).losses(2)
        for name, kernel in kernels(prepared).items():
            assert np.abs(kernel - before[name]).max() > 0
            assert len(np.unique(kernel)) == kernel.size, "the variable holds the float copy"

    def test_finished_network_has_plain_layers_quantized_kernels_and_equal_outputs(
        self, quantizer, network, trainer, images
    ):
        chosen = quantizer(bits_activations=5, bits_weights=3, bits_bias=4, overrides={"fc2": {"bits_weights": None}})
        prepared = chosen.prepare(network)
        trainer(prepared).losses(3)
        finished = chosen.finish(prepared)
        np.testing.assert_array_equal(finished(images), prepared(images))
        assert not any(isinstance(layer, QuantizedWeights) for layer in finished.layers)
        assert [variable.path for variable in finished.variables] == [variable.path for variable in prepared.variables]
        for name, kernel in kernels(finished).items():
            if name == "fc2":
                np.testing.assert_array_equal(kernel, kernels(prepared)[name])
            else:
                assert len(np.unique(kernel)) <= 2**3
        assert len(np.unique(finished.get_layer("block1.conv1").bias.numpy())) <= 2**4
        assert any(isinstance(layer, ActivationQuantizer) for layer in finished.layers)

    def test_saved_networks_are_the_same(self, quantizer, network, trainer, images, tmp_path):
        chosen = quantizer(bits_activations=5, bits_weights=3, bits_bias=4)
        prepared = chosen.prepare(network)
        trainer(prepared).losses(1)
        for model in (prepared, chosen.finish(prepared)):
            model.save(tmp_path / "model.keras")
            loaded = keras.models.load_model(tmp_path / "model.keras")
            np.testing.assert_array_equal(loaded(images), model(images))
            assert [variable.path for variable in loaded.weights] == [variable.path for variable in model.weights]

    def test_a_network_with_fewer_filters_is_finished(self, quantizer, images):
        def build(filters, kinds):
            inputs = keras.Input((8, 8, 3))
            x = kinds[0].from_config(configs[0] | {"filters": filters})(inputs)
            return keras.Model(inputs, kinds[1].from_config(configs[1])(keras.layers.Flatten()(x)))

        chosen = quantizer(bits_weights=3)
        configs = [
            keras.layers.Conv2D(6, 3, name="conv").get_config(),
            keras.layers.Dense(4, name="fc").get_config(),
        ]
        prepared = chosen.prepare(build(6, (keras.layers.Conv2D, keras.layers.Dense)))
        quantized = [prepared.get_layer(name) for name in ("conv", "fc")]
        configs = [layer.get_config() for layer in quantized]
        thinned = build(2, [type(layer) for layer in quantized])
        finished = chosen.finish(thinned)
        assert type(finished.get_layer("conv")) is keras.layers.Conv2D
        assert finished.get_layer("conv").filters == 2
        np.testing.assert_array_equal(finished(images), thinned(images))


@pytest.mark.parametrize(("quantizer", "kind"), IN_PLACE.items())
class TestInPlaceOfRelu:
    def test_a_layer_of_the_same_name_or_one_after_the_layer(self, quantizer, kind, network):
        prepared = quantizer(bits_activations=4).prepare(network)
        names = {layer.name for layer in prepared.layers if isinstance(layer, kind)}
        assert names == {"relu1", "block1.conv1.relu", "block1.relu", "block1.relu6", "fc1.relu"}
        assert prepared.get_layer("fc1").activation is keras.activations.linear

    def test_each_layer_has_its_own_bits(self, quantizer, kind, network):
        bits = {"relu1": {"acts": 2}, "fc1": {"acts": None}}
        prepared = quantizer(bits_activations=4, bits_overrides=bits).prepare(network)
        assert prepared.get_layer("relu1").bits == 2
        assert prepared.get_layer("block1.relu").bits == 4
        assert prepared.get_layer("fc1").activation is keras.activations.relu

    def test_leaky_relus_and_other_functions_stay(self, quantizer, kind, images):
        x = inputs = keras.Input((8, 8, 3))
        others = [
            keras.layers.ReLU(negative_slope=0.1),
            keras.layers.ReLU(threshold=1.0),
            keras.layers.LeakyReLU(),
            keras.layers.Activation("tanh"),
            keras.layers.Dense(3, activation="gelu"),
        ]
        for layer in others:
            x = layer(x)
        model = keras.Model(inputs, x)
        assert quantizer(bits_activations=2).layers(model) == {}
        np.testing.assert_array_equal(quantizer(bits_activations=2).prepare(model)(images), model(images))


class TestOutputsByHand:
    def test_dorefa_with_two_bits(self):
        inputs = keras.Input((2,))
        dense = keras.layers.Dense(1, use_bias=False, activation="relu", name="fc")
        model = keras.Model(inputs, dense(inputs))
        dense.set_weights([np.arctanh(np.array([[0.8], [-0.2]]))])  # f = 1, 3/8; 3 f = 3, 1.125 -> 1, -1/3
        prepared = DorefaQuantizer(bits_activations=2, bits_weights=2).prepare(model)
        # 0.5 - 0.1 / 3 = 0.47 -> 1/3; 2 -> 1; -1 -> 0
        np.testing.assert_allclose(prepared(np.array([[0.5, 0.1], [2, 0], [-1, 0]])), [[1 / 3], [1], [0]], rtol=1e-6)

    def test_wrpn_with_three_bits(self):
        inputs = keras.Input((2,))
        dense = keras.layers.Dense(1, use_bias=False, name="fc")
        model = keras.Model(inputs, dense(inputs))
        dense.set_weights([np.array([[1.7], [-0.4]])])
        np.testing.assert_allclose(
            WRPNQuantizer(bits_weights=3).prepare(model)(np.array([[1.0, 3.0]])), [[0.0]], atol=1e-6
        )


class TestPact:
    def test_clips_start_at_the_given_value_and_are_trained(self, network, trainer):
        prepared = PACTQuantizer(bits_activations=4, act_clip_init_val=0.5).prepare(network)
        clips = [layer.clip for layer in prepared.layers if isinstance(layer, PactActivation)]
        assert [clip.numpy() for clip in clips] == [0.5] * 5
        trainer(prepared).losses(1)
        assert any(clip.numpy() != 0.5 for clip in clips)

    def test_decay_of_the_clips_is_their_own(self, network):
        prepared = PACTQuantizer(bits_activations=4).prepare(network)
        clip, kernel = prepared.get_layer("relu1").clip, prepared.get_layer("fc1").kernel
        assert PACTQuantizer(act_clip_decay=0.02).weight_decay(clip, 0.1) == 0.02
        assert PACTQuantizer(act_clip_decay=0).weight_decay(clip, 0.1) == 0
        assert PACTQuantizer().weight_decay(clip, 0.1) == 0.1
        assert PACTQuantizer(act_clip_decay=0.02).weight_decay(kernel, 0.1) == 0.1

    @pytest.mark.parametrize("arguments", [{"act_clip_init_val": 0}, {"act_clip_decay": -1}])
    def test_wrong_arguments(self, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            PACTQuantizer(**arguments)


class TestRangeLinear:
    def quantizer(self, **arguments):
        return QuantAwareTrainRangeLinearQuantizer(**{"bits_activations": 4, "bits_weights": 3} | arguments)

    def test_relus_stay_with_a_quantizer_behind_them(self, network):
        prepared = self.quantizer().prepare(network)
        names = {layer.name for layer in prepared.layers if isinstance(layer, LinearActivation)}
        assert names == {
            f"{name}.quantize" for name in ("images", "relu1", "block1.conv1", "block1.relu", "block1.relu6", "fc1")
        }
        assert prepared.get_layer("fc1").activation is keras.activations.relu

    @pytest.mark.parametrize(
        ("arguments", "bits"),
        [
            ({}, 4),
            ({"num_bits_inputs": 8}, 8),
            ({"num_bits_inputs": None}, 4),
            ({"num_bits_inputs": 32}, None),
            ({"quantize_inputs": False}, None),
            ({"bits_activations": None}, None),
            ({"bits_activations": None, "num_bits_inputs": 6}, 6),
        ],
    )
    def test_bits_of_the_inputs(self, arguments, bits, network):
        prepared = self.quantizer(**arguments).prepare(network)
        found = [layer.bits for layer in prepared.layers if layer.name == "images.quantize"]
        assert found == ([] if bits is None else [bits])

    @pytest.mark.parametrize("mode", ["SYMMETRIC", "ASYMMETRIC_UNSIGNED", "ASYMMETRIC_SIGNED"])
    def test_mode_and_decay_reach_the_layers(self, mode, network):
        prepared = self.quantizer(mode=mode, ema_decay=0.9).prepare(network)
        assert prepared.get_layer("fc1").kernel_quantizer.mode == mode
        assert (prepared.get_layer("relu1.quantize").mode, prepared.get_layer("relu1.quantize").ema_decay) == (
            mode,
            0.9,
        )

    def test_each_output_channel_has_its_own_steps(self, network):
        prepared = self.quantizer(per_channel_wts=True, bits_bias=3).prepare(network)
        finished = self.quantizer().finish(prepared)
        assert [prepared.get_layer(name).kernel_quantizer.num_channel_axes for name in ("conv1", "block1.conv2")] == [
            1,
            2,
        ]
        assert prepared.get_layer("fc1").bias_quantizer.num_channel_axes == 0
        kernel = finished.get_layer("conv1").kernel.numpy()
        assert all(len(np.unique(kernel[..., channel])) <= 2**3 for channel in range(6))
        assert len(np.unique(kernel)) > 2**3

    def test_ranges_come_from_training_and_hold_in_inference(self, network, trainer, images):
        prepared = self.quantizer(ema_decay=0.5).prepare(network)
        trainer(prepared).losses(1)
        quantizer = prepared.get_layer("images.quantize")
        np.testing.assert_allclose(
            [quantizer.low.numpy(), quantizer.high.numpy()], [images.min(), images.max()], rtol=1e-6
        )
        prepared(images * 100)
        np.testing.assert_allclose(quantizer.high.numpy(), images.max(), rtol=1e-6)

    def test_batches_give_the_first_ranges(self, network, images):
        def batches():
            return tf.data.Dataset.from_tensor_slices((images, np.zeros(16))).batch(5)

        chosen = self.quantizer(bits_activations=8, bits_weights=8)
        prepared = chosen.prepare(network, batches)
        assert prepared.get_layer("images.quantize").high.numpy() == images.max()
        np.testing.assert_allclose(prepared(images), network(images), atol=0.05)
        assert prepared.get_layer("bn1").moving_mean.numpy().tolist() == [0] * 6

    @pytest.mark.parametrize(
        "arguments",
        [{"mode": "sym"}, {"ema_decay": 1}, {"ema_decay": -0.1}, {"num_bits_inputs": 1}, {"bits_activations": 25}],
    )
    def test_wrong_arguments(self, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            self.quantizer(**arguments)
