"""How a run ends: its exports, `report.json`, the pages for people, and pictures for TensorBoard."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.quantizers.folding import fold_batch_norm
from export.config import ExportConfig, num_checked_images
from export.exports import make_exports, read_exports
from export.formats import Format, Source, chosen_formats
from export.keras_model import plain_model
from export.litert import CALIBRATION_IMAGES
from export.proof import EvaluationSet
from export.report import print_report, write_report
from export.report_schema import complete_report
from export.run_record import KernelPair, RunRecord
from export.sizes import kernel_layers
from export.tensorboard import log_pictures
from nets.model_helper import ModelHelper
from nets.tasks import ACCURACY
from utils.checkpoints import read_meta
from utils.run_dir import RunDir

Quality = Callable[[np.ndarray, np.ndarray], np.ndarray]  # labels, outputs -> of each example [B]
TRAININGS = ("dense", "training")  # those whose curves the report shows


class Networks:
    """The network of a run before and after compression."""

    def __init__(self, dense: keras.Model, compressed: keras.Model):
        self.dense, self.compressed = plain_model(dense), plain_model(compressed)


def finish_run(
    report: dict[str, Any],
    networks: Networks,
    helper: ModelHelper,
    run_dir: RunDir,
    options: ExportConfig,
    tensorboard: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Writes the report, makes the exports that are not there yet, writes the report with them; returns that.

    A run whose exports fail half-way has its report already.
    """
    write_report(run_dir.path, report)
    exports = read_exports(run_dir.path, networks.compressed, networks.dense)
    there = {row["format"] for row in exports["formats"]} if exports else set()
    missing = [form for form in chosen_formats(options.formats, "--export_formats") if form.name not in there]
    if missing:
        started = time.perf_counter()
        exports = export_networks(networks, helper, run_dir.path, missing, options.check_images, quiet)
        run_dir.finish_stage("export", time.perf_counter() - started)
    if exports:
        stages = [{"name": name, "seconds": stage["seconds"]} for name, stage in run_dir.stages().items()]
        report = report | {"exports": exports, "stages": stages}
    write_pages(report, networks, run_dir.path, tensorboard)
    print_report(report, sys.stdout)
    return report


def export_networks(
    networks: Networks, helper: ModelHelper, run_dir: Path, formats: Sequence[Format], check_images: int, quiet: bool
) -> dict[str, Any]:
    """Makes exports of a run in these formats; see `export.exports.make_exports`."""
    data = evaluation_set(helper, networks.compressed)
    shape = data.calibration.shape[1:]
    most = num_checked_images(check_images, shape)
    needed = math.ceil(most / helper.config.data.evaluation_batch_size)
    data = dataclasses.replace(data, num_batches=min(data.num_batches or needed, needed))
    compressed, dense = (
        Source(model, shape, data.calibration, fold_batch_norm) for model in (networks.compressed, networks.dense)
    )
    return make_exports(compressed, dense, data, run_dir, formats, most, quiet)


def evaluation_set(helper: ModelHelper, model: keras.Model) -> EvaluationSet:
    """The network's test set and training examples as NumPy arrays, for runtimes that know no tensors."""
    alone = helper.alone()
    batches = alone.evaluation_batches()
    count = int(batches.cardinality())

    def quality(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return helper.quality(tf.constant(labels), tf.constant(outputs)).numpy()

    def agrees(wanted: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return quality(predictions(wanted, quality), outputs) > 0.5

    return EvaluationSet(
        batches=_AsNumPy(batches),
        num_batches=max(count, 0),
        quality=quality,
        agrees=agrees if helper.metric_name == ACCURACY and len(model.output_shape) == 2 else None,
        calibration=alone.calibration_images(CALIBRATION_IMAGES),
    )


def predictions(outputs: np.ndarray, quality: Quality) -> np.ndarray:
    """The class `int32 [B]` that outputs `[B, k]` say; of one output, class 1 where the network's quality says so."""
    if outputs.shape[1] > 1:
        return outputs.argmax(1).astype(np.int32)
    return (quality(np.ones(len(outputs), np.int32), outputs) > 0.5).astype(np.int32)


def write_pages(report: Mapping[str, Any], networks: Networks, run_dir: Path, tensorboard: Path) -> None:
    """Writes `report.json`, `report.html`, `report.md` and the pictures."""
    from export.page.html import write_html  # loads Matplotlib, which a dry run need not wait for
    from export.page.markdown import write_markdown
    from export.page.pictures import picture_files

    write_report(run_dir, report)
    record = run_record(report, networks, run_dir)
    configuration = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    write_html(record, run_dir / "report.html", configuration)
    write_markdown(record, run_dir / "report.md", configuration)
    log_pictures(tensorboard, picture_files(record, run_dir / "plots"), record.kernels)


def run_record(report: Mapping[str, Any], networks: Networks, run_dir: Path) -> RunRecord:
    """What the pages of the run in `run_dir` are made from."""
    search = run_dir / "search.jsonl"
    lines = search.read_text(encoding="utf-8").splitlines() if search.exists() else []
    stages = json.loads((run_dir / "stages.json").read_text(encoding="utf-8"))
    before, after = (kernel_layers(model) for model in (networks.dense, networks.compressed))
    paths = [row["path"] for row in report["layers"] if row["path"] in before and row["path"] in after]
    histories = {name: read_meta(run_dir / name / "checkpoint.npz").get("history", []) for name in TRAININGS}
    return RunRecord(
        report=complete_report(report),
        rollouts=[json.loads(line) for line in lines],
        finalists=stages.get("finalists", {}).get("finalists", []),
        histories={name: history for name, history in histories.items() if history},
        kernels={path: KernelPair(_kernel(before[path]), _kernel(after[path])) for path in paths}
        if report.get("compressed")
        else {},
    )


def _kernel(layer: keras.Layer) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer.kernel)


class _AsNumPy:
    """Batches of a tf.data pipeline as arrays, anew each time they are gone through."""

    def __init__(self, batches: tf.data.Dataset):
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self._batches.as_numpy_iterator()
