"""Learner: one way to go from a ModelHelper to a saved, measured model. What all of them share."""

import abc
import functools
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.kernels import find_kernels
from compressors.places import kernel_places
from compressors.policies import Policy
from export.keras_model import save_plain_model
from export.report import print_report, write_report
from export.sizes import kernel_table, model_sizes
from export.tensorboard import ScalarLog
from learners.config import RunConfig
from learners.evaluation import Evaluation
from learners.facts import training_summary, versions
from learners.network_files import check_url, download, load_network
from learners.training import Monitor, TrainingResult, TrainStep, train
from nets.model_helper import ModelHelper
from nets.tasks import ACCURACY
from utils.errors import InputError, RunError, first_line
from utils.keras_layers import code_of, has_lambda, make_known
from utils.run_dir import RunDir, write_atomically
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
            self._rehearse_saving(model)
        if given and self.workers.is_first and Path(given).exists():
            load_network(Path(given), model)
        if self.config.run.model_http_url:
            check_url(self.config.run.model_http_url)

    def check_flags(self) -> None:
        """Raises InputError for flags that do not go with the network; looks at neither network nor data."""
        options = self.config.run
        useless = {
            "--save_path": options.save_path,
            "--model_http_url": options.model_http_url,
            "--noenbl_warm_start": not options.warm_start,
        }
        given = useless if self.helper.has_trained_weights else {}
        for name in (name for name, value in given.items() if value):
            raise InputError(
                f"{name} must be left out: the dense network is {self.helper.weights_source}, "
                f"which is trained already. Received: {given[name]}"
            )

    def _rehearse_saving(self, model: keras.Model) -> None:
        """Classes of the user's own are saved and read back once now, rather than found wanting at the run's end."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "model.keras"
            try:
                save_plain_model(model, path)
                load_network(path, model)
            except RunError:
                raise
            except Exception as error:  # whatever the user's own classes raise
                raise InputError(
                    f"the network {self.helper.model_name} must be one that Keras saves and reads back; a layer of "
                    f"your own needs get_config. Received: {type(error).__name__}: {first_line(error)}"
                ) from error

    def kernel_table(
        self, model: keras.Model, paths: Sequence[str], ratios: Mapping[str, float | None]
    ) -> list[dict[str, Any]]:
        """The report's rows of these kernels, a layer that is called several times with the cost of all its calls."""
        return kernel_table(model, paths, ratios, kernel_places(model))

    def say_what_stays_dense(self, model: keras.Model) -> None:
        """Names the layers whose kernels no allocation prunes, where there are any."""
        pruned = {id(kernel) for kernel in prunable_kernels(model)}
        names = [
            f"{layer.nested_name} ({layer.op_type})"
            for layer in find_kernels(model).layers
            if not layer.is_opt_in and not pruned.issuperset(map(id, layer.kernels.values()))
        ]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            self.say(f"stay dense: {', '.join(names[:8])}{more}")

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside the flags: such as the content of a file."""
        return dict(self.helper.identity())

    def evaluate(self) -> dict[str, float]:
        """Accuracy and loss on the test set of the model at `--save_path_eval`, by default the run's result."""
        path = Path(self.config.run.save_path_eval or self.model_path)
        model = self.new_model()
        self.load(path, model)
        return self.test(model)

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
        """Accuracy and loss on the whole test set."""
        batches, quality = self._test_batches, self.helper.quality
        return Evaluation(model, batches, self.helper.loss, quality=quality, workers=self.workers)()

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
            print(line, flush=True)

    def dense_model(self) -> keras.Model:
        """The trained dense network: from an earlier start, `--save_path`, `--model_http_url`, or trained now."""
        started = time.perf_counter()
        model = self.new_model()
        kept = self.run_dir.file("dense", "model.keras")
        if "dense" in self.run_dir.stages():
            self.load(kept, model)
            return model
        training: dict[str, Any] = {}
        source = from_first(self.workers, lambda: self.take_dense(model))
        share_variables(self.workers, model.variables)
        if source is None:
            source = "trained"
            result = self.train_dense(model)
            training = training_summary(result) | {"validation_accuracy": result.history[-1]["validation_accuracy"]}
        self.save(model, kept)
        given = Path(self.config.run.save_path)
        if self.config.run.save_path and self.workers.is_first and not given.exists():
            write_atomically(given, lambda temporary: shutil.copyfile(kept, temporary))
        tested = self.test(model)
        seconds = training["seconds"] if training else time.perf_counter() - started
        self.run_dir.finish_stage("dense", seconds, {"source": source, **tested, **training})
        self.say_dense(source, tested)
        return model

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
        if self.helper.has_trained_weights:
            return self.helper.weights_source
        given = Path(self.config.run.save_path)
        if self.config.run.save_path and given.exists():
            load_network(given, model)
            return str(given)
        if not self.config.run.model_http_url:
            return None
        source = self.model_url(self.helper.model_name)
        fetched = download(source, self.run_dir.file("dense", "download.keras"))
        try:
            load_network(fetched, model)
        finally:
            fetched.unlink()
        return source

    def train_dense(self, model: keras.Model) -> TrainingResult:
        """The stage "dense" where the network is not given."""
        return self.train_stage("dense", model, Policy(), self.optimizer(), title="dense training")

    def model_url(self, network: str) -> str:
        """`--model_http_url` itself where it names a file, else that of the network below it."""
        url = self.config.run.model_http_url
        return url if url.endswith(".keras") else f"{url.rstrip('/')}/{network}_at_{self.helper.dataset_name}.keras"

    def optimizer(self) -> keras.Optimizer:
        """A new optimizer of the network's recipe; the training loop sets the rate."""
        return self.helper.optimizer()

    def learning_rates(self) -> np.ndarray:
        """The recipe's learning rate at each step of a full training."""
        return self.helper.learning_rate_at(np.arange(self.helper.num_iterations))

    def train_stage(
        self,
        name: str,
        model: keras.Model,
        policy: Policy,
        optimizer: keras.Optimizer,
        *,
        title: str,
        learning_rates: np.ndarray | None = None,
    ) -> TrainingResult:
        """A full training with checkpoints in `<run_dir>/<name>`, TensorBoard scalars and a plot."""
        step = self.train_step(model, policy, optimizer)
        return self.run_training(name, step, policy, title=title, learning_rates=learning_rates)

    def train_step(self, model: keras.Model, policy: Policy, optimizer: keras.Optimizer) -> TrainStep:
        """A step of every training of this run."""
        options = self.config.net.training
        return TrainStep(
            model,
            optimizer,
            self.helper.loss,
            policy,
            options.weight_decay,
            self.helper.quality,
            self.workers,
            options.sync_batch_norm,
        )

    def run_training(
        self,
        name: str,
        step: TrainStep,
        policy: Policy,
        *,
        title: str,
        learning_rates: np.ndarray | None = None,
        first_step: int = 0,
    ) -> TrainingResult:
        """`train_stage` with a step that was made, and perhaps compiled, before; it may begin after the first step."""
        options = self.config.run
        with ScalarLog(Path(options.log_dir or self.run_dir.path / "tensorboard") / name) as log:

            def log_row(row: Mapping[str, float]) -> None:
                if self.workers.is_first:
                    log.log(int(row["step"]), self._scalars(row))

            result = train(
                step,
                policy,
                self.helper.training_batches,
                self.learning_rates() if learning_rates is None else learning_rates,
                self.run_dir.file(name, "checkpoint.npz"),
                Monitor(
                    options.summary_interval,
                    options.save_interval,
                    on_row=log_row,
                    quiet=options.quiet,
                    metric_name=self.helper.metric_name,
                ),
                title=title,
                steps_per_epoch=self.helper.steps_per_epoch,
                validation=Evaluation(
                    step.model,
                    self.helper.validation_batches(),
                    self.helper.loss,
                    quality=self.helper.quality,
                    workers=self.workers,
                ),
                first_step=first_step,
            )
        if self.workers.is_first:
            from export.plots import plot_training  # loads Matplotlib, which a dry run need not wait for

            path = self.run_dir.file("plots", f"training_{name}.png")
            plot_training(result.history, path, self.data_title, self.helper.metric_name)
        return result

    def _scalars(self, row: Mapping[str, float]) -> dict[str, float]:
        """A row of a training's history as TensorBoard is to show it."""
        return {key.replace("accuracy", self.helper.metric_name): row[key] for key in row if key != "step"}

    @property
    def data_title(self) -> str:
        """What plots and reports call the data."""
        return self.helper.dataset.title

    def report(self, model: keras.Model, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes `report.json` and prints the table; `result` holds the learner's own keys."""
        stages = self.run_dir.stages()
        report = {
            "model": self.helper.model_name,
            "dataset": self.helper.dataset_name,
            "data_title": self.data_title,
            "learner": self.config.run.learner,
            "seed": self.config.run.seed,
            **({} if self.helper.metric_name == ACCURACY else {"metric": self.helper.metric_name}),
            "versions": versions(),
            "dense": {"accuracy": stages["dense"]["accuracy"], "source": stages["dense"]["source"]},
            "sizes": model_sizes(model),
            **result,
            "stages": [{"name": name, "seconds": stage["seconds"]} for name, stage in stages.items()],
            **({} if self.workers.size == 1 else {"workers": self.workers.size}),
        }
        if self.workers.is_first:
            write_report(self.run_dir.path, report)
            print_report(report, sys.stdout)
            print(f"all of it is in {self.run_dir.path}")
        return report
