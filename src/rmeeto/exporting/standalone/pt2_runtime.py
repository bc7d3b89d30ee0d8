"""The end of ``run.py`` in a folder with a PyTorch program: PyTorch, and the command. It needs torch, not rmeeto."""

from __future__ import annotations

from typing import Any

from rmeeto.exporting.standalone.prepare import HERE, answer, parser


def load(kernels: bool) -> Any:
    """A function from a batch of inputs to logits: by plain PyTorch, or by the kernels of rmeeto."""
    import torch

    if kernels:
        import rmeeto.ops  # noqa: F401  # the operations that the program calls

    program = torch.export.load(str(HERE / ("model.pt2" if kernels else "plain.pt2"))).module()

    def run(batch: Any) -> Any:
        with torch.no_grad():
            return program(torch.from_numpy(batch))[0].numpy()

    return run


def main() -> None:
    """The command."""
    ours = parser()
    ours.add_argument("--kernels", action="store_true", help="run model.pt2 by the kernels of an installed rmeeto")
    asked = ours.parse_args()
    answer(asked, load, asked.kernels)


if __name__ == "__main__":
    main()
