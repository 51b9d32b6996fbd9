"""All exports of a run together: what is kept, refused, remembered, and what a bad disk does."""

import dataclasses
import json
import os
import zlib

import keras
import numpy as np
import pytest

from export.exports import DIRECTORY, FILE_NAME, digest, layer_rows, make_exports, num_threads, read_exports
from export.file_sizes import file_bytes, gzip_bytes
from export.formats import FORMATS
from export.peak_memory import peak_memory
from export.report_schema import ExportRow, Exports
from export.stored_bytes import network_ideal_bytes, network_nonzero
from tests.export.small_network import SHAPE, evaluation_set, small_network, small_source
from utils.errors import RunError


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def dense():
    return small_network(sparsity=0.0)


@pytest.fixture
def export(network, dense, tmp_path):
    """`export(names or formats)`: what `make_exports` gives of the small network in `tmp_path`."""

    def make(*formats, model=network, most_images=1000):
        formats = [FORMATS[form] if isinstance(form, str) else form for form in formats]
        return make_exports(
            small_source(model), small_source(dense), evaluation_set(model), tmp_path, formats, most_images, quiet=True
        )

    return make


def rows_of(exports):
    return {row["format"]: row for row in exports["formats"]}


def test_the_record_holds_what_the_files_are(export, network, tmp_path):
    exports = export("litert", "litert-int8", "trim-256", "keras")
    assert exports.keys() == Exports.__annotations__.keys()
    assert json.loads((tmp_path / DIRECTORY / FILE_NAME).read_text()) == exports
    assert [row["format"] for row in exports["formats"]] == ["keras", "litert", "litert-int8", "trim-256"]
    assert (exports["images"], exports["threads"]) == (50, num_threads())
    for row in [*exports["formats"], exports["dense"]]:
        path = tmp_path / row["file"]
        assert row.keys() == ExportRow.__annotations__.keys() - {"refused"}
        assert (row["bytes"], row["gzip_bytes"]) == (file_bytes(path), gzip_bytes(path))
        assert row["agreement"] > 0.8
    rows = rows_of(exports)
    assert rows["litert"]["accuracy"] == 0.9
    assert rows["litert"]["largest_difference"] < 1e-5 < rows["litert-int8"]["largest_difference"]
    assert rows["litert-int8"]["nonzero_weights"] <= rows["litert"]["nonzero_weights"]
    assert rows["litert"]["ideal_bytes"] == network_ideal_bytes(network, "float32")
    assert exports["dense"]["bytes"] == rows["litert"]["bytes"]  # zeros cost as much as anything there
    assert exports["layers"] == layer_rows(network)


def test_latency_is_of_what_is_there_to_be_run_and_one_thread_where_the_runtime_has_it(export):
    rows = rows_of(export("keras", "litert", "trim"))
    assert rows["litert"]["one_thread"].keys() == {"median", "low", "high"}
    measured = rows["litert"]["all_threads"]
    assert 0 < measured["low"] <= measured["median"] <= measured["high"]
    assert rows["keras"]["one_thread"] is None
    assert rows["keras"]["all_threads"]
    assert rows["trim"]["one_thread"] is rows["trim"]["all_threads"] is None


def test_a_file_that_its_runtime_refuses_is_deleted_and_the_reason_told(export, tmp_path):
    def write(source, path):
        path.write_bytes(b"no flatbuffer at all")

    exports = export(dataclasses.replace(FORMATS["litert-int8"], write=write), "litert")
    row = rows_of(exports)["litert-int8"]
    assert row.keys() == {"format", "title", "refused"}
    assert row["refused"].startswith("its own runtime refuses it: ")
    assert not (tmp_path / DIRECTORY / FORMATS["litert-int8"].file).exists()
    assert (tmp_path / rows_of(exports)["litert"]["file"]).exists()


def test_what_cannot_be_converted_is_told(export):
    def write(source, path):
        raise NotImplementedError("this network has a layer that the format has not\nand more lines")

    row = rows_of(export(dataclasses.replace(FORMATS["onnx"], write=write)))["onnx"]
    assert row["refused"] == "cannot be converted: this network has a layer that the format has not"


def test_an_exact_format_with_other_outputs_is_refused_and_a_coarse_one_is_not(export, tmp_path):
    def write(source, path):
        other = keras.models.clone_model(source.model)
        other.set_weights([weight * 1.05 for weight in source.model.get_weights()])
        FORMATS["litert"].write(source._replace(model=other), path)

    exact = rows_of(export(dataclasses.replace(FORMATS["litert"], write=write)))["litert"]
    assert exact["refused"].startswith("gives other outputs than the network: they differ by up to ")
    assert not (tmp_path / DIRECTORY / FORMATS["litert"].file).exists()
    coarse = rows_of(export(dataclasses.replace(FORMATS["litert"], write=write, is_exact=False)))["litert"]
    assert coarse["largest_difference"] > 0.01


def test_a_missing_package_is_told_with_how_to_install_it(export, monkeypatch):
    monkeypatch.setattr("export.exports.missing_package", lambda form: "tf2onnx" if form.name == "onnx" else "")
    row = rows_of(export("onnx", "litert"))["onnx"]
    assert "the package tf2onnx is not installed. scripts/setup_venv.sh installs" in row["refused"]


