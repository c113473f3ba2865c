"""A small random CLAP checkpoint in the exact layout of the hub's: a folder that ``ClapJudge`` loads."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["write_clap"]


def write_clap(folder: Path) -> Path:
    """Write model, tokenizer and feature extractor (48 kHz, 2 s) with random weights; return the folder."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        ["music with drums and bass, no piano, noise"], 300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    words.save_model(str(folder))
    tokenizer = RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    extractor = ClapFeatureExtractor(max_length_s=2, truncation="rand_trunc", padding="repeatpad")
    text = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "max_position_embeddings": 64}
    audio = {"spec_size": 128, "hidden_size": 64, "patch_embeds_hidden_size": 16, "depths": [1, 1, 1]}
    audio |= {"num_attention_heads": [2, 2, 2], "num_hidden_layers": 3, "window_size": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ClapModel(ClapConfig(projection_dim=16, text_config=text, audio_config=audio))
        for name, weight in (*model.text_model.named_parameters(), *model.text_projection.named_parameters()):
            if weight.ndim == 2:  # at the usual spread of .02 an untrained tower says the same of all words
                torch.nn.init.normal_(weight, std=0.3 if "query" in name or "key" in name else 2.0)
    model.save_pretrained(folder)
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
