"""Wavelet features as a module of PyTorch, for models that are made of modules."""

from __future__ import annotations

from typing import Any

import torch

from oectflow.extractors.prompts import DWTPromptGenerator


class DWTPromptModule(torch.nn.Module):
    """A :class:`DWTPromptGenerator` as a layer without weights.

    Features are computed on the processor and carry no gradient.

    Parameters
    ----------
    **options
        Options of :class:`DWTPromptGenerator`.

    Attributes
    ----------
    generator
        That generator.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.generator = DWTPromptGenerator(**options)

    def forward(self, x: Any) -> list[dict[str, Any]]:
        """Return the features of a batch as tensors on its device, one dict for each entry."""
        return [
            {name: torch.as_tensor(values, device=x.device) for name, values in entry.items()}
            for entry in self.generator(x)
        ]
