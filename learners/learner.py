"""Learner: one way to go from a ModelHelper to a saved, measured model. What all of them share."""

import abc
import functools
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.distillation import Teacher
from compressors.graph import prunable_kernels
from compressors.places import kernel_places
from compressors.policies import Policy
from export.formats import chosen_formats
from export.keras_model import save_plain_model
from export.sizes import kernel_table, model_sizes
from learners.config import RunConfig
from learners.download import check_url
from learners.evaluation import Evaluation
from learners.facts import training_summary, versions, what_stays_dense
from learners.flag_checks import check_flags
from learners.given_networks import take_given
from learners.network_files import load_network, read_as_saved, rehearse_saving
from learners.reporting import Networks, finish_run
from learners.teacher import TeacherSource
from learners.trainer import Trainer
from learners.training import TrainingResult
from nets.model_helper import ModelHelper
from nets.tasks import ACCURACY
from utils.errors import InputError, RunError
from utils.files import write_atomically
from utils.finite import not_finite
from utils.keras_layers import code_of, has_lambda, make_known
from utils.printing import printable
from utils.run_dir import RunDir
from utils.workers import ALONE, Workers, from_first, share_variables


class Learner(abc.ABC):
    """Runs stages in a run directory; a stage that is finished is not repeated.

    Several workers go through all of it side by side, each with a learner of its own; rank 0 alone has the files.
    """

    def __init__(self, config: RunConfig, helper: ModelHelper, run_dir: RunDir, workers: Workers = ALONE):
        self.config, self.helper, self.run_dir, self.workers = config, helper, run_dir, workers

    @functools.cached_property
    def _test_batches(self) -> tf.data.Dataset:
        return self.helper.evaluation_batches()

    @abc.abstractmethod
    def run(self) -> dict[str, Any]:
        """Does all the work that is not done yet; returns the report."""

    @property
    def model_path(self) -> Path:
        """Where the learner's result is kept."""
        return self.run_dir.path / "model.keras"

    def check(self) -> None:
        """Raises InputError for what can be known to be wrong before any work; the run directory is not yet claimed.

        Workers check each by itself: nothing in here is collective.
        """
        given = self.config.run.save_path
        if given and not given.endswith(".keras"):
            raise InputError(f"--save_path must end in .keras. Received: {given!r}")
        model = self.new_model()
        self.kernel_table(model, [kernel.path for kernel in prunable_kernels(model)], {})
        if has_lambda(model) or code_of(model):
            rehearse_saving(model, self.helper.model_name)
        if given and self.workers.is_first and Path(given).exists():
            load_network(Path(given), model)
        chosen_formats(self.config.export.formats, "--export_formats")
        if self.config.run.model_http_url:
            check_url(self.config.run.model_http_url, self.config.run.allow_plain_http)
        if self.config.teacher.enabled:
            self.teacher_source.check(model)
        training = self.config.net.training
        if (training.mixed_precision or training.xla) and not tf.config.list_physical_devices("GPU"):
            self.say("note: --enbl_amp and --enbl_xla are for GPUs; on a CPU training is slower with them")

    def check_flags(self) -> None:
        """Raises InputError for flags that do not go with the network; looks at neither network nor data."""
        check_flags(self.config, self.helper, self.workers.size)

    def kernel_table(
        self, model: keras.Model, paths: Sequence[str], ratios: Mapping[str, float | None]
    ) -> list[dict[str, Any]]:
        """The report's rows of these kernels, a layer that is called several times with the cost of all its calls."""
        return kernel_table(model, paths, ratios, kernel_places(model))

    def say_what_stays_dense(self, model: keras.Model) -> None:
        """Names the layers whose kernels no allocation prunes, where there are any."""
        if stays := what_stays_dense(model):
            self.say(f"stay dense: {stays}")

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside the flags: such as the content of a file."""
        of_teacher = self.teacher_source.identity() if self.config.teacher.enabled else {}
        return {**self.helper.identity(), **of_teacher}

    def evaluate(self) -> dict[str, float]:
        """What `test` gives of the model at `--save_path_eval`, by default the run's result.

        It is judged as it was saved: dense or pruned, thinned or quantized.
        """
        return self.test(self.result(self.config.run.save_path_eval))

    def result(self, path: str = "") -> keras.Model:
        """The network that the run ended with, as it was saved; or that of another file."""
        return read_as_saved(Path(path or self.model_path), self.new_model(), self.workers)

    def new_model(self) -> keras.Model:
        """A network with the initial weights of the run's seed.

        Also its layers' names are always the same: Keras would go on counting those that the user did not name.
        """
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.config.run.seed)
        model = self.helper.build_model()
        make_known(model)
        return model

    def test(self, model: keras.Model) -> dict[str, float]:
        """Accuracy, loss and the network's other metrics on the whole test set.

        Raises:
            RunError: the network's outputs are no numbers.
        """
        helper = self.helper
        measured: dict[str, Any] = {"quality": helper.quality, "metrics": helper.metrics}
        tested = Evaluation(model, self._test_batches, helper.loss, workers=self.workers, **measured)()
        if not all(map(math.isfinite, tested.values())):
            wrong = not_finite(model.variables)
            raise RunError(
                f"the network {helper.model_name} gives outputs that are no numbers: its loss on the test set is "
                f"{tested['loss']}. {f'It holds {wrong}.' if wrong else 'Its weights are finite.'}"
            )
        return tested

    def figures(self, tested: Mapping[str, Any]) -> dict[str, float]:
        """Of what `test` gave, or a stage with it kept, the accuracy and the network's other metrics."""
        return {name: tested[name] for name in ("accuracy", *self.helper.metrics)}

    def load(self, path: Path, model: keras.Model) -> None:
        """Gives `model` the weights of a `.keras` file, which rank 0 reads for all workers."""
        from_first(self.workers, lambda: load_network(path, model))
        share_variables(self.workers, model.variables)

    def save(self, model: keras.Model, path: Path) -> None:
        """Writes a `.keras` file, on rank 0."""
        if self.workers.is_first:
            save_plain_model(model, path)

    def say(self, line: str) -> None:
        """Tells the user, unless `--quiet`."""
        if not self.config.run.quiet:
            print(printable(line), flush=True)

    def dense_model(self) -> keras.Model:
        """The trained dense network: from an earlier start, `--save_path`, `--model_http_url`, or trained now."""
        started = time.perf_counter()
        model = self.new_model()
        kept = self.run_dir.file("dense", "model.keras")
        if "dense" in self.run_dir.stages():
            self._load_finished(kept, model)
            return model
        training: dict[str, Any] = {}
        source = from_first(self.workers, lambda: self.take_dense(model))
        share_variables(self.workers, model.variables)
        if source is None:
            source = "trained"
            result = self.train_dense(model)
            training = training_summary(result) | {"validation_accuracy": result.history[-1]["validation_accuracy"]}
        tested = self.test(model)  # before anything is kept
        self.save(model, kept)
        given = Path(self.config.run.save_path)
        if self.config.run.save_path and self.workers.is_first and not given.exists():
            write_atomically(given, lambda temporary: shutil.copyfile(kept, temporary))
        seconds = training["seconds"] if training else time.perf_counter() - started
        self.run_dir.finish_stage("dense", seconds, {"source": source, **tested, **training})
        self.say_dense(source, tested)
        return model

    def _load_finished(self, path: Path, model: keras.Model) -> None:
        """`load` of what an earlier start left; RunError where that is missing or damaged."""
        try:
            self.load(path, model)
        except InputError as error:
            raise RunError(
                f"{error}. The run goes on from it: put a whole copy back; --overwrite starts anew"
            ) from error

    def say_dense(self, source: str, tested: Mapping[str, float]) -> None:
        """Tells how good the dense network is, and what may be wrong where it is not."""
        self.say(f"dense network ({source}): test {self.helper.metric_name} {tested['accuracy']:.4f}")
        advice = self.helper.advice(tested)
        if advice:
            self.say(f"warning: {advice}")

    def take_dense(self, model: keras.Model) -> str | None:
        """Gives `model` the weights of a dense network trained elsewhere: its source, or None where none is given.

        Only rank 0 is asked.
        """
        return take_given(self.config, self.helper, self.run_dir, model)

    def train_dense(self, model: keras.Model) -> TrainingResult:
        """The stage "dense" where the network is not given."""
        return self.train_stage("dense", model, Policy(), self.optimizer(), title="dense training")

    def optimizer(self) -> keras.Optimizer:
        """A new optimizer of the network's recipe; the training loop sets the rate."""
        return self.helper.optimizer()

    @property
    def trainer(self) -> Trainer:
        """What all trainings of this run go through."""
        return Trainer(self.config, self.helper, self.run_dir, self.workers)

    @functools.cached_property
    def teacher_source(self) -> TeacherSource:
        """Where the teacher of `--enbl_dst` comes from."""
        return TeacherSource(self.config, self.helper, self.run_dir, self.workers)

    def teacher(self, dense: keras.Model) -> Teacher | None:
        """What the compressed network is to learn from, None without `--enbl_dst`.

        Args:
            dense: the run's own dense network, which is the teacher where the flags name no other; not copied.
        """
        options = self.config.teacher
        if not options.enabled:
            return None
        source = self.teacher_source
        model = dense if source.is_own_dense else source.load(dense)
        return Teacher(model, options.loss_weight, options.temperature)

    def train_stage(
        self,
        name: str,
        model: keras.Model,
        policy: Policy,
        optimizer: keras.Optimizer,
        *,
        title: str,
        learning_rates: np.ndarray | None = None,
        teacher: Teacher | None = None,
    ) -> TrainingResult:
        """A full training with checkpoints in `<run_dir>/<name>`, TensorBoard scalars and a plot."""
        step = self.trainer.step(model, policy, optimizer, teacher)
        return self.trainer.run(name, step, policy, title=title, learning_rates=learning_rates)

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's events lie."""
        return self.trainer.tensorboard

    @property
    def data_title(self) -> str:
        """What plots and reports call the data."""
        return self.helper.dataset.title

    def report(self, model: keras.Model, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the report, makes the exports and prints the table; `result` holds the learner's own keys."""
        dense = model if result.get("compressed") is None else self.dense_model()
        stages = self.run_dir.stages()
        skipped = sorted(set().union(*self.workers.all_gather(list(self.helper.skipped_images))))
        report = {
            "model": self.helper.model_name,
            "dataset": self.helper.dataset_name,
            "data_title": self.data_title,
            "learner": self.config.run.learner,
            "seed": self.config.run.seed,
            **({} if self.helper.metric_name == ACCURACY else {"metric": self.helper.metric_name}),
            "versions": versions(),
            "dense": {**self.figures(stages["dense"]), "source": stages["dense"]["source"]},
            "sizes": model_sizes(model),
            **result,
            "stages": [{"name": name, "seconds": stage["seconds"]} for name, stage in stages.items()],
            **({} if self.workers.size == 1 else {"workers": self.workers.size}),
            **(self.teacher_source.facts() if self.config.teacher.enabled else {}),
            **({"skipped_images": skipped} if skipped else {}),
        }
        if not self.workers.is_first:
            return report
        networks, alone = Networks(dense, model), RunDir(self.run_dir.path)  # the other workers are done
        exports, quiet = self.config.export, self.config.run.quiet
        finished = finish_run(report, networks, self.helper, alone, exports, self.tensorboard, quiet)
        print(f"all of it is in {self.run_dir.path}; begin with report.html")
        return finished
