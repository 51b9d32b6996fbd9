"""`--keras_weights`: trained weights for a network at ILSVRC-12, read, converted and verified."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from nets.keras_applications import Application, converted, is_application

# Our own files hold this layer; importing it registers it with Keras.
from nets.layers import FusedBatchNormalization  # noqa: F401
from nets.tasks import Outputs, classifier_outputs
from utils.errors import InputError, RunError, first_line
from utils.finite import not_finite
from utils.keras_files import load_keras_file
from utils.keras_layers import all_layers

IMAGENET = "imagenet"  # in place of a file: what keras.applications itself fetches
_SUFFIXES = (".keras", ".h5", ".hdf5")
_SMALLEST = 32  # pixels a side that keras.applications takes
_TOLERANCE = 1e-4

Builder = Callable[..., keras.Model]  # (number of classes, input shape, **variant)


class GivenWeights(NamedTuple):
    """Trained weights in the form of one of our networks.

    arrays: variable path -> value.
    num_classes: None where there is no classifier.
    variant: options of the builder that make the network which the weights are for.
    """

    arrays: Mapping[str, np.ndarray]
    num_classes: int | None
    variant: Mapping[str, Any]

    def digest(self) -> str:
        """A hash of all values."""
        digest = hashlib.sha256(repr(sorted(self.variant.items())).encode())
        for path, array in sorted(self.arrays.items()):
            digest.update(f"{path} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array, np.float32).data)
        return digest.hexdigest()[:12]


class Target(NamedTuple):
    """What the weights are for.

    build: of our network, in its variants; the last layer is the classifier.
    variants: options of `build`, of which one fits a `.keras` file of ours.
    application: its counterpart, where there is one.
    """

    name: str
    build: Builder
    variants: Sequence[Mapping[str, Any]]
    application: Application | None
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def counterpart(self) -> Application:
        """The application, where `check_source` has seen that there is one."""
        assert self.application is not None, self.name
        return self.application


def check_source(source: str, target: Target) -> None:
    """Raises InputError for what can be known to be wrong without reading anything."""
    application = target.application
    if source == IMAGENET:
        if application is None or not application.has_published_weights:
            raise InputError(
                "--keras_weights imagenet needs a network that keras.applications has weights of: ResNet-50, MobileNet "
                "v1 of depth multiplier 0.25, 0.5, 0.75 or 1, or v2 of 0.35, 0.5, 0.75, 1, 1.3 or 1.4. "
                f"Received: {target.name}"
            )
        return
    if not Path(source).is_file():
        raise InputError(f"--keras_weights must be a file, or imagenet. Received: {source!r}, which is not there")
    if not source.endswith(_SUFFIXES):
        raise InputError(f"--keras_weights must end in {', '.join(_SUFFIXES)}. Received: {source}")
    if application is None and not source.endswith(".keras"):
        raise InputError(
            f"--keras_weights of {target.name} must be a .keras file of that network: keras.applications has ResNet-50 "
            f"and the MobileNets alone. Received: {source}"
        )


def read_weights(source: str, target: Target, needs_classifier: bool) -> GivenWeights:
    """Weights of keras.applications, or of a `.keras` file of ours, verified by equal outputs.

    Args:
        source: `imagenet` or a file.
        needs_classifier: else `imagenet` is fetched without one, which is smaller.

    Raises:
        InputError: the weights cannot be had, are not finite, or are those of another network.
        RunError: our network with these weights gives other outputs than theirs.
    """
    check_source(source, target)
    with _full_precision():
        if source.endswith(".keras"):
            theirs = _finite(_read_network(Path(source)), source)
            if target.application is None or not is_application(theirs, target.application):
                return _taken(theirs, target, source)
        else:
            theirs = _fetched(target, needs_classifier) if source == IMAGENET else _filled(Path(source), target)
        return _converted(_finite(theirs, source), target, source)


def _finite(network: keras.Model, source: str) -> keras.Model:
    if wrong := not_finite(network.weights):
        raise InputError(f"--keras_weights {source} must hold finite weights. Received: {wrong}")
    return network


def _taken(theirs: keras.Model, target: Target, source: str) -> GivenWeights:
    title = f"{target.application.title} of keras.applications, or " if target.application else ""
    another = InputError(
        f"--keras_weights {source} must hold {title}this program's {target.name}. Received: another network"
    )
    if len(theirs.inputs) != 1 or len(theirs.outputs) != 1:
        raise another
    shape, num_classes = theirs.inputs[0].shape[1:], theirs.outputs[0].shape[-1]
    if len(shape) != 3 or None in shape:
        raise another
    arrays = {variable.path: np.asarray(variable.value) for variable in theirs.weights}
    mean, std = np.asarray(target.mean), np.asarray(target.std)
    differences = []
    for variant in target.variants:
        ours = target.build(num_classes, shape, **variant)
        if {variable.path for variable in ours.weights} != set(arrays):
            raise another
        assign_weights(ours, arrays, source)
        last = ours.layers[-1].name
        differences.append(_difference(ours, theirs, last, target, lambda images: (images - mean) / std))
        if differences[-1] < _TOLERANCE:
            return GivenWeights(arrays, num_classes, variant)
    raise InputError(
        f"--keras_weights {source} must hold {target.name} as this program builds it. Received: one whose layers have "
        f"the same names and shapes but give other outputs, by {min(differences):.2g}"
    )


def _converted(theirs: keras.Model, target: Target, source: str) -> GivenWeights:
    application = target.counterpart
    arrays = converted(theirs, application, target.std)
    bias = arrays.get(f"{application.classifier[0]}/bias")
    num_classes = None if bias is None else len(bias)
    size = theirs.input_shape[1] or max(_SMALLEST, target.image_size)
    ours = target.build(num_classes or 1, (size, size, 3), **application.variant)
    assign_weights(ours, arrays, source)
    difference = _difference(ours, theirs, application.classifier[1], target, application.preprocess)
    if not difference < _TOLERANCE:
        raise RunError(
            f"{target.name} with --keras_weights {source} gives other outputs than keras.applications' "
            f"{application.title}: they differ by {difference:.2g} of the largest"
        )
    return GivenWeights(arrays, num_classes, application.variant)


def assign_weights(model: keras.Model, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Gives the model's variables these values, as far as there are any.

    Raises:
        InputError: a value has another shape.
    """
    for variable in model.weights:
        value = arrays.get(variable.path)
        if value is not None and tuple(variable.shape) != value.shape:
            raise InputError(
                f"--keras_weights {source} must hold the network that is asked for. Received: another one, "
                f"{variable.path} is {list(value.shape)} there and {list(variable.shape)} here"
            )
        if value is not None:
            variable.assign(value)


