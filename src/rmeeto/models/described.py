"""A model that has not been built: what is known of it from its name or folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rmeeto.config import DynamicConfig, Sizes
from rmeeto.errors import CheckpointError
from rmeeto.models import checkpoint


@dataclass(frozen=True)
class Description:
    """A model that has not been built.

    name: of the zoo or a family, or the one it was saved under. config: its sizes. reduction: the line saved with it.
    folder: where it was saved; None for a named model. pretrained: address of a named model's weights, if they exist.
    dynamic: the shares that a Dynamic Vision Mamba has learned to run. class_names: saved with it, by label.
    """

    name: str
    config: Sizes
    reduction: str | None = None
    folder: Path | None = None
    pretrained: str | Path | None = None
    dynamic: DynamicConfig | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def family(self) -> str:
        """Name of the model's family, a key of :data:`rmeeto.models.family.FAMILIES`."""
        return self.config.family if self.dynamic is None else self.dynamic.family

    def weights(self, given: str | Path | None, *, pretrained: bool) -> Path | None:
        """The file or folder of the weights: the given ones, a saved model's own, or the published ones if wanted.

        Returns None if the model is to start with fresh weights.

        Raises:
            CheckpointError: nothing there, or no published weights for this model.
        """
        if given is not None:
            return checkpoint.resolve(given)
        if self.folder is not None:
            return self.folder
        if not pretrained:
            return None
        if self.pretrained is None:
            raise CheckpointError(
                f"build a pretrained {self.name}",
                why="no weights have been published for it",
                fix="pass weights=FILE, or leave pretrained out",
            )
        return checkpoint.resolve(self.pretrained)
