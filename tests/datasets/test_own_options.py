import re

import numpy as np
import pytest

from datasets.config import OwnDataConfig
from datasets.own_options import normalisation, picture_shape, read_shares
from utils.errors import InputError


def test_shares_are_three_numbers():
    assert read_shares("0.8,0.1,0.1") == (0.8, 0.1, 0.1)
    assert read_shares(" 1/2, 1/4 ,1/4") == (0.5, 0.25, 0.25)
    assert read_shares("0.7,0.2999999999,0.1e0".replace("0.2999999999", "0.2")) == (0.7, 0.2, 0.1)
    assert read_shares("0.333333,0.333333,0.333334") == (0.333333, 0.333333, 0.333334)


@pytest.mark.parametrize(
    "text", ["", "0.8", "0.8,0.2", "0.8,0.1,0.1,0", "a,b,c", "1.1,-0.1,0", "0.8,0.1,0.2", "nan,0.5,0.5", "1/0,0,0"]
)
def test_what_is_no_split(text):
    message = "--own_split must be three numbers of at least 0 that sum to 1 .*Received: " + re.escape(repr(text))
    with pytest.raises(InputError, match=message):
        read_shares(text)


def test_a_split_with_nothing_to_train_on():
    with pytest.raises(InputError, match="--own_split must leave a share above 0 for training.*'0,0.5,0.5'"):
        read_shares("0,0.5,0.5")


@pytest.mark.parametrize(
    ("text", "input_shape", "expected"),
    [
        ("", (32, 48, 3), (32, 48, 3)),
        ("20,30", (None, None, 1), (20, 30, 1)),
        ("20, 30", (20, None, 4), (20, 30, 4)),
        ("32,48", (32, 48, 3), (32, 48, 3)),
    ],
)
def test_size_of_the_pictures(text, input_shape, expected):
    assert picture_shape(text, input_shape) == expected


@pytest.mark.parametrize(
    ("text", "input_shape", "message"),
    [
        ("", (None, None, 3), r"--own_image_size must be given.*input \[None, None, 3\]"),
        ("", (32, None, 3), "--own_image_size must be given"),
        ("32", (None, None, 3), "--own_image_size must be height,width.*'32'"),
        ("0,3", (None, None, 3), "--own_image_size must be height,width"),
        ("3.5,3", (None, None, 3), "--own_image_size must be height,width"),
        ("-3,3", (None, None, 3), "--own_image_size must be height,width"),
        ("16,16", (32, None, 3), r"--own_image_size must fit the network's input \[32, None, 3\]. Received: '16,16'"),
        ("", (32, 32, 2), r"1, 3 or 4 channels.*Received: \[32, 32, 2\]"),
        ("", (784,), r"1, 3 or 4 channels.*Received: \[784\]"),
        ("", (8, 32, 32, 3), "1, 3 or 4 channels"),
    ],
)
def test_sizes_that_will_not_do(text, input_shape, message):
    with pytest.raises(InputError, match=message):
        picture_shape(text, input_shape)


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({}, 0, 1),
        ({"rescale": "1/255"}, 0, 255),
        ({"rescale": "1/127.5", "mean": "1"}, 127.5, 127.5),
        ({"rescale": "2", "mean": "3", "std": "4"}, 1.5, 2),
        ({"mean": "1,2,3"}, [1, 2, 3], 1),
        ({"rescale": "0.5", "mean": "1,2,3", "std": "1/2,1,4"}, [2, 4, 6], [1, 2, 8]),
    ],
)
def test_normalisation_is_what_the_flags_say(options, mean, std):
    found = normalisation(OwnDataConfig(**options), 3)
    for values, expected in zip(found, (mean, std), strict=True):
        assert values.dtype == np.float32
        assert values.shape == np.shape(expected)
        np.testing.assert_allclose(values, np.float32(expected), rtol=1e-7)


def test_imagenet_means_give_what_is_known_of_a_pixel():
    config = OwnDataConfig(rescale="1/255", mean="0.485,0.456,0.406", std="0.229,0.224,0.225")
    mean, std = normalisation(config, 3)
    expected = (np.array([255, 128, 0]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose((np.float32([255, 128, 0]) - mean) / std, expected, rtol=1e-5)


def test_where_channels_are_not_known_any_number_of_means_will_do():
    assert normalisation(OwnDataConfig(mean="1,2,3,4,5"), None)[0].shape == (5,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rescale": "x"}, "--own_rescale must be a number such as 0.5 or 1/255. Received: 'x'"),
        ({"rescale": "inf"}, "--own_rescale must be a number"),
        ({"rescale": "1/0"}, "--own_rescale must be a number"),
        ({"rescale": "0"}, "--own_rescale must not be 0"),
        ({"rescale": "1,1,1"}, "--own_rescale must be one number. Received: '1,1,1', 3 numbers"),
        ({"mean": "1,2"}, "--own_mean must be one number, or 3, one for each channel. Received: '1,2', 2 numbers"),
        ({"mean": "1,,2"}, "--own_mean must be a number"),
        ({"std": "1,2,3,4"}, "--own_std must be one number, or 3"),
        ({"std": "1,0,1"}, "--own_std must not be 0. Received: '1,0,1'"),
    ],
)
def test_numbers_that_will_not_do(options, message):
    with pytest.raises(InputError, match=message):
        normalisation(OwnDataConfig(**options), 3)
