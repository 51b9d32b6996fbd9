"""What workers send each other arrives as it was, and is nothing but data."""

import json
import math
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.checkpoints import Checkpoint
from utils.messages import pack, unpack


class Pair(NamedTuple):
    first: object
    second: object = 2


def there_and_back(value):
    return unpack(pack(value))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=10,
)


@given(values)
def test_plain_values_arrive_as_they_were(value):
    found = there_and_back(value)
    assert found == value
    assert repr(found) == repr(value)  # types too: 1 and 1.0 and True are equal


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_arrive_bit_for_bit(array):
    found = there_and_back({"a": [array, b"x", array.T]})["a"]
    assert found[0].dtype == array.dtype
    assert found[0].shape == array.shape
    assert found[0].tobytes() == array.tobytes()
    assert found[2].tobytes() == array.T.tobytes()
    assert found[1] == b"x"


def test_what_arrives_can_be_changed_and_is_aligned():
    odd, array = there_and_back([b"1", np.arange(3.0)])
    assert odd == b"1"
    array += 1
    assert array.flags.aligned
    assert array.flags.writeable


def test_scalars_other_types_tensors_and_numbers_that_are_none():
    half = np.arange(3).astype(ml_dtypes.bfloat16)
    found = there_and_back([np.uint32(7), half, tf.constant([1.5]), math.inf, math.nan, np.float64(0.1), np.str_("a")])
    assert type(found[0]) is np.uint32
    assert found[0] == 7
    assert found[1].dtype == half.dtype
    assert found[1].tobytes() == half.tobytes()
    assert tf.is_tensor(found[2])
    assert found[2].numpy().tolist() == [1.5]
    assert found[3] == math.inf
    assert math.isnan(found[4])
    assert (type(found[5]), found[5]) == (np.float64, 0.1)
    assert (type(found[6]), found[6]) == (np.str_, "a")


def test_a_checkpoint_arrives_as_one():
    found = there_and_back(Checkpoint({"w": np.eye(2, dtype=np.float32)}, {"step": 3}))
    assert type(found) is Checkpoint
    assert found.arrays["w"].tolist() == [[1, 0], [0, 1]]
    assert found.meta == {"step": 3}


@pytest.mark.parametrize("value", [object(), {1, 2}, InterruptedError, np.array([None]), lambda: 0])
def test_what_is_no_data_is_not_sent(value):
    with pytest.raises(TypeError, match="must be"):
        pack([value])


@pytest.mark.parametrize("name", [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("nowhere", "X")])
def test_a_message_cannot_call_anything(name):
    text = json.dumps(["named", *name, ["touch canary"]]).encode()
    message = np.frombuffer(len(text).to_bytes(8, "little") + text, np.uint8)
    with pytest.raises(TypeError, match="named tuples that this program has"):
        unpack(message)
