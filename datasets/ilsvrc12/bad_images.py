"""Images that are no whole JPEG: what can be mended is, and what cannot is named and counted."""

import io
import sys
import threading
import warnings

from PIL import Image, UnidentifiedImageError

from utils.errors import InputError
from utils.printing import printable

# What a .JPEG may really hold. Not all that Pillow reads: some of its formats start other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"
_MOST_BYTES_AFTER_END = 64
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # markers among those of frames that begin something else


class BadImageError(Exception):
    """An image cannot be decoded; says why."""


class BadImages:
    """The images that could not be decoded, each named once.

    Args:
        skip: whether to go on without them; otherwise the first one is an InputError.
        quiet: whether to count them only.
    """

    def __init__(self, skip: bool, quiet: bool):
        self._skip, self._quiet = skip, quiet
        self._names: set[str] = set()
        self._lock = threading.Lock()  # batches are made side by side

    @property
    def names(self) -> list[str]:
        """Of those met up to now, sorted."""
        with self._lock:
            return sorted(self._names)

    def tell(self, name: str, reason: str) -> None:
        """Counts and names an image.

        Raises:
            InputError: images must not be skipped.
        """
        told = f"an image cannot be decoded: {name} ({reason})"
        if not self._skip:
            raise InputError(f"{told}. --skip_bad_images goes on without such images")
        with self._lock:
            is_new = name not in self._names
            self._names.add(name)
        if is_new and not self._quiet:
            print(printable(f"warning: {told}; it is left out"), file=sys.stderr, flush=True)


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG that is not cut short; None of anything else.

    A JPEG cut short must not reach TensorFlow, which decodes its upper parts and refuses the lower ones.
    """
    if encoded[:2] != _BEGIN or encoded.rfind(_END, max(0, len(encoded) - _MOST_BYTES_AFTER_END)) < 0:
        return None
    position = 2
    while position + 9 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            height = int.from_bytes(encoded[position + 5 : position + 7], "big")
            width = int.from_bytes(encoded[position + 7 : position + 9], "big")
            return (height, width) if height and width else None
        position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    return None


def reencode(encoded: bytes) -> bytes:
    """Any picture that Pillow can decode as an RGB JPEG of the best quality.

    Raises:
        BadImageError: it cannot.
    """
    output = io.BytesIO()
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            warnings.simplefilter("ignore")
            image.convert("RGB").save(output, "JPEG", quality=100, subsampling=0)
    except UnidentifiedImageError as error:
        raise BadImageError("not a picture") from error
    except Exception as error:  # A damaged file makes Pillow fail in any way: struct.error, SyntaxError, ...
        raise BadImageError(str(error) or type(error).__name__) from error
    return output.getvalue()
