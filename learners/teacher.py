"""The teacher of a run with --enbl_dst: where it comes from, and whether it fits the network that is to learn."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from learners.config import RunConfig
from learners.download import download
from learners.given_networks import network_url
from learners.network_files import load_network, read_model
from nets.model_helper import ModelHelper
from utils.errors import InputError
from utils.run_dir import RunDir
from utils.workers import ALONE, Workers, from_first, share_variables

OWN_DENSE = "the run's own dense network"
CHECKED_IMAGES = 8


class TeacherSource:
    """What the flags say of the teacher, and what there is of it.

    The weights are those of `--save_path_dst`, or of a `full-prec` run beside this one, or behind `--model_http_url`;
    the network is the file's own or, with `--dst_resnet_size`, the ResNet of that size. With neither flag the run's own
    dense network is the teacher. A file is read by every worker, what is behind the address fetched by rank 0.
    """

    def __init__(self, config: RunConfig, helper: ModelHelper, run_dir: RunDir, workers: Workers = ALONE):
        self._options, self._url = config.teacher, config.run.model_http_url
        self._allow_plain_http = config.run.allow_plain_http
        self._helper, self._run_dir, self._workers = helper, run_dir, workers

    @property
    def is_own_dense(self) -> bool:
        """Whether it is the run's own dense network."""
        return not (self._options.path or self._options.resnet_size)

    @property
    def name(self) -> str:
        """What a report calls the teacher."""
        if self.is_own_dense:
            return OWN_DENSE
        network = self._sized_helper.model_name if self._options.resnet_size else ""
        return ", ".join(part for part in (network, self._options.path) if part)

    def facts(self) -> dict[str, Any]:
        """What a report says of it."""
        options = self._options
        facts = {"teacher": self.name, "loss_weight": options.loss_weight, "temperature": options.temperature}
        return {"distillation": facts}

    def check(self, student: keras.Model) -> None:
        """Raises InputError for what can be known to be wrong before any work; fetches nothing."""
        if not self._helper.gives_logits:
            raise InputError(
                f"--enbl_dst needs a network that gives logits of classes. Received: {self._helper.model_name}, "
                "which does not"
            )
        if self._options.resnet_size and not _has_sizes(self._helper):
            raise InputError(
                f"--dst_resnet_size needs a net script of ResNets. Received: {self._helper.model_name}, which has no "
                "--resnet_size"
            )
        if not self.is_own_dense:
            self._check_fits(self._network()[0], student)

    def load(self, student: keras.Model) -> keras.Model:
        """The trained teacher, checked against the student; not for the run's own dense network.

        Raises:
            InputError: there is none, it cannot be read, or it does not fit.
        """
        model, is_whole = self._network()
        if not is_whole:
            from_first(self._workers, lambda: load_network(self._fetched(), model))
        share_variables(self._workers, model.variables)
        self._check_fits(model, student)
        return model

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside the flags: the content of the teacher's file."""
        file = None if self.is_own_dense else self._file()
        if file is None:
            return {}
        return {"save_path_dst": f"content {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"}

    def _file(self) -> Path | None:
        """The file that the weights are in; None where they must be fetched."""
        if self._options.path:
            path = Path(self._options.path)
            if not path.is_file():
                raise InputError(
                    f"--enbl_dst without a teacher to be found: there is no --save_path_dst {path.absolute()} "
                    "(--learner full-prec with --save_path FILE makes one)"
                )
            return path
        beside = self._run_dir.path.absolute().parent.parent / self._run_name / "full-prec" / "model.keras"
        if not beside.is_file() and not self._url:
            raise InputError(
                f"--enbl_dst without a teacher to be found: there is neither a --save_path_dst, nor {beside} "
                f"(the same net script with --learner full-prec --resnet_size {self._options.resnet_size} makes it), "
                "nor a --model_http_url"
            )
        return beside if beside.is_file() else None

    def _network(self) -> tuple[keras.Model, bool]:
        """The network, and whether it has the teacher's weights: not where they must be fetched."""
        if not self._options.resnet_size:
            file = self._file()
            assert file is not None, "without a size it is the file of --save_path_dst"
            return read_model(file), True
        keras.backend.clear_session(free_memory=False)  # layers without names of their own are named as in its file
        model = self._sized_helper.build_model()  # a size that does not exist is the first thing to be said
        file = self._file()
        if file is not None:
            load_network(file, model)
        return model, file is not None

    def _fetched(self) -> Path:
        kept = self._run_dir.path / "teacher" / "model.keras"
        url = network_url(self._url, self._sized_helper.model_name, self._helper.dataset_name)
        return kept if kept.is_file() else download(url, kept, self._allow_plain_http)

    @property
    def _run_name(self) -> str:
        return f"{self._sized_helper.model_name}_at_{self._helper.dataset_name}"

    @functools.cached_property
    def _sized_helper(self) -> ModelHelper:
        """Of the ResNet of `--dst_resnet_size`."""
        other = _helper_of_size(self._helper, self._options.resnet_size)
        vars(other)["dataset"] = self._helper.dataset  # read once for both
        return other

    def _check_fits(self, model: keras.Model, student: keras.Model) -> None:
        check_fits(model, student, self._helper.calibration_images(CHECKED_IMAGES), self.name)


def check_fits(teacher: keras.Model, student: keras.Model, images: np.ndarray, name: str) -> None:
    """Raises InputError unless the teacher gives finite logits of the student's classes for the student's images."""
    if len(teacher.inputs) != 1 or len(teacher.outputs) != 1:
        raise InputError(f"the teacher must have one input and one output. Received: {name}")
    wanted, found = tuple(student.inputs[0].shape[1:]), tuple(teacher.inputs[0].shape[1:])
    if len(wanted) != len(found) or any(theirs not in (None, ours) for ours, theirs in zip(wanted, found, strict=True)):
        raise InputError(f"the teacher must take the student's images, {wanted}. Received: {name}, which takes {found}")
    wanted, found = tuple(student.outputs[0].shape[1:]), tuple(teacher.outputs[0].shape[1:])
    if wanted != found:
        raise InputError(f"the teacher must have the student's outputs, {wanted}. Received: {name}, which has {found}")
    outputs = np.asarray(teacher(images, training=False), np.float32)
    if not np.isfinite(outputs).all():
        raise InputError(f"the teacher's outputs must be finite numbers. Received: {name}, which gives others")


def _has_sizes(helper: ModelHelper) -> bool:
    """Whether `--resnet_size` says which network it is."""
    names = set()
    for size in (18, 20, 34):
        try:
            names.add(_helper_of_size(helper, size).model_name)
        except InputError:  # there is none of that size, but of others
            return True
    return len(names) > 1


def _helper_of_size(helper: ModelHelper, size: int) -> ModelHelper:
    """The same script's helper with `--resnet_size size`, whose weights are no one's yet."""
    network = dataclasses.replace(
        helper.config.network, resnet_size=size, keras_weights="", keras_weights_body_only=False
    )
    return type(helper)(dataclasses.replace(helper.config, network=network), helper.rank, helper.size)
