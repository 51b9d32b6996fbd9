"""The files of a finished run: made, proved by their own runtimes, measured; and the record of all that."""

import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.file_sizes import file_bytes, gzip_bytes
from export.formats import FORMATS, Format, Runner, Source, how_to_install, missing_package
from export.keras_model import KerasRunner
from export.latency import interleaved_seconds, milliseconds
from export.peak_memory import peak_memory
from export.proof import EvaluationSet, Proof, is_equal, prove
from export.report_schema import ExportRow, Exports, check_types
from export.stored_bytes import layer_rows, network_ideal_bytes, network_nonzero
from utils.errors import RunError, first_line
from utils.files import check_is_there, write_json
from utils.json_files import read_json
from utils.progress import Progress

DIRECTORY = "exports"
FILE_NAME = "exports.json"
DENSE = "dense"
DENSE_FILE = "dense.tflite"
DENSE_TITLE = "dense network, LiteRT float32"


@dataclass
class _File:
    """One file on its way from a network to a row of the report."""

    name: str
    title: str
    form: Format
    path: Path
    source: Source
    runner: Runner | None = None
    proof: Proof | None = None
    refused: str = ""


def make_exports(
    source: Source,
    dense: Source,
    data: EvaluationSet,
    run_dir: Path,
    formats: Sequence[Format],
    most_images: int,
    quiet: bool = False,
) -> dict[str, Any]:
    """Writes the files into `run_dir/exports`, and what was found of them into `exports.json` there; returns that.

    A file that its runtime refuses, or that is exact by its kind and gives other outputs than the network, is deleted,
    and its row says why. Files that were made before of the same networks and are not asked for stay; where they were
    proved by other images, or measured on another machine, they are made anew, so that all rows can be compared.

    Args:
        dense: the network before compression; as a LiteRT file it is what the others are compared with.
        most_images: of the evaluation set.

    Raises:
        RunError: the directory cannot be written.
    """
    started = time.perf_counter()
    directory = run_dir / DIRECTORY
    check_writable(directory)
    kept = read_exports(run_dir, source.model, dense.model) or {"formats": []}
    if (kept.get("machine"), kept.get("most_images")) != (machine(), most_images):
        again = {row["format"]: FORMATS[row["format"]] for row in kept["formats"] if row["format"] in FORMATS}
        formats, kept = list((again | {form.name: form for form in formats}).values()), {"formats": []}
    baseline = _File(DENSE, DENSE_TITLE, FORMATS["litert"], directory / DENSE_FILE, dense)
    files = [_File(form.name, form.title, form, directory / form.file, source) for form in formats]
    everything = [baseline, *files]
    _write_all(everything, quiet)
    for file in everything:
        _open(file)
    _prove([baseline], data, most_images, quiet=True)
    count = _prove(files, data, most_images, quiet)
    for file in (file for file in everything if file.refused):
        _delete(file.path)
    latencies = _latencies([file for file in everything if not file.refused], data.calibration[:1], quiet)
    rows = {file.name: _row(file, run_dir, latencies) for file in everything}
    made = {row["format"]: row for row in kept["formats"]} | {file.name: rows[file.name] for file in files}
    exports = {
        "model_digest": digest(source.model, dense.model),
        "images": count,
        "most_images": most_images,
        "machine": machine(),
        "threads": num_threads(),
        "seconds": time.perf_counter() - started,
        "dense": rows[DENSE],
        "formats": [made[name] for name in FORMATS if name in made],
        "layers": layer_rows(source.model),
    }
    write_json(directory / FILE_NAME, exports)
    return exports


def read_exports(run_dir: Path, model: keras.Model, dense: keras.Model) -> dict[str, Any] | None:
    """The record of earlier exports of the same networks, of files that are still there; None where there is none."""
    path = run_dir / DIRECTORY / FILE_NAME
    try:
        exports = read_json(path)
        check_types(exports, Exports)
        if exports["model_digest"] != digest(model, dense):
            return None
        if not _is_whole(exports["dense"]):
            return None
        rows = [row for row in exports["formats"] if _is_whole(row)]
        rows = [row for row in rows if "refused" in row or (run_dir / row["file"]).exists()]
        return exports | {"formats": rows}
    except (OSError, ValueError):  # made anew, as if there were none
        return None


def _is_whole(row: ExportRow) -> bool:
    return "refused" in row or ExportRow.__optional_keys__ - {"refused"} <= row.keys()


