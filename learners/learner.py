"""Learner: one way to go from a ModelHelper to a saved, measured model. What all of them share."""

import abc
import functools
import platform
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.policies import Policy
from export.keras_model import save_plain_model
from export.report import print_report, write_report
from export.sizes import model_sizes
from export.tensorboard import ScalarLog
from learners.config import RunConfig
from learners.training import Evaluation, Monitor, TrainingResult, TrainStep, named_arrays, restore_variables, train
from nets.model_helper import ModelHelper
from utils.errors import InputError
from utils.run_dir import RunDir, write_atomically

VERSION = "0.1.0"


class Learner(abc.ABC):
    """Runs stages in a run directory; a stage that is finished is not repeated."""

    def __init__(self, config: RunConfig, helper: ModelHelper, run_dir: RunDir):
        self.config, self.helper, self.run_dir = config, helper, run_dir

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
        """Raises InputError for what can be known to be wrong before any work; the run directory is not yet claimed."""
        model, given = self.new_model(), self.config.run.save_path
        if given and not given.endswith(".keras"):
            raise InputError(f"--save_path must end in .keras. Received: {given!r}")
        if given and Path(given).exists():
            load_network(Path(given), model)
        if self.config.run.model_http_url:
            _check_url(self.config.run.model_http_url)

    def identity(self) -> dict[str, Any]:
        """What the result depends on beside the flags: such as the content of a file."""
        return {}

    def evaluate(self) -> dict[str, float]:
        """Accuracy and loss on the test set of the model at `--save_path_eval`, by default the run's result."""
        path = Path(self.config.run.save_path_eval or self.model_path)
        model = self.new_model()
        load_network(path, model)
        return self.test(model)

    def new_model(self) -> keras.Model:
        """A network with the initial weights of the run's seed.

        Also its layers' names are always the same: Keras would go on counting those that the user did not name.
        """
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(self.config.run.seed)
        return self.helper.build_model()

    def test(self, model: keras.Model) -> dict[str, float]:
        """Accuracy and loss on the whole test set."""
        return Evaluation(model, self._test_batches, self.helper.loss)()

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
            load_network(kept, model)
            return model
        given = Path(self.config.run.save_path) if self.config.run.save_path else None
        training: dict[str, Any] = {}
        if given is not None and given.exists():
            source = str(given)
            load_network(given, model)
        elif self.config.run.model_http_url:
            source = self.model_url(self.helper.model_name)
            fetched = download(source, self.run_dir.file("dense", "download.keras"))
            try:
                load_network(fetched, model)
            finally:
                fetched.unlink()
        else:
            source = "trained"
            result = self.train_stage("dense", model, Policy(), self.optimizer(), title="dense training")
            training = training_summary(result)
        save_plain_model(model, kept)
        if given is not None and not given.exists():
            write_atomically(given, lambda temporary: shutil.copyfile(kept, temporary))
        tested = self.test(model)
        seconds = training["seconds"] if training else time.perf_counter() - started
        self.run_dir.finish_stage("dense", seconds, {"source": source, **tested, **training})
        self.say(f"dense network ({source}): test accuracy {tested['accuracy']:.4f}")
        return model

    def model_url(self, network: str) -> str:
        """`--model_http_url` itself where it names a file, else that of the network below it."""
        url = self.config.run.model_http_url
        return url if url.endswith(".keras") else f"{url.rstrip('/')}/{network}_at_{self.helper.dataset_name}.keras"

    def optimizer(self) -> keras.Optimizer:
        """SGD with momentum; the training loop sets the rate."""
        return keras.optimizers.SGD(0.0, momentum=self.config.net.training.momentum)

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
        step = TrainStep(model, optimizer, self.helper.loss, policy, self.config.net.training.weight_decay)
        options = self.config.run
        with ScalarLog(Path(options.log_dir or self.run_dir.path / "tensorboard") / name) as log:
            result = train(
                step,
                policy,
                self.helper.training_batches,
                self.learning_rates() if learning_rates is None else learning_rates,
                self.run_dir.file(name, "checkpoint.npz"),
                Monitor(
                    options.summary_interval,
                    options.save_interval,
                    on_row=lambda row: log.log(int(row["step"]), {k: v for k, v in row.items() if k != "step"}),
                    quiet=options.quiet,
                ),
                title=title,
                steps_per_epoch=self.helper.steps_per_epoch,
                validation=Evaluation(model, self.helper.validation_batches(), self.helper.loss),
            )
        from export.plots import plot_training  # loads Matplotlib, which a dry run need not wait for

        plot_training(result.history, self.run_dir.file("plots", f"training_{name}.png"), self.data_title)
        return result

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
            "versions": versions(),
            "dense": {"accuracy": stages["dense"]["accuracy"], "source": stages["dense"]["source"]},
            "sizes": model_sizes(model),
            **result,
            "stages": [{"name": name, "seconds": stage["seconds"]} for name, stage in stages.items()],
        }
        write_report(self.run_dir.path, report)
        print_report(report, sys.stdout)
        print(f"all of it is in {self.run_dir.path}")
        return report


def training_summary(result: TrainingResult) -> dict[str, float]:
    """The `training` entry of a report."""
    return {
        "iterations": result.iterations,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
    }


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    return {
        "trimflow": VERSION,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def load_network(path: Path, model: keras.Model) -> None:
    """Copies the weights of a `.keras` file into `model`.

    Raises:
        InputError: there is no such file, it is none of Keras', or it holds another network.
    """
    restore_variables(model.variables, named_arrays(read_model(path).variables), str(path))


def read_model(path: Path) -> keras.Model:
    """The network of a `.keras` file.

    Raises:
        InputError: there is no such file, or it is none of Keras'.
    """
    if not path.is_file():
        raise InputError(f"there is no model at {path.absolute()}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as a .keras model: it is no zip archive, or not a whole one")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a .keras model: {first}") from error


def _check_url(url: str) -> None:
    if not url.startswith(("https://", "http://")):
        raise InputError(f"--model_http_url must begin with https:// or http://. Received: {url!r}")


def download(url: str, path: Path) -> Path:
    """Fetches a `.keras` file."""
    _check_url(url)

    def write(temporary: Path) -> None:
        with urllib.request.urlopen(url, timeout=60) as response, open(temporary, "wb") as file:
            shutil.copyfileobj(response, file)

    try:
        write_atomically(path, write)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(f"--model_http_url {url} cannot be fetched: {error}") from error
    return path
