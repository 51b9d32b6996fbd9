import io
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import own_memory, own_pictures
from datasets.own_folders import read_folders
from datasets.own_pictures import Picture, decode, decode_pictures
from tests.own_data_files import picture, png, write_picture
from utils.errors import InputError


def encoded(image, kind="PNG", **options):
    """A Pillow image as a picture."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return Picture("some picture", content.getvalue())


def random_pixels(height, width, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng([height, width]).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("mode", "channels"), [("rgb", 3), ("grayscale", 1), ("rgba", 4)])
def test_images_are_those_of_keras_image_dataset_from_directory(tmp_path, mode, channels):
    sizes = [(9, 13), (30, 7), (5, 5), (12, 16), (64, 50)]
    for number, (height, width) in enumerate(sizes):
        pixels = random_pixels(height, width, channels)
        write_picture(tmp_path / f"class{number % 2}" / f"{number}.png", pixels.reshape(height, width, channels))
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(12, 16), color_mode=mode, shuffle=False, batch_size=None, verbose=False
    )
    source = read_folders(str(tmp_path))
    pictures = source.samples["train"]
    assert (list(source.class_names), [p.name for p in pictures]) == (theirs.class_names, theirs.file_paths)
    options = tf.data.Options()
    options.autotune.enabled = False
    images, labels = (
        np.stack(values) for values in zip(*theirs.with_options(options).as_numpy_iterator(), strict=True)
    )
    ours, kept = decode_pictures(pictures, (12, 16, channels), quiet=True)
    assert (ours.dtype, kept.tolist()) == (np.uint8, [0, 1, 2, 3, 4])
    assert np.abs(ours - images).max() <= 0.5
    np.testing.assert_array_equal(source.labels["train"], labels)


def test_a_picture_of_the_right_size_is_left_as_it_is():
    pixels = random_pixels(6, 5)
    ours, _ = decode_pictures([Picture("a", png(pixels))], (6, 5, 3), quiet=True)
    np.testing.assert_array_equal(ours[0], pixels)


def test_an_image_halved_by_hand():
    # Without antialias the samples lie between pixels 0 and 1, and between 2 and 3.
    pixels = np.uint8([[0, 11, 100, 200]] * 2)[..., None]
    ours, _ = decode_pictures([Picture("a", png(pixels))], (1, 2, 1), quiet=True)
    assert ours[0, 0, :, 0].tolist() == [6, 150]  # 5.5 goes to the even neighbour


def test_pictures_lie_in_their_order_however_many_there_are():
    pictures = [Picture(str(number), png(picture(1, number))) for number in range(101)]
    images, kept = decode_pictures(pictures, (4, 6, 3), quiet=True)
    assert images[:, 0, 1, 0].tolist() == kept.tolist() == list(range(101))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation):
    pixels = random_pixels(3, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    # How the camera held it: the upright picture is what these make of the stored one.
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), exif=exif), 3), upright)


def test_sixteen_bits_are_cut_to_the_upper_eight():
    values = np.uint16([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]])
    decoded = decode(encoded(Image.fromarray(values)), 1)
    assert decoded[..., 0].tolist() == [[0, 0, 1], [0x12, 0x80, 0xFF]]
    assert (decode(encoded(Image.fromarray(values)), 3) == decoded).all()


def test_colours_become_what_the_network_wants():
    grey = Image.fromarray(np.uint8([[7, 200]]))
    assert decode(encoded(grey), 3).tolist() == [[[7] * 3, [200] * 3]]
    assert decode(encoded(grey), 4).tolist() == [[[7] * 3 + [255], [200] * 3 + [255]]]
    transparent = Image.fromarray(np.uint8([[[10, 20, 30, 0], [40, 50, 60, 128]]]))
    assert decode(encoded(transparent), 3).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decode(encoded(transparent), 4).tolist() == [[[10, 20, 30, 0], [40, 50, 60, 128]]]
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert decode(encoded(red), 1).tolist() == [[[76]]]  # 0.299 of 255


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "WEBP"])
def test_other_formats_are_read(kind):
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    np.testing.assert_allclose(decode(encoded(image, kind), 3), np.full((8, 8, 3), (200, 100, 50)), atol=4)


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (2, 2), (level, level, level)) for level in (10, 90)]
    assert (decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), 3) == 10).all()


def pictures_of_which_some_are_bad(tmp_path):
    """Five pictures: good, cut short, no picture, missing, good."""
    whole = png(random_pixels(40, 40))
    write_picture(tmp_path / "4.png", random_pixels(40, 40))
    return [
        Picture("whole", whole),
        Picture("half", whole[: len(whole) // 2]),
        Picture("text", b"hello"),
        Picture(str(tmp_path / "missing.png")),
        Picture(str(tmp_path / "4.png")),
    ]


def test_all_that_cannot_be_decoded_is_counted_and_some_named(tmp_path):
    pictures = pictures_of_which_some_are_bad(tmp_path)
    message = (
        r"^3 of 5 images cannot be decoded: half \(.+\), text \(not a picture\), "
        r".*missing.png \(No such file or directory\). --own_skip_bad leaves them out$"
    )
    with pytest.raises(InputError, match=message):
        decode_pictures(pictures, (40, 40, 3), quiet=True)
    with pytest.raises(InputError, match="^4 of 6 .*and 1 more"):
        decode_pictures([Picture("more", b""), *pictures], (40, 40, 3), quiet=True)


def test_what_cannot_be_decoded_is_left_out_where_asked_and_told(tmp_path, capsys):
    images, kept = decode_pictures(pictures_of_which_some_are_bad(tmp_path), (40, 40, 3), skip_bad=True)
    assert kept.tolist() == [0, 4]
    assert (images == random_pixels(40, 40)).all()
    assert images.shape == (2, 40, 40, 3)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: 3 of 5 images cannot be decoded: half (")
    decode_pictures(pictures_of_which_some_are_bad(tmp_path), (40, 40, 3), skip_bad=True, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_decompression_bomb_cannot_be_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"1 of 2 images cannot be decoded: bomb \(.*decompression bomb"):
        decode_pictures(
            [Picture("a", png(random_pixels(5, 5))), Picture("bomb", png(random_pixels(20, 20)))], (5, 5, 3)
        )


def test_a_file_of_another_format_is_no_picture_whatever_its_name():
    with pytest.raises(InputError, match="not a picture"):
        decode_pictures([encoded(Image.new("RGB", (2, 2)), "TIFF")], (2, 2, 3), quiet=True)


def test_progress_is_told(capsys):
    decode_pictures([Picture("a", png(random_pixels(2, 2)))] * 40, (2, 2, 3))
    assert "Decoding: 100%, 40/40 images" in capsys.readouterr().err


def test_images_that_do_not_fit_into_memory_are_not_even_read(monkeypatch):
    monkeypatch.setattr(own_memory, "available_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(own_pictures, "decode", None)
    message = (
        r"10000 images of 256x256x3, held twice, need 3.7 GiB where 3.0 GiB are free; "
        r"use fewer \(--nb_smpls_train\) or smaller ones \(--own_image_size\)"
    )
    with pytest.raises(InputError, match=message):
        decode_pictures([Picture("no such file")] * 10_000, (256, 256, 3))


def test_free_memory_is_what_linux_says_it_is(monkeypatch):
    assert 2**20 < own_memory.available_memory() < 2**50
    monkeypatch.setattr("builtins.open", lambda *args, **options: io.StringIO("MemFree:  5 kB\nMemAvailable:  12 kB\n"))
    assert own_memory.available_memory() == 12 * 1024
    monkeypatch.setattr("builtins.open", lambda *args, **options: io.StringIO("MemFree:  5 kB\n"))
    assert own_memory.available_memory() is None
    own_memory.check_memory(2**60, "everything", "use less")


def test_an_interruption_stops_the_decoding(monkeypatch):
    seen = []

    def slow(picture, channels):
        seen.append(picture)
        time.sleep(0.001)
        return np.zeros((1, 1, channels), np.uint8)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(own_pictures, "decode", slow)
    monkeypatch.setattr(own_pictures.Progress, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_pictures([Picture("a")] * 100_000, (1, 1, 3), quiet=True)
    assert len(seen) < 10_000