def check_writable(directory: Path) -> None:
    """Raises RunError where no file can be written in `directory`, which is made."""
    check_is_there(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RunError(f"cannot write exports into {directory}: {error.strerror}; nothing was changed") from error


def digest(*models: keras.Model) -> str:
    """SHA-256 of all weights of these networks, their names and shapes."""
    of_all = hashlib.sha256()
    for variable in (variable for model in models for variable in model.weights):
        values = keras.ops.convert_to_numpy(variable)
        of_all.update(f"{variable.path} {values.dtype} {values.shape}\n".encode())
        of_all.update(np.ascontiguousarray(values).tobytes())
    return of_all.hexdigest()


def machine() -> str:
    """What figures of speed were measured on: "2 cores, Intel(R) Xeon(R) CPU, Linux"."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    cores = num_threads()
    return f"{cores} core{'s' * (cores > 1)}, {model}, {platform.system()}"


def num_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _write_all(files: Sequence[_File], quiet: bool) -> None:
    with Progress("exporting", len(files), "file", quiet=quiet) as progress:
        for done, file in enumerate(files):
            progress.update(done, making=file.name)
            package = missing_package(file.form)
            if package:
                file.refused = f"the package {package} is not installed. {how_to_install(package)}"
                continue
            try:
                file.form.write(file.source, file.path)
            except RunError:  # the disk, which the next file would find as it is
                raise
            except OSError as error:
                raise RunError(f"cannot write {file.path}: {error.strerror or error}") from error
            except Exception as error:  # whatever a converter says no with
                file.refused = f"cannot be converted: {first_line(error)}"
        progress.update(len(files))


def _open(file: _File) -> None:
    """Loads the file in its own runtime and runs one example."""
    if file.refused:
        return
    try:
        file.runner = file.form.load(file.path, num_threads(), file.source)
        file.runner(_zeros(file.source))
    except Exception as error:  # whatever a runtime says no with
        file.refused = f"its own runtime refuses it: {first_line(error)}"


def _prove(files: Iterable[_File], data: EvaluationSet, most_images: int, quiet: bool) -> int:
    """Judges the files, all of the same network; how many examples they were run over."""
    opened = [file for file in files if not file.refused]
    if not opened:
        return 0
    runners = {file.name: file.runner for file in opened if file.runner is not None}
    proofs, count = prove(KerasRunner(opened[0].source.model), runners, data, most_images, quiet)
    for file in opened:
        file.proof = proof = proofs[file.name]
        file.refused = proof.refused
        must_be_equal = file.form.is_exact and file.source.is_continuous
        if not proof.refused and must_be_equal and not is_equal(proof):
            file.refused = (
                f"gives other outputs than the network: they differ by up to {proof.largest_difference:.3g}, "
                f"where the largest is {proof.largest_output:.3g}"
            )
    return count


def _latencies(files: Sequence[_File], example: np.ndarray, quiet: bool) -> dict[tuple[str, int], dict[str, float]]:
    """(name, threads) -> milliseconds of one example, of the formats that are there to be run."""
    calls = {}
    for file in (file for file in files if not file.form.is_compact):
        example = example.astype(file.source.model.inputs[0].dtype, copy=False)
        assert file.runner is not None, "it was opened"
        calls[file.name, num_threads()] = _call(file.runner, example)
        if file.form.has_threads:
            calls[file.name, 1] = _call(file.form.load(file.path, 1, file.source), example)
    measured = interleaved_seconds(calls, quiet=quiet) if calls else {}
    return {key: milliseconds(seconds) for key, seconds in measured.items()}


def _call(runner: Runner, example: np.ndarray) -> Callable[[], object]:
    return lambda: runner(example)


def _row(file: _File, run_dir: Path, latencies: dict[tuple[str, int], dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"format": file.name, "title": file.title}
    if file.refused:
        return row | {"refused": file.refused}
    source, proof = file.source, file.proof
    assert proof is not None, "what is not refused was proved"
    return row | {
        "file": file.path.relative_to(run_dir).as_posix(),
        "bytes": file_bytes(file.path),
        "gzip_bytes": gzip_bytes(file.path),
        "nonzero_weights": network_nonzero(source.model, file.form.values),
        "ideal_bytes": network_ideal_bytes(source.model, file.form.values),
        "accuracy": proof.accuracy,
        "agreement": proof.agreement,
        "largest_difference": proof.largest_difference,
        "one_thread": latencies.get((file.name, 1)) if file.form.has_threads else None,
        "all_threads": latencies.get((file.name, num_threads())),
        "peak_memory_bytes": peak_memory(file.path, source.example_shape, source.model.inputs[0].dtype),
    }


def _zeros(source: Source) -> np.ndarray:
    return np.zeros((1, *source.example_shape), source.model.inputs[0].dtype)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
