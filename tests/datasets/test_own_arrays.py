import zipfile

import numpy as np
import pytest

from datasets import own_memory
from datasets.own_arrays import read_npz
from tests.own_data_files import load
from utils.errors import InputError


def arrays(count=6, shape=(3,), **changed):
    """Arrays of two classes; None for one that is not there."""
    generator = np.random.default_rng(0)
    made = {}
    for part, length in (("train", count), ("test", 4)):
        made[f"x_{part}"] = generator.random((length, *shape)).astype(np.float32)
        made[f"y_{part}"] = np.arange(length) % 2
    return {name: array for name, array in (made | changed).items() if array is not None}


def write(tmp_path, compressed=False, **made):
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, **made)
    return str(path)


def read(tmp_path, task="classification", input_shape=(3,), **changed):
    return read_npz(write(tmp_path, **arrays(**changed)), task, input_shape)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_as_they_are(tmp_path, compressed):
    given = arrays(x_val=np.zeros((2, 3), np.float32), y_val=np.array([1, 0]), other=np.zeros(3))
    source = read_npz(write(tmp_path, compressed, **given), "classification", (3,))
    for part, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        np.testing.assert_array_equal(source.samples[part], given[f"x_{short}"])
        np.testing.assert_array_equal(source.labels[part], given[f"y_{short}"])
        assert source.labels[part].dtype == np.int32
    assert source.class_names == ("0", "1")


def test_validation_is_split_off_training_where_there_is_none(tmp_path):
    path = write(tmp_path, **arrays(count=90))
    dataset = load(path, input_shape=(3,))
    assert [np.bincount(split.labels).tolist() for split in (dataset.train, dataset.validation, dataset.test)] == [
        [40, 40],
        [5, 5],
        [2, 2],
    ]
    assert dataset.train.images.dtype == np.float32
    rows = np.concatenate([dataset.train.images, dataset.validation.images])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.load(path)["x_train"]))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float16", "float32", "bool", ">f4"])
def test_inputs_keep_their_type(tmp_path, dtype):
    x = np.arange(18).reshape(6, 3).astype(dtype)
    found = read(tmp_path, x_train=x).samples["train"]
    np.testing.assert_array_equal(found, x)
    assert found.dtype == dtype


def test_float64_becomes_float32(tmp_path):
    x = np.full((6, 3), 1 / 3)
    found = read(tmp_path, x_train=x).samples["train"]
    assert found.dtype == np.float32
    assert (found == np.float32(1 / 3)).all()


@pytest.mark.parametrize(
    ("shape", "input_shape", "expected"),
    [
        ((4, 5), (4, 5, 1), (4, 5, 1)),
        ((4, 5), (None, None, 1), (4, 5, 1)),
        ((4, 5, 3), (None, None, 3), (4, 5, 3)),
        ((7,), (7, 1), (7, 1)),
        ((7,), (None,), (7,)),
        ((2, 3, 4, 1), (2, 3, 4, 1), (2, 3, 4, 1)),
        ((3, 1), (3, 1), (3, 1)),
    ],
)
def test_inputs_get_a_channel_axis_only_where_the_network_wants_one(tmp_path, shape, input_shape, expected):
    source = read(tmp_path, input_shape=input_shape, shape=shape)
    assert source.samples["train"].shape == (6, *expected)
    assert source.samples["test"].shape == (4, *expected)


@pytest.mark.parametrize(
    ("shape", "input_shape"),
    [((4,), (3,)), ((3, 1), (3,)), ((4, 5), (4, 5, 3)), ((4, 5, 1), (4, 5, 3)), ((4, 6), (4, 5, 1)), ((0,), (None,))],
)
def test_inputs_that_do_not_fit_the_network_are_told_with_both_shapes(tmp_path, shape, input_shape):
    with pytest.raises(InputError, match="a sample of x_train must have the network's input shape") as error:
        read(tmp_path, input_shape=input_shape, shape=shape)
    assert f"[{', '.join(map(str, input_shape))}]. Received: {list(shape)}" in str(error.value)


