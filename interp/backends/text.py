"""A text encoder that is there already, as audiocraft's conditioner."""

from __future__ import annotations

from typing import Any

import torch

from interp.backends.audiocraft import T5Conditioner, TextConditioner, TorchAutocast

__all__ = ["TextEncoder"]


class TextEncoder(T5Conditioner):  # type: ignore[misc]  # audiocraft is untyped
    """audiocraft's T5 conditioner around a T5 and a tokenizer that are there already.

    Parameters
    ----------
    t5 : transformers T5EncoderModel
        Frozen; no part of the LM's state dict, as audiocraft has it.
    tokenizer : transformers tokenizer
    output_dim : int
        Width of the LM.
    """

    def __init__(self, t5: Any, tokenizer: Any, output_dim: int) -> None:
        TextConditioner.__init__(self, t5.config.hidden_size, output_dim)
        self.name = str(t5.config.name_or_path or "t5")
        self.device = "cpu"
        self.finetune, self.word_dropout, self.normalize_text = False, 0.0, False
        self.autocast = TorchAutocast(enabled=False)
        self.t5_tokenizer = tokenizer
        self.__dict__["t5"] = t5.eval().requires_grad_(False)

    def move(self, device: torch.device) -> None:
        """Take T5 along to a device; in float32, whatever the LM's dtype."""
        self.device = str(device)
        self.__dict__["t5"] = self.t5.to(device)
