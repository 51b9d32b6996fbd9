import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.page.wording import Quality, joined, kilobytes, milliseconds, model_title, sizes_text


@pytest.mark.parametrize(
    ("sizes", "texts"),
    [
        ((1_103_000, 41_200), ("1.10 MB", "0.041 MB")),
        ((102_400_000, 9_100_000), ("102 MB", "9.10 MB")),
        ((999_999, 27_900), ("1,000 kB", "27.9 kB")),
        ((1_500, 80), ("1.50 kB", "0.080 kB")),
        ((25_000_000, 1_200), ("25.0 MB", "0.0012 MB")),
        ((0,), ("0.00 kB",)),
    ],
)
def test_sizes_have_the_same_unit_and_digits_that_say_something(sizes, texts):
    assert sizes_text(*sizes) == texts


@given(st.integers(1_000, 10**12), st.floats(0.002, 1))
def test_a_size_in_words_is_the_size(size, share):
    smaller = max(int(size * share), 1)
    for value, text in zip((size, smaller), sizes_text(size, smaller), strict=True):
        number, unit = text.split()
        assert float(number.replace(",", "")) * {"MB": 1e6, "kB": 1e3}[unit] == pytest.approx(value, rel=0.06)


def test_accuracy_is_in_percent_and_another_metric_a_number():
    accuracy, other = Quality.of({}), Quality.of({"metric": "IoU"})
    assert accuracy.text(0.9115) == "91.15%"
    assert accuracy.change(0.9115, 0.903) == "\N{MINUS SIGN}0.85 points"
    assert other.text(-0.25) == "\N{MINUS SIGN}0.2500"
    assert other.change(0.5, 0.75) == "+0.2500"


@pytest.mark.parametrize(
    ("quality", "reference", "value", "is_kept"),
    [
        (Quality("accuracy", True), 0.9, 0.89, True),
        (Quality("accuracy", True), 0.9, 0.8899, False),
        (Quality("accuracy", True), 0.9, 0.95, True),
        (Quality("minus error", False), -2.0, -2.02, True),
        (Quality("minus error", False), -2.0, -2.03, False),
    ],
)
def test_sound_is_within_one_point_or_a_hundredth(quality, reference, value, is_kept):
    assert quality.is_kept(reference, value) is is_kept


def test_networks_have_the_names_that_people_know():
    names = {"resnet_20": "ResNet-20", "mobilenet_v1_0.5": "MobileNet v1 0.5", "lenet": "LeNet", "my_net": "my_net"}
    assert {name: model_title(name) for name in names} == names


def test_small_numbers_and_lists():
    assert [milliseconds(value) for value in (0.01234, 1.234, 1234.5)] == ["0.012", "1.23", "1,234"]
    assert [kilobytes(size) for size in (9_400, 1_103_000)] == ["9.40 kB", "1,103 kB"]
    assert [joined(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