def test_files_made_before_stay_and_are_not_made_again(export, network, dense, tmp_path):
    first = rows_of(export("litert", "trim"))
    second = export("litert-sparse")
    assert list(rows_of(second)) == ["litert", "litert-sparse", "trim"]
    assert rows_of(second)["trim"] == first["trim"]
    (tmp_path / first["trim"]["file"]).unlink()
    assert list(rows_of(read_exports(tmp_path, network, dense))) == ["litert", "litert-sparse"]


def test_files_proved_by_other_images_or_measured_elsewhere_are_made_anew(export, monkeypatch):
    first = rows_of(export("trim"))["trim"]
    monkeypatch.setattr("export.exports.machine", lambda: "another machine")
    exports = export("litert")
    assert exports["machine"] == "another machine"
    assert rows_of(exports)["trim"]["accuracy"] == first["accuracy"] == 0.9
    looked_at = export("litert", most_images=20)
    assert looked_at["images"] == 20
    # Of the first 20 examples two have a wrong label, as of all fifty five have.
    assert rows_of(looked_at)["trim"]["accuracy"] == 0.9
    assert list(rows_of(looked_at)) == ["litert", "trim"]


def test_the_record_of_another_network_or_a_damaged_one_counts_for_nothing(export, network, dense, tmp_path):
    export("trim")
    other = small_network(seed=3)
    assert digest(other, dense) != digest(network, dense)
    assert read_exports(tmp_path, other, dense) is None
    assert list(rows_of(export("litert", model=other))) == ["litert"]
    record = tmp_path / DIRECTORY / FILE_NAME
    record.write_text(record.read_text()[:-20])
    assert read_exports(tmp_path, other, dense) is None


def test_a_directory_that_refuses_files_is_told_before_any_work(network, dense, tmp_path):
    (tmp_path / DIRECTORY).write_text("a file where the folder should be")
    with pytest.raises(RunError, match="cannot write exports into .*; nothing was changed"):
        make_exports(small_source(network), small_source(dense), evaluation_set(network), tmp_path, [], 10, quiet=True)


def test_a_disk_that_fills_up_is_one_clear_error(export):
    def write(source, path):
        raise OSError(28, os.strerror(28))

    with pytest.raises(RunError, match="cannot write .*model.onnx: No space left on device"):
        export(dataclasses.replace(FORMATS["onnx"], write=write))


def test_layer_rows_are_counted_by_hand():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="d")(inputs))
    model.set_weights([np.diag([1.0, 2.0, 0.0, 0.0]), np.ones(4)])
    (row,) = layer_rows(model)
    assert (row["path"], row["parameters"], row["nonzero"]) == ("d/kernel", 16, 2)
    assert (row["dense_bytes"], row["bitmap_bytes"]) == (64, 2 + 8)
    # Two inputs with one of 4 weights, 4 * H(1/4) = 3.245 bits each; two floats of 1 + 23 bits: 54.5 bits.
    assert row["ideal_bytes"]["float32"] == 7
    assert network_ideal_bytes(model, "float32") == 7 + 16
    assert network_ideal_bytes(model, "float16") == row["ideal_bytes"]["float16"] + 8


def test_weights_that_a_kind_rounds_to_zero_are_not_counted():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.set_weights([np.array([[127.0], [0.6], [0.4], [1e-9]])])
    counts = {kind: network_nonzero(model, kind) for kind in ("float32", "float16", "int8", "codebook-16")}
    assert counts == {"float32": 4, "float16": 3, "int8": 2, "codebook-16": 4}


def test_of_a_batch_norm_only_scale_and_shift_are_counted():
    inputs = keras.Input((4, 4, 6))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    assert network_ideal_bytes(model, "float32") == 4 * 2 * 6
    assert network_ideal_bytes(model, "codebook-16") == 2 * 2 * 6


def test_sizes_of_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * 3_000_000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"yy")
    assert file_bytes(tmp_path / "a") == 3_000_002
    for path in (tmp_path / "a" / "one", tmp_path / "a" / "b" / "two"):
        compressor = zlib.compressobj(6, wbits=31)
        assert gzip_bytes(path) == len(compressor.compress(path.read_bytes()) + compressor.flush())
    assert gzip_bytes(tmp_path / "a") == gzip_bytes(tmp_path / "a" / "one") + gzip_bytes(tmp_path / "a" / "b" / "two")


def test_a_file_that_takes_too_long_has_no_peak_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("export.peak_memory.TIMEOUT", 0.01)
    FORMATS["litert"].write(small_source(), tmp_path / "a.tflite")
    assert peak_memory(tmp_path / "a.tflite", SHAPE, "float32") is None


def test_peak_memory_grows_with_the_network(tmp_path):
    def memory(width):
        inputs = keras.Input(SHAPE)
        model = keras.Model(inputs, keras.layers.Dense(width)(keras.layers.Flatten()(inputs)))
        path = tmp_path / f"{width}.tflite"
        FORMATS["litert"].write(small_source(model), path)
        return peak_memory(path, SHAPE, "float32")

    small, large = memory(8), memory(20_000)  # 192 weights a unit: 15 MB
    if small is None:
        pytest.skip("this system does not say how much memory a process took")
    assert large - small > 14e6
    assert peak_memory(tmp_path / "a.keras", SHAPE, "float32") is None
