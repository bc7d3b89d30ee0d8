"""What kinds of files a source may be made of, told apart by their endings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of file. one, many: its name in messages. example: a file name of that kind."""

    one: str
    many: str
    example: str
    extensions: tuple[str, ...]

    def fits(self, name: str) -> bool:
        """Whether a file name has one of the endings; hidden files are left by other programs and do not."""
        return name.lower().endswith(self.extensions) and not name.startswith(".")


IMAGES = Kind(
    "an image",
    "images",
    "*.jpg",
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
)
CLIPS = Kind(
    "a clip",
    "clips",
    "*.mp4",
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv"),
)
