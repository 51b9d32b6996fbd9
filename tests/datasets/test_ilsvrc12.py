import itertools

import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from datasets.dataset import telling_of_bad_data
from datasets.ilsvrc12.dataset import MEAN, STD, load_ilsvrc12
from tests.ilsvrc12_files import (
    corrupt,
    encode,
    example,
    examples,
    jpeg,
    pixels,
    truncated,
    write_ilsvrc12,
    write_part,
)
from utils.errors import InputError

BAD = {4: truncated(4), 9: corrupt(9), 10: b"no picture", 27: truncated(27), 32: corrupt(32)}
SIDE = 16


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """33 training records, of which three are for validation, and 11 of test."""
    return write_ilsvrc12(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """The same with some training images that cannot be decoded, and two of test."""
    train, test = examples(33), examples(11, first=100)
    for number, content in BAD.items():
        train[number] = example(content, number % 10 + 1, f"{number}.JPEG")
    test[0] = example(truncated(100), 1, "100.JPEG")
    test[10] = example(corrupt(110), 1, "110.JPEG")
    return write_ilsvrc12(tmp_path_factory.mktemp("bad"), train, test)


def load(directory, **options):
    return load_ilsvrc12(str(directory), **{"image_size": SIDE, "num_classes": 10, "quiet": True} | options)


def take(batches, count):
    return [(images.numpy(), labels.numpy()) for images, labels in batches.take(count)]


def labels_of(batches):
    return np.concatenate([labels for _, labels in batches]).tolist()


def assert_same(batches, others):
    for (images, labels), (other_images, other_labels) in zip(batches, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def central_oracle(image, image_size):
    """The usual way, in NumPy: the shorter side resized to 256/224, bilinear and without antialias, then cut out."""
    height, width = image.shape[:2]
    scale = min(height, width) / round(image_size * 256 / 224)
    rows, columns = (
        (np.arange(image_size) - image_size / 2 + 0.5) * scale + (length - 1) / 2 for length in (height, width)
    )
    return bilinear(bilinear(image.astype(float), rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)


def bilinear(image, places):
    """Rows of the image between its own ones."""
    low = np.floor(places).astype(int)
    share = (places - low)[:, None, None]
    below, above = (image[np.clip(index, 0, len(image) - 1)] for index in (low, low + 1))
    return below * (1 - share) + above * share


def test_what_the_data_set_says_of_itself(good):
    dataset = load(good)
    assert (dataset.name, dataset.title, dataset.num_classes) == ("ilsvrc12", "ImageNet ILSVRC-12", 10)
    assert (dataset.num_training_images, dataset.image_shape) == (30, (SIDE, SIDE, 3))
    shapes = (tf.TensorSpec([4, SIDE, SIDE, 3], tf.float32), tf.TensorSpec([4], tf.int32))
    assert dataset.training_batches(batch_size=4, seed=0).element_spec == shapes
    few = load(good, num_train=7, num_validation=5, num_test=2)
    assert few.num_training_images == 7
    assert few.fingerprint() == f"ilsvrc12: train 7, validation 5, test 2, {dataset.fingerprint().split(', ')[-1]}"


def test_each_worker_sees_its_slice_and_any_step_can_be_the_first(good):
    dataset = load(good)
    whole = take(dataset.training_batches(batch_size=8, seed=3), 5)
    for rank in range(2):
        batches = take(dataset.training_batches(batch_size=4, seed=3, rank=rank, size=2), 5)
        assert_same(batches, [(images[4 * rank :][:4], labels[4 * rank :][:4]) for images, labels in whole])
    assert_same(take(dataset.training_batches(batch_size=8, seed=3, start_step=3), 2), whole[3:])
    other = take(dataset.training_batches(batch_size=8, seed=4), 1)
    assert np.abs(other[0][0] - whole[0][0]).max() > 0.1


def test_every_epoch_is_a_permutation_of_the_training_records(tmp_path):
    write_ilsvrc12(tmp_path, train=examples(24, num_classes=24), test=examples(2, num_classes=24))
    dataset = load(tmp_path, num_classes=24, num_validation=4)
    labels = labels_of(take(dataset.training_batches(batch_size=8, seed=0), 10))
    epochs = [labels[start : start + 20] for start in range(0, 80, 20)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert all(one != other for one, other in itertools.combinations(epochs, 2))


def test_evaluation_is_in_order_to_the_last_odd_batch(good):
    batches = take(load(good).test_batches(batch_size=4), -1)
    assert [images.shape for images, _ in batches] == [(4, SIDE, SIDE, 3), (4, SIDE, SIDE, 3), (3, SIDE, SIDE, 3)]
    assert labels_of(batches) == [number % 10 for number in range(100, 111)]


def test_images_of_evaluation_are_those_of_the_usual_way(tmp_path):
    sizes = [(150, 231), (200, 140), (180, 180)]
    test = [example(jpeg(number, size), 1, "a") for number, size in enumerate(sizes)]
    write_ilsvrc12(tmp_path, train=examples(2), test=test, shards=(1, 1))
    ((images, _),) = take(load(tmp_path).test_batches(batch_size=4), -1)
    for number, (image, size) in enumerate(zip(images, sizes, strict=True)):
        difference = np.abs(image * STD + MEAN - central_oracle(pixels(number, *size), SIDE))
        assert difference.mean() < 2  # the window's edges are rounded to whole pixels


def test_an_evaluation_image_whose_window_is_whole_pixels_is_exact(tmp_path):
    image = pixels(5, 36, 72)  # to 18 pixels, of which 16: every second pixel of the central 32, and its neighbour
    write_ilsvrc12(tmp_path, train=examples(2), test=[example(encode(image), 1, "a")], shards=(1, 1))
    decoded = tf.io.decode_jpeg(encode(image)).numpy().astype(np.float32)[2:34, 20:52]
    halved = decoded.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    ((images, _),) = take(load(tmp_path).test_batches(batch_size=4), -1)
    np.testing.assert_allclose(images[0], (halved - MEAN) / STD, atol=1e-5)


def test_workers_share_evaluation_without_overlap(good):
    dataset = load(good, num_validation=10)
    whole = take(dataset.validation_batches(batch_size=4), -1)
    assert labels_of(whole) == [number % 10 for number in range(23, 33)]
    shares = [take(dataset.validation_batches(batch_size=4, rank=rank, size=3), -1) for rank in range(3)]
    assert [len(labels_of(share)) for share in shares] == [3, 3, 4]
    assert sum((labels_of(share) for share in shares), []) == labels_of(whole)


def test_training_images_are_windows_of_their_own_mirrored_half_of_the_time(tmp_path):
    # Red grows from left to right and green from top to bottom, so that each image tells its window.
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = 4 * np.arange(64), 4 * np.arange(64)[:, None]
    write_ilsvrc12(tmp_path, train=[example(encode(ramp), 1, "a")] * 4, test=examples(1), shards=(1, 1))
    dataset = load(tmp_path)
    images = np.concatenate([images for images, _ in take(dataset.training_batches(batch_size=32, seed=0), 2)])
    red, green = np.moveaxis(images * STD + MEAN, 3, 0)[:2] / 4
    across = red[:, :, -1].mean(axis=1) - red[:, :, 0].mean(axis=1)
    down = green[:, -1].mean(axis=1) - green[:, 0].mean(axis=1)
    assert (down > 0).all()
    assert 20 <= (across < 0).sum() <= 44
    area = np.abs(across) * down / 64**2 * (SIDE / (SIDE - 1)) ** 2
    assert 0.05 < area.min() < 0.2
    assert 0.8 < area.max() < 1.1
    assert len(np.unique(np.round(images[:, 0, 0], 3), axis=0)) > 50


def test_grey_cmyk_and_disguised_images_have_the_shape_and_look_of_the_others(tmp_path):
    colour = Image.new("RGB", (30, 20), (200, 120, 40))
    contents = [encode(colour), encode(colour, "PNG"), encode(colour.convert("L")), encode(colour.convert("CMYK"))]
    write_ilsvrc12(tmp_path, train=examples(4), test=[example(content, 1, "a") for content in contents], shards=(1, 1))
    dataset = load(tmp_path)
    ((images, _),) = take(dataset.test_batches(batch_size=4), -1)
    shown = (images * STD + MEAN).mean(axis=(1, 2))
    np.testing.assert_allclose(shown[0], [200, 120, 40], atol=4)
    np.testing.assert_allclose(shown[1], shown[0], atol=4)
    np.testing.assert_allclose(shown[2], np.full(3, 0.299 * 200 + 0.587 * 120 + 0.114 * 40), atol=2)
    assert images[3].std(axis=(0, 1)).max() < 0.05  # TensorFlow and Pillow do not agree on CMYK's colours
    assert dataset.skipped == []


def test_bad_images_are_replaced_by_the_next_good_ones_whether_resumed_or_not(bad, good):
    dataset = load(bad, skip_bad=True)
    whole = take(dataset.training_batches(batch_size=6, seed=0), 5)
    originals = labels_of(take(load(good).training_batches(batch_size=6, seed=0), 5))
    # Labels tell the records apart within ten of them: 4 -> 5, 9 and 10 -> 11, 27 -> 28.
    records = np.concatenate(list(_order(30, 0, 5, 6)))
    replaced = {4: 5, 9: 1, 10: 1, 27: 8}
    assert [number % 10 for number in records] == originals
    assert labels_of(whole) == [replaced.get(number, number % 10) for number in records]
    assert len(dataset.skipped) == 4
    for start in (1, 3):
        resumed = load(bad, skip_bad=True).training_batches(batch_size=6, seed=0, start_step=start)
        assert_same(take(resumed, 5 - start), whole[start:])


def _order(num_images, seed, steps, batch_size):
    from datasets.pipeline import shuffled_indices

    for step in range(steps):
        yield shuffled_indices(tf.range(step * batch_size, (step + 1) * batch_size, dtype=tf.int64), num_images, seed)


def test_bad_images_are_left_out_of_evaluation_named_and_counted(bad, capsys):
    dataset = load(bad, skip_bad=True, quiet=False)
    batches = take(dataset.test_batches(batch_size=5), -1)
    # Records 0 and 10 are bad: four of the first batch are left, five of the second, and none of the third.
    assert [images.shape[0] for images, _ in batches] == [4, 5]
    assert labels_of(batches) == list(range(1, 10))
    places = [f"record 0 of {bad}/validation-00000-of-00002", f"record 4 of {bad}/validation-00001-of-00002"]
    assert dataset.skipped == [f"{places[0]}, 100.JPEG", f"{places[1]}, 110.JPEG"]
    take(dataset.test_batches(batch_size=5), -1)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert sorted(line.split(" (")[0] for line in warnings) == [
        f"warning: an image cannot be decoded: {name}" for name in dataset.skipped
    ]
    # 30 training images, of which four are bad.
    assert dataset.calibration_images(100, seed=0).shape == (26, SIDE, SIDE, 3)


@pytest.mark.parametrize(("number", "reason"), [(4, "truncated"), (9, "not a picture|broken|Bogus|DQT|quant")])
def test_a_bad_image_is_one_clear_error(tmp_path, number, reason):
    train = examples(12)
    train[number] = example(BAD[number], 1, "bad.JPEG")
    dataset = load(write_ilsvrc12(tmp_path, train=train))
    message = (
        rf"decoded: record {number % 4} of .*train-0000{number // 4}-of-00003, bad.JPEG \(.*({reason}).*--skip_bad"
    )
    with pytest.raises(InputError, match=message), telling_of_bad_data(dataset):
        take(dataset.training_batches(batch_size=11, seed=0), 1)


def test_a_training_split_of_bad_images_only(tmp_path):
    train = [example(b"no picture", 1, "a")] * 3 + examples(1)
    dataset = load(write_ilsvrc12(tmp_path, train=train), skip_bad=True)
    with pytest.raises(InputError, match="Received: none in all of the training split"), telling_of_bad_data(dataset):
        take(dataset.training_batches(batch_size=2, seed=0), 1)


def test_a_wrong_label_within_a_file_is_told_where_it_is_met(tmp_path):
    train = examples(12)
    train[5] = example(jpeg(5), 11, "5.JPEG")
    dataset = load(write_ilsvrc12(tmp_path, train=train))
    with pytest.raises(
        InputError, match=r"must be 1 to 10 \(--nb_classes\). Received: 11 in record 1 of .*train-00001"
    ):
        dataset.calibration_images(11, seed=0)
    assert isinstance(dataset.problem(), InputError)


def test_errors_of_other_kinds_and_data_sets_pass_through(good):
    failure = tf.errors.InvalidArgumentError(None, None, "something else")
    for dataset in (load(good), object()):
        with pytest.raises(tf.errors.InvalidArgumentError, match="something else"), telling_of_bad_data(dataset):
            raise failure


def test_calibration_images_are_drawn_of_training_and_prepared_like_those_of_evaluation(good):
    dataset = load(good)
    chosen = np.sort(np.random.default_rng([5, 0xCA11]).permutation(30)[:6])
    images = dataset.calibration_images(6, seed=5)
    everything = load(good, num_validation=32)  # so that the training images are those of validation, but for the first
    validation = np.concatenate([images for images, _ in take(everything.validation_batches(batch_size=32), -1)])
    assert chosen[0] > 0
    np.testing.assert_array_equal(images, validation[chosen - 1])


def test_the_fingerprint_is_of_the_records(good, bad):
    assert load(good).fingerprint() == load(good, image_size=8).fingerprint()
    assert load(good).fingerprint() != load(bad).fingerprint()


def test_other_file_systems_give_the_same_batches(good):
    remote = MemoryFileSystem()
    remote.put(str(good), "/test_ilsvrc12", recursive=True)
    try:
        dataset = load("/test_ilsvrc12", filesystem=remote)
        here = load(good)
        assert dataset.fingerprint() == here.fingerprint()
        assert_same(
            take(dataset.training_batches(batch_size=4, seed=0), 2),
            take(here.training_batches(batch_size=4, seed=0), 2),
        )
    finally:
        remote.rm("/test_ilsvrc12", recursive=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 31}, "--nb_smpls_train must be at most 30"),
        ({"num_validation": 33}, "--nb_smpls_val must be below 33"),
        ({"num_test": 12}, "--nb_smpls_eval must be at most 11"),
        ({"num_classes": 5}, r"must be 1 to 5 \(--nb_classes\). Received: .* in record 0 of"),
    ],
)
def test_more_than_there_is_is_an_error_at_once(good, options, message):
    with pytest.raises(InputError, match=message):
        load(good, **options)


def test_compressed_files_are_an_error_at_once(tmp_path):
    write_part(tmp_path, "train", examples(4), 1, "GZIP")
    write_part(tmp_path, "validation", examples(4), 1)
    with pytest.raises(InputError, match="must not be compressed. Received: .*train-00000-of-00001, which is GZIP"):
        load(tmp_path)
