"""A mechanistic-interpretability toolkit for MusicGen: trace, probe, compare directions, steer, judge."""

from __future__ import annotations
