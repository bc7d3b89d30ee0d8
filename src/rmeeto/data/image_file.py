"""One image file, decoded fully within bounds of memory, or the reason why not."""

from __future__ import annotations

import os
import warnings

from PIL import Image, UnidentifiedImageError

from rmeeto.files.paths import open_file


class UnreadableImage(OSError):
    """An image that cannot be decoded, and why."""


def read_image_file(path: str | os.PathLike[str]) -> Image.Image:
    """Decode a file in whatever mode it is stored; of an animation the first frame.

    Raises:
        One of :data:`rmeeto.data.samples.UNREADABLE`: missing, not a regular file, empty, no image, truncated, or of
        more pixels than Pillow thinks safe (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    with open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that is not read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if not os.fstat(file.fileno()).st_size:
            raise UnreadableImage("the file is empty")
        try:
            with Image.open(file) as image:
                image.load()
        except UnidentifiedImageError:
            raise UnreadableImage("cannot identify image file: it is no image, or its beginning is damaged") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            limit = f"{Image.MAX_IMAGE_PIXELS:,}"
            raise UnreadableImage(f"more than {limit} pixels, which Pillow takes for an attack; shrink it") from None
    return image
