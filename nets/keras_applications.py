"""The networks whose weights keras.applications publishes: which of its layers is which of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from nets.blocks import divisible

_STAGES_OF_50 = (3, 4, 6, 3)


class Application(NamedTuple):
    """A network of `keras.applications` with a counterpart of ours.

    title: what errors call it.
    build: its function, which takes `weights`, `include_top`, `classes`, `input_shape` and `options`.
    preprocess: what it wants done to RGB images in 0..255.
    is_bgr: whether that turns the channels round and leaves the scale; else its inputs are what ours are.
    variant: options of our builder that make the same network.
    has_published_weights: whether there are some for its options.
    sizes: those of the images that weights are published for.
    features: numbers that the classifier sees.
    layers: (our convolution, our batch norm, its convolution, its batch norm), in order.
    classifier: our last layer, and its.
    """

    title: str
    build: Callable[..., keras.Model]
    options: Mapping[str, Any]
    preprocess: Callable[[np.ndarray], np.ndarray]
    is_bgr: bool
    variant: Mapping[str, Any]
    has_published_weights: bool
    sizes: Sequence[int]
    features: int
    layers: Sequence[tuple[str, str, str, str]]
    classifier: tuple[str, str]


def resnet_50() -> Application:
    layers = [("conv1", "bn1", "conv1_conv", "conv1_bn")]
    for stage, blocks in enumerate(_STAGES_OF_50, start=1):
        for block in range(blocks):
            ours, theirs = f"layer{stage}.{block}", f"conv{stage + 1}_block{block + 1}"
            if block == 0:
                layers.append((f"{ours}.downsample.0", f"{ours}.downsample.1", f"{theirs}_0_conv", f"{theirs}_0_bn"))
            for number in (1, 2, 3):
                names = (f"{ours}.conv{number}", f"{ours}.bn{number}")
                layers.append((*names, f"{theirs}_{number}_conv", f"{theirs}_{number}_bn"))
    return Application(
        "ResNet50",
        keras.applications.ResNet50,
        {},
        keras.applications.resnet50.preprocess_input,
        is_bgr=True,
        variant={"is_keras_variant": True},
        has_published_weights=True,
        sizes=(224,),
        features=2048,
        layers=layers,
        classifier=("fc", "predictions"),
    )


def mobilenet_v1(width: float) -> Application:
    layers = [("model.0.0", "model.0.1", "conv1", "conv1_bn")]
    for block in range(1, 14):
        layers.append((f"model.{block}.0", f"model.{block}.1", f"conv_dw_{block}", f"conv_dw_{block}_bn"))
        layers.append((f"model.{block}.3", f"model.{block}.4", f"conv_pw_{block}", f"conv_pw_{block}_bn"))
    return Application(
        "MobileNet",
        keras.applications.MobileNet,
        {"alpha": width},
        keras.applications.mobilenet.preprocess_input,
        is_bgr=False,
        variant={},
        has_published_weights=width in (0.25, 0.5, 0.75, 1.0),
        sizes=(128, 160, 192, 224),
        features=int(1024 * width),
        layers=layers,
        classifier=("fc", "conv_preds"),
    )


def mobilenet_v2(width: float) -> Application:
    layers = [("features.0.0", "features.0.1", "Conv1", "bn_Conv1")]
    for block in range(1, 18):
        ours = f"features.{block}.conv"
        theirs, depthwise, narrow = "expanded_conv", f"{ours}.0", f"{ours}.1"
        narrow_norm = f"{ours}.2"
        if block > 1:
            theirs, depthwise, narrow, narrow_norm = f"block_{block - 1}", f"{ours}.1", f"{ours}.2", f"{ours}.3"
            layers.append((f"{ours}.0.0", f"{ours}.0.1", f"{theirs}_expand", f"{theirs}_expand_BN"))
        layers.append((f"{depthwise}.0", f"{depthwise}.1", f"{theirs}_depthwise", f"{theirs}_depthwise_BN"))
        layers.append((narrow, narrow_norm, f"{theirs}_project", f"{theirs}_project_BN"))
    layers.append(("features.18.0", "features.18.1", "Conv_1", "Conv_1_bn"))
    return Application(
        "MobileNetV2",
        keras.applications.MobileNetV2,
        {"alpha": width},
        keras.applications.mobilenet_v2.preprocess_input,
        is_bgr=False,
        variant={},
        has_published_weights=width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        sizes=(96, 128, 160, 192, 224),
        features=divisible(1280 * max(1.0, width)),
        layers=layers,
        classifier=("classifier.1", "predictions"),
    )


def is_application(model: keras.Model, application: Application) -> bool:
    """Whether the model's layers have the names of that network's."""
    names = {layer.name for layer in model.layers}
    return all(name in names for _, _, *theirs in application.layers for name in theirs)


def converted(theirs: keras.Model, application: Application, std: Sequence[float]) -> dict[str, np.ndarray]:
    """Path of our variable -> value, from their network; without the classifier where it has none.

    A bias before batch norm is taken off the moving mean. Ours takes `(rgb - mean) / std`: where theirs takes
    `bgr - mean`, the first kernel is turned round and multiplied by `std`.
    """
    layers = {layer.name: layer for layer in theirs.layers}
    arrays: dict[str, np.ndarray] = {}
    for conv, norm, their_conv, their_norm in application.layers:
        kernel, *bias = layers[their_conv].get_weights()
        if not arrays and application.is_bgr:
            kernel = kernel[:, :, ::-1] * np.asarray(std, np.float32)[:, None]
        gamma, beta, mean, variance = layers[their_norm].get_weights()
        arrays[f"{conv}/kernel"] = kernel
        values = {"gamma": gamma, "beta": beta, "moving_mean": mean - sum(bias), "moving_variance": variance}
        arrays |= {f"{norm}/{name}": value for name, value in values.items()}
    ours, classifier = application.classifier
    if classifier in layers:
        kernel, bias = layers[classifier].get_weights()
        arrays |= {f"{ours}/kernel": kernel.reshape(-1, len(bias)), f"{ours}/bias": bias}
    return arrays
