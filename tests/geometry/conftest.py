"""Fixtures of directions: activations with known geometry."""

from __future__ import annotations

from planted_activations import classes, dataset, rng

__all__ = ["classes", "dataset", "rng"]
