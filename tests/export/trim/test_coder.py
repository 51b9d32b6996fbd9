import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.trim.chunks import COLUMNS, as_matrix, best_axis, from_matrix
from export.trim.coder import (
    LEAST,
    ONE,
    DecodeError,
    PlaceModel,
    RangeDecoder,
    RangeEncoder,
    SymbolModel,
    decode_places,
    decode_symbols,
    encode_places,
    encode_symbols,
    place_bits,
)


def test_probabilities_by_hand():
    model = PlaceModel(2)
    # Nothing seen: (0 + 1) / (0 + 2) for both columns.
    assert model.probabilities().tolist() == [32768, 32768]
    model.update(np.array([[1, 0]]))
    # Overall (1 + 1) / (2 + 2) = 1/2; column 0 has 1 of 1: (65536 + 16 * 32768) / 17, column 1 has 0 of 1.
    assert model.probabilities().tolist() == [(65536 + 16 * 32768) // 17, 16 * 32768 // 17]


def test_probabilities_stay_away_from_0_and_1():
    model = PlaceModel(3)
    model.update(np.tile([1, 0, 0], (100_000, 1)))
    assert model.probabilities().tolist() == [ONE - LEAST, LEAST, LEAST]


def test_counts_of_many_rows_at_once_are_those_of_one_after_the_other():
    rows = np.random.default_rng(0).integers(0, 2, (50, 4))
    together, each = PlaceModel(4), PlaceModel(4)
    together.update(rows)
    for row in rows:
        each.update(row[None])
    assert together.probabilities().tolist() == each.probabilities().tolist()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=150)))
def test_any_places_come_back(places):
    coder = RangeEncoder()
    encode_places(coder, places)
    assert (decode_places(RangeDecoder(coder.get_compressed()), places.shape) == places).all()


@given(st.integers(1, 300), st.data())
def test_any_symbols_come_back_and_leave_both_models_alike(size, data):
    parts = [data.draw(hnp.arrays(np.int64, st.integers(0, 400), elements=st.integers(0, size - 1))) for _ in range(2)]
    coder, writer, reader = RangeEncoder(), SymbolModel(size), SymbolModel(size)
    for part in parts:
        encode_symbols(coder, part, writer)
        writer.age()
    decoder = RangeDecoder(coder.get_compressed())
    for part in parts:
        np.testing.assert_array_equal(decode_symbols(decoder, len(part), reader), part)
        reader.age()
    assert vars(reader)["_counts"].tolist() == vars(writer)["_counts"].tolist()


def test_places_take_about_their_entropy_and_fewer_where_columns_differ():
    generator = np.random.default_rng(0)
    alike = generator.random((2000, 50)) < 0.1
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert place_bits(alike) == pytest.approx(alike.size * entropy, rel=0.02)
    shares = np.where(np.arange(50) < 10, 0.4, 0.025)  # the same 0.1 in all
    apart = generator.random((2000, 50)) < shares
    expected = -(shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares)).mean()
    assert place_bits(apart) == pytest.approx(apart.size * expected, rel=0.02)
    assert expected < 0.8 * entropy


def test_what_places_are_said_to_take_is_what_they_take():
    places = np.random.default_rng(1).random((300, 20)) < 0.2
    coder = RangeEncoder()
    encode_places(coder, places)
    assert coder.num_bits() == pytest.approx(place_bits(places), abs=64)


def test_symbols_take_about_their_entropy():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    symbols = np.random.default_rng(2).choice(4, 20_000, p=shares)
    coder = RangeEncoder()
    encode_symbols(coder, symbols, SymbolModel(4))
    assert coder.num_bits() == pytest.approx(1.75 * 20_000, rel=0.01)


def test_one_symbol_alone_takes_nothing():
    coder = RangeEncoder()
    encode_symbols(coder, np.zeros(1000, np.int64), SymbolModel(1))
    assert coder.num_bits() == 0
    assert decode_symbols(RangeDecoder(coder.get_compressed()), 1000, SymbolModel(1)).tolist() == [0] * 1000


def test_words_of_no_encoder_are_an_error_of_ours():
    words = np.full(4, 2**32 - 1, np.uint32)
    with pytest.raises(DecodeError, match="not what an encoder writes"):
        decode_symbols(RangeDecoder(words), 1000, SymbolModel(3))


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=5, min_side=0, max_side=5)), st.sampled_from(COLUMNS))
def test_matrices_of_kernels_go_back(kernel, axis):
    np.testing.assert_array_equal(from_matrix(as_matrix(kernel, axis), kernel.shape, axis), kernel)


def test_columns_are_inputs_filter_after_filter_or_outputs():
    kernel = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # position, input, output
    inputs = as_matrix(kernel, -2)
    assert inputs.shape == (8, 3)
    assert inputs[0].tolist() == kernel[0, :, 0].tolist()
    assert inputs[1].tolist() == kernel[1, :, 0].tolist()
    assert as_matrix(kernel, -1)[1].tolist() == kernel[0, 1].tolist()


def test_the_axis_whose_members_differ_has_the_columns():
    generator = np.random.default_rng(3)
    shares = generator.permutation(np.linspace(0.01, 0.5, 40) ** 2)
    assert best_axis(generator.random((3, 3, 40, 40)) < shares[:, None]) == -2
    assert best_axis(generator.random((3, 3, 40, 40)) < shares) == -1