def _difference(ours: keras.Model, theirs: keras.Model, classifier: str, target: Target, preprocess: Callable) -> float:
    """The largest difference of features and of outputs for random images, as a share of the largest of each.

    Features are what the classifier sees; probabilities alone, of which one is often nearly 1, would not tell networks
    apart. `classifier` is the name of their last layer with weights.
    """
    size = ours.input_shape[1]
    generator = np.random.default_rng(0)
    coarse = keras.ops.image.resize(generator.uniform(0, 255, (2, 4, 4, 3)), (size, size), interpolation="nearest")
    images = (0.5 * np.asarray(coarse) + generator.uniform(0, 127.5, (2, size, size, 3))).astype(np.float32)
    inputs = ((images - np.asarray(target.mean)) / np.asarray(target.std)).astype(np.float32)
    found = _features_and_probabilities(ours, ours.layers[-1].name)(inputs, training=False)
    their_inputs = np.asarray(preprocess(images.copy()), np.float32)
    expected = _features_and_probabilities(theirs, classifier)(their_inputs, training=False)
    both = (keras.tree.flatten(of_network) for of_network in (found, expected))
    pairs = [(np.ravel(one), np.ravel(other)) for one, other in zip(*both, strict=False)]
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)


def _features_and_probabilities(model: keras.Model, classifier: str) -> keras.Model:
    """With the outputs `[B, ..., features]` and `[B, classes]`; of a network without a classifier the first alone."""
    output = model.outputs[0]
    if classifier not in {layer.name for layer in model.layers}:
        return keras.Model(model.inputs[0], [keras.ops.mean(output, (1, 2)) if len(output.shape) == 4 else output])
    is_logits = classifier_outputs(model) == Outputs.LOGITS
    features = model.get_layer(classifier).input
    return keras.Model(model.inputs[0], [features, keras.ops.softmax(output) if is_logits else output])


def _fetched(target: Target, needs_classifier: bool) -> keras.Model:
    application = target.counterpart
    size = target.image_size if target.image_size in application.sizes else max(application.sizes)
    try:
        with _locked():  # Keras writes what it fetches to where another worker looks for it
            return application.build(
                weights=IMAGENET, include_top=needs_classifier, input_shape=(size, size, 3), **application.options
            )
    except Exception as error:  # whatever Keras makes of a network that is not there
        raise InputError(
            f"--keras_weights imagenet cannot be fetched: {first_line(error)}; fetch the weights of "
            f"keras.applications' {application.title} elsewhere and give that file"
        ) from error


def _filled(path: Path, target: Target) -> keras.Model:
    """The network of keras.applications with the weights of an HDF5 file."""
    application = target.counterpart
    try:
        classes = _classes_in(path, application.features)
        size = max(_SMALLEST, target.image_size)
        model = application.build(
            weights=None,
            include_top=classes is not None,
            classes=classes or 1,
            input_shape=(size, size, 3),
            **application.options,
        )
        with warnings.catch_warnings(action="ignore"):  # Keras' about its own bookkeeping
            model.load_weights(path)
    except Exception as error:  # whatever Keras makes of a damaged or foreign file
        raise InputError(
            f"--keras_weights {path} must hold the weights of keras.applications' {application.title} for "
            f"{target.name}. Received: {first_line(error)}"
        ) from error
    return model


def _classes_in(path: Path, features: int) -> int | None:
    """The number of classes that the classifier in an HDF5 file of weights has, None where there is no classifier.

    Its kernel is the one matrix, or, as a 1x1 convolution, the last beside that of the features' own layer.
    """
    shapes: list[tuple[int, ...]] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    matrices = [shape for shape in shapes if len(shape) == 2]
    if matrices:
        return matrices[0][1]
    pointwise = [shape for shape in shapes if shape[:3] == (1, 1, features)]
    if (1, 1, features, features) in pointwise:
        pointwise.remove((1, 1, features, features))
    return pointwise[0][3] if pointwise else None


def _read_network(path: Path) -> keras.Model:
    model = load_keras_file(path, f"--keras_weights {path}")
    for layer in all_layers(model):  # one that was trained with --enbl_amp
        layer.dtype_policy = "float32"
    return model


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Networks are compared in 32 bits whatever `--enbl_amp` says."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / f"trimflow-keras-weights-{os.getuid()}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