@pytest.mark.parametrize(
    ("y", "expected", "names"),
    [
        (np.array([2, 0, 5, 0, 2, 0]), [2, 0, 5, 0, 2, 0], ("0", "1", "2", "3", "4", "5")),
        (np.array([[1], [0], [1], [0], [0], [0]], np.uint8), [1, 0, 1, 0, 0, 0], ("0", "1")),
        (np.array([0.0, 1, 1, 0, 0, 0]), [0, 1, 1, 0, 0, 0], ("0", "1")),
        (np.array([True, False, False, True, True, True]), [1, 0, 0, 1, 1, 1], ("0", "1")),
        (np.eye(4, dtype=np.float32)[[2, 0, 1, 0, 2, 2]], [2, 0, 1, 0, 2, 2], ("0", "1", "2", "3")),
        (np.eye(2, dtype=bool)[[1, 0, 1, 0, 0, 0]], [1, 0, 1, 0, 0, 0], ("0", "1")),
    ],
    ids=["numbers with gaps", "a column", "whole floats", "booleans", "one-hot", "one-hot booleans"],
)
def test_labels_of_each_kind(tmp_path, y, expected, names):
    source = read(tmp_path, y_train=y, y_test=np.array([0, 0, 0, 0]))
    assert source.labels["train"].tolist() == expected
    assert source.labels["train"].dtype == np.int32
    assert source.class_names == names


@pytest.mark.parametrize("kind", ["U", "S"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_strings_are_class_names(tmp_path, kind, shape):
    train, test = (
        np.array(names, kind).reshape(shape) for names in (["owl", "ant", "owl", "bee", "ant", "ant"], ["bee"] * 4)
    )
    source = read(tmp_path, y_train=train, y_test=test)
    assert source.class_names == ("ant", "bee", "owl")
    assert source.labels["train"].tolist() == [2, 0, 2, 1, 0, 0]
    assert source.labels["test"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 1, -1, 0, 1, 0]), "y_train must be class indices.*Received: -1 in row 2"),
        (
            np.array([0, 1, 0, 0.5, 1, 0]),
            "y_train must be class indices.*--own_task regression.*Received: 0.5 in row 3",
        ),
        (np.array([0, 1, 0, 0, np.nan, 0]), "y_train must be class indices.*Received: nan in row 4"),
        (np.array([0, 1, 0, 0, np.inf, 0]), "y_train must be class indices.*Received: inf in row 4"),
        (np.array([0, 1, 0, 0, 10**12, 0]), "whole numbers from 0 to 999999.*Received: 1000000000000 in row 4"),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]] * 0.5, r"each row of y_train must be one-hot.*\[0.5, 0.0, 0.0\] in row 0"),
        (np.array([[0, 1], [1, 0], [1, 1], [0, 1], [0, 1], [0, 1]]), r"one-hot.*Received: \[1, 1\] in row 2"),
        (np.array([[0, 1], [1, 0.5]] * 3), r"one-hot.*Received: \[1.0, 0.5\] in row 1"),
        (np.array([[0, 1], [0, 0], [1, 0], [0, 1], [0, 1], [0, 1]]), r"one-hot.*Received: \[0, 0\] in row 1"),
        (np.zeros((6, 2, 2), int), r"labels must be class indices.*Received: y_train, int64 \[6, 2, 2\]"),
        (np.array([["a", "b"]] * 6), r"labels must be class indices.*Received: y_train, <U1 \[6, 2\]"),
        (np.zeros(6, complex), "labels must be class indices.*Received: y_train, complex128"),
        (np.array(["a", "b"] * 3), "all be names or all be numbers. Received: names in y_train, numbers in y_test"),
    ],
)
def test_labels_that_will_not_do(tmp_path, y, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, y_train=y)


def test_one_hot_labels_of_different_widths(tmp_path):
    with pytest.raises(InputError, match="same number of columns. Received: 3 in y_train, 4 in y_test"):
        read(tmp_path, y_train=np.eye(3)[[0, 1, 2] * 2], y_test=np.eye(4))


def test_a_class_of_test_between_those_of_training_is_lacking_too(tmp_path):
    path = write(tmp_path, **arrays(y_train=np.array([0, 0, 0, 3, 3, 3]), y_test=np.array([0, 3, 2, 4])))
    with pytest.raises(InputError, match="classes of test.*2 that training lacks, '2', '4'"):
        load(path, input_shape=(3,))


