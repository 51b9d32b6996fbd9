"""Each format: written, read by its own runtime, and what it must keep of the network."""

import importlib.util

import numpy as np
import pytest

from export.config import DEFAULT_FORMATS, FORMAT_NAMES, ExportConfig, num_checked_images, parse_formats
from export.file_sizes import file_bytes
from export.formats import FORMATS, chosen_formats, missing_package
from tests.export.small_network import CLASSES, examples, small_network, small_source
from utils.errors import InputError

# Largest difference of outputs of size up to 6: rounding, 8 bits, 11 bits, 16 values.
ALLOWED = {"int8": 0.5, "float16": 0.02, "codebook-256": 0.3, "codebook-16": 2.0}


@pytest.fixture(scope="module")
def source():
    return small_source()


@pytest.fixture(scope="module")
def wanted(source):
    return np.asarray(source.model(examples(20)))


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    """Format name -> its file of the small network."""
    directory = tmp_path_factory.mktemp("exports")
    for form in FORMATS.values():
        form.write(source, directory / form.file)
    return {name: directory / form.file for name, form in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_outputs_of_the_network_in_its_own_runtime(name, source, wanted, files):
    form = FORMATS[name]
    run = form.load(files[name], 1, source)
    allowed = 1e-5 if form.is_exact else ALLOWED[form.values]
    for count in (20, 1, 7):
        outputs = run(examples(20)[:count])
        assert outputs.shape == (count, CLASSES)
        assert np.abs(outputs - wanted[:count]).max() <= allowed
    assert form.is_exact or np.abs(run(examples(20)) - wanted).max() > 1e-4


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_file_serves_several_threads(name, source, wanted, files):
    outputs = FORMATS[name].load(files[name], 2, source)(examples(20))
    assert np.abs(outputs - wanted).max() <= (1e-5 if FORMATS[name].is_exact else ALLOWED[FORMATS[name].values])


def test_nothing_is_left_beside_the_files(files):
    (directory,) = {path.parent for path in files.values()}
    assert {path.name for path in directory.iterdir()} == {form.file for form in FORMATS.values()}


def test_a_file_is_replaced_as_a_whole(source, files, tmp_path):
    for name in ("saved-model", "litert"):
        path = tmp_path / FORMATS[name].file
        FORMATS[name].write(small_source(small_network(seed=5)), path)
        FORMATS[name].write(source, path)
        assert file_bytes(path) == pytest.approx(file_bytes(files[name]), rel=0.01)
        outputs = FORMATS[name].load(path, 1, source)(examples(3))
        assert np.abs(outputs - np.asarray(source.model(examples(3)))).max() < 1e-5


def test_fewer_bits_a_value_make_smaller_files(files):
    sizes = {name: file_bytes(path) for name, path in files.items()}
    assert sizes["trim-16"] < sizes["trim-256"] < sizes["trim-float16"] < sizes["trim"] < sizes["litert"]
    assert sizes["litert-sparse"] < sizes["litert"]


def test_a_list_of_formats_is_read_in_the_order_of_the_formats():
    assert parse_formats("all", "--formats") == set(DEFAULT_FORMATS)
    assert "keras-folded" not in DEFAULT_FORMATS
    assert parse_formats("none", "--formats") == set()
    chosen = chosen_formats("trim, litert,keras-folded,litert", "--formats")
    assert [form.name for form in chosen] == ["keras-folded", "litert", "trim"]
    assert parse_formats("all,keras-folded", "--formats") == set(FORMAT_NAMES)
    assert parse_formats(ExportConfig().formats, "--export_formats") == set(DEFAULT_FORMATS)


def test_as_many_images_as_asked_for_are_looked_at_and_else_fewer_of_large_ones():
    assert num_checked_images(0, (32, 32, 3)) == num_checked_images(0, (64, 64, 3)) == 10_000
    assert num_checked_images(0, (224, 224, 3)) == 1_000
    assert num_checked_images(7, (224, 224, 3)) == num_checked_images(7, (32,)) == 7


@pytest.mark.parametrize("text", ["tflite", "litert,", "", "none,litert", "LITERT"])
def test_a_wrong_list_is_named_with_what_is_allowed(text):
    with pytest.raises(
        InputError, match="--formats must be none, or a comma list of all, keras, .* Received: "
    ) as error:
        chosen_formats(text, "--formats")
    assert repr(text) in str(error.value)


def test_a_format_whose_package_is_missing_is_refused_by_name_and_left_to_the_report_in_all(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tf2onnx" else real(name))
    assert missing_package(FORMATS["onnx"]) == "tf2onnx"
    assert not missing_package(FORMATS["litert"])
    with pytest.raises(InputError, match="--formats onnx needs the package tf2onnx.*scripts/setup_venv.sh installs"):
        chosen_formats("litert,onnx", "--formats")
    assert FORMATS["onnx"] in chosen_formats("all", "--formats")
