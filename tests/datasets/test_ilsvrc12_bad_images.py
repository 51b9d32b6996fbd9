import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.ilsvrc12.bad_images import BadImageError, BadImages, jpeg_size, reencode
from tests.ilsvrc12_files import corrupt, encode, jpeg, pixels, truncated
from utils.errors import InputError


@pytest.mark.parametrize("size", [(20, 30), (1, 40), (300, 2)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "exif": b"Exif\0\0\xff\xd9 more"}])
def test_the_size_of_a_jpeg_is_read_from_its_header(size, options):
    content = encode(pixels(1, *size), **options)
    assert jpeg_size(content) == size
    # Fill bytes before a marker, and some bytes after the end, are allowed.
    assert jpeg_size(content[:2] + b"\xff\xff" + content[2:] + b"\0\0") == size


def test_grey_and_cmyk_jpegs_are_jpegs():
    image = Image.fromarray(pixels(1, 20, 30))
    assert jpeg_size(encode(image.convert("L"))) == jpeg_size(encode(image.convert("CMYK"))) == (20, 30)


def test_what_is_no_whole_jpeg_has_no_size():
    whole = jpeg(0)
    for content in (b"", b"text", encode(pixels(1, 20, 30), "PNG"), truncated(0), whole[:-2], b"\xff\xd8\xff\xd9"):
        assert jpeg_size(content) is None
    start = whole.index(b"\xff\xc0")
    assert jpeg_size(whole[: start + 5] + b"\0\0" + whole[start + 7 :]) is None  # a height of 0


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_pictures_of_other_kinds_become_jpegs(kind):
    mended = reencode(encode(Image.new("RGB", (30, 20), (200, 100, 50)), kind))
    assert jpeg_size(mended) == (20, 30)
    decoded = tf.io.decode_jpeg(mended).numpy()
    np.testing.assert_allclose(decoded, np.full((20, 30, 3), (200, 100, 50)), atol=4)


@pytest.mark.parametrize("content", [b"", b"text", truncated(3), corrupt(3), encode(pixels(1, 9, 9), "TIFF")])
def test_what_cannot_be_decoded_says_so(content):
    with pytest.raises(BadImageError, match="."):
        reencode(content)


def test_bad_images_are_named_once_and_counted(capsys):
    bad = BadImages(skip=True, quiet=False)
    for name in ("b", "a", "b"):
        bad.tell(name, "not a picture")
    assert bad.names == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == [
        "warning: an image cannot be decoded: b (not a picture); it is left out",
        "warning: an image cannot be decoded: a (not a picture); it is left out",
    ]
    quiet = BadImages(skip=True, quiet=True)
    quiet.tell("a", "not a picture")
    assert (quiet.names, capsys.readouterr().err) == (["a"], "")


def test_a_bad_image_is_an_error_unless_it_may_be_skipped():
    message = r"^an image cannot be decoded: record 1 of x \(why\). --skip_bad_images goes on without such images$"
    with pytest.raises(InputError, match=message):
        BadImages(skip=False, quiet=True).tell("record 1 of x", "why")