@pytest.mark.parametrize(
    ("y", "expected"),
    [(np.arange(6), [[0], [1], [2], [3], [4], [5]]), (np.full((6, 2), 0.25), [[0.25, 0.25]] * 6)],
)
def test_targets_of_a_regression_are_columns_of_float32(tmp_path, y, expected):
    source = read(tmp_path, "regression", y_train=y, y_test=y[:4])
    assert source.labels["train"].tolist() == expected
    assert source.labels["train"].dtype == np.float32
    assert source.class_names == ()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            np.array(["1.5"] * 6),
            r"y_train must be real numbers \[N\] or \[N, k\] for a regression. Received: <U3 \[6\]",
        ),
        (np.zeros((6, 2, 2)), r"y_train must be real numbers.*float64 \[6, 2, 2\]"),
        (np.zeros((6, 0)), r"y_train must be real numbers.*float64 \[6, 0\]"),
        (np.array([[0, 1], [2, np.inf]] * 3), "y_train must be finite float32. Received: inf in row 1"),
        (np.zeros((6, 2)), "same number of columns. Received: 2 in y_train, 1 in y_test"),
    ],
)
def test_targets_that_will_not_do(tmp_path, y, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, "regression", y_train=y)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_inputs_that_are_not_finite_are_told_with_their_row(tmp_path, value):
    x = np.zeros((9000, 3))
    x[[8000, 8500], 1] = value
    with pytest.raises(InputError, match=r"x_train must be finite float32. Received: -?(nan|inf) in row 8000"):
        read(tmp_path, x_train=x, y_train=np.arange(9000) % 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.zeros((6, 3), complex)}, r"x_train must be real numbers.*complex128 \[6, 3\]"),
        ({"x_test": np.array([["a"] * 3] * 4)}, r"x_test must be real numbers.*<U1 \[4, 3\]"),
        ({"x_train": np.zeros(6)}, r"x_train must be real numbers \[N, ...\] of rank 2 or more.*float64 \[6\]"),
        ({"x_train": np.zeros((5, 3))}, "x_train and y_train must have the same number of rows.*Received: 5 and 6"),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0)}, "x_test and y_test must have.*Received: 0 and 0"),
        ({"y_test": np.array(3)}, "x_test and y_test must have.*Received: 4 and 0"),
    ],
)
def test_arrays_that_will_not_do(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"x_train": None}, "x_train"),
        ({"x_test": None, "y_test": None}, "x_test, y_test"),
        ({"x_val": np.zeros((2, 3))}, "y_val"),
    ],
)
def test_missing_arrays_are_told_with_what_is_there(tmp_path, changed, missing):
    with pytest.raises(InputError, match=f"Missing: {missing}. Received: ") as error:
        read(tmp_path, **changed)
    assert str(error.value).endswith(f"Received: {', '.join(sorted(arrays(**changed)))}")


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was run')",)


@pytest.mark.parametrize("name", ["x_train", "y_train"])
def test_an_array_that_needs_pickle_is_refused_and_not_run(tmp_path, name):
    values = np.empty(6, object)
    values[:] = [Harmful() for _ in range(6)]
    with pytest.raises(InputError, match=f"{name} in .* only pickle can read.*can run any code.*np.stack.*dtype=str"):
        read(tmp_path, **{name: values})


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "data.npz"
    whole = write(tmp_path, compressed=True, **arrays(count=500))
    content = bytearray(path.read_bytes())
    for damaged in (b"", b"hello", bytes(content[:500]), bytes(content[:600] + b"xxxxxxxx" + content[608:])):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="--own_data must be a readable .npz file. Received: .*data.npz"):
            read_npz(whole, "classification", (3,))


def test_a_member_that_is_no_array(tmp_path):
    path = write(tmp_path, **arrays(y_test=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test.npy", "hello")
    with pytest.raises(InputError, match="readable .npz file.*y_test is no array"):
        read_npz(path, "classification", (3,))


def test_arrays_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(own_memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="must fit into memory.*data.npz, held twice, need"):
        read(tmp_path)
