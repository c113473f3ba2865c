"""What :func:`interp.steering.generate` returns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import SiteError
from interp.model import MusicGen
from interp.sites import Kind, Site

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from interp.steering._jobs import Row

__all__ = ["Generation"]

_DECODE = 32


@dataclass(frozen=True, eq=False)
class Generation:
    """Generated music and the record of how it came about.

    Attributes
    ----------
    codes : Tensor
        Long ``[rows, codebooks, frames]``, audio prompts included.
    rows : tuple of Row
        What was asked for.
    log : DataFrame
        One line for each row, intervention and half (``cond``, ``uncond``): description, number of sites, calls and
        positions edited, first and last step and second, mean and largest displacement (L2 over all sites, raw
        units), guidance. A zero strength has a line with no call.
    monitor : DataFrame
        For self-monitored rows, one line a step: what was read (``C``), what the decision at this step was based on
        (``decided_on``, NaN where the schedule does not act), ``tau``, the ``factor`` applied and whether it
        ``acted``; ``clean`` is false where readings hold the same step's edits (see
        :mod:`interp.steering.interventions.smitin`).
    captured : dict of Site to list of Tensor
        For each captured site and row, ``[halves, frames, dim]``; read it with :meth:`activation`.
    pooled : dict of kind to list of Tensor
        For each kind of captured site and row, ``[halves, vectors, sites, dim]``; read it with :meth:`activations`.
    edits : list
        Row, intervention, half, positions, displacements: see :meth:`calls`.
    settings : dict
        Options of the run.
    """

    model: MusicGen
    codes: Tensor
    rows: tuple[Row, ...]
    log: pd.DataFrame
    monitor: pd.DataFrame
    captured: Mapping[Site, list[Tensor]]
    edits: list[tuple[int, int, str, Any, Any]]
    settings: Mapping[str, Any]
    pooled: Mapping[Kind, list[Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    @functools.cached_property
    def audio(self) -> Tensor:
        """The sound, float32 ``[rows, channels, samples]`` on the CPU; decoded when it is first asked for."""
        return torch.cat([self.model.decode(self.codes[i : i + _DECODE]) for i in range(0, len(self), _DECODE)])

    @property
    def sample_rate(self) -> int:
        """Of :attr:`audio`, in Hz."""
        return self.model.sample_rate

    def activation(self, site: Site | str, half: Literal["cond", "uncond"] = "cond") -> Tensor:
        """Captured activations of a site, float32 ``[rows, frames, dim]``, as later layers saw them.

        Entry t is the activation at the position that writes frame t of the first codebook, so the first generated
        frame of a row is entry ``row.prompt_frames``; this is what :class:`~interp.steering.interventions.Swap` takes
        with ``first=-row.prompt_frames``.

        Raises
        ------
        SiteError
            If the site was not captured, or there are no unconditional rows.
        """
        site = Site.parse(site)
        if site not in self.captured:
            raise SiteError(f"{site} was not captured: name it in generate(..., capture=...).")
        if half == "uncond" and self.settings.get("guidance") is None:
            raise SiteError("there are no unconditional rows without guidance.")
        # rows whose halves are identical were run once
        return torch.stack([x[min(len(x) - 1, int(half == "uncond"))] for x in self.captured[site]])

    def activations(
        self,
        half: Literal["cond", "uncond"] = "cond",
        labels: pd.DataFrame | None = None,
        out: str | Path | None = None,
    ) -> xr.Dataset:
        """What was pooled while generating, in the form of :func:`interp.activations.extract`: ready to be probed.

        For conditional rows without interventions this is what extraction gives for the generated codes under the same
        prompts. Conditional and unconditional rows are never in one dataset.

        Parameters
        ----------
        half : {"cond", "uncond"}
            Which rows. Rows whose halves are identical were run once and are the same in both.
        labels : DataFrame, optional
            A row for each row of music, such as what judges heard; ``prompt``, ``seed`` and ``group`` (rows of one seed
            share their noise) are there already, and are replaced by columns of the same name.
        out : str or Path, optional
            Folder of a store to write, which :func:`interp.open_store` reads; None keeps it in memory.

        Returns
        -------
        Dataset
            Dimension ``clip`` is the rows, ``row-00000``, ...; ``made_by`` says that it was captured, and which half.

        Raises
        ------
        SiteError
            If nothing was pooled (``generate(..., capture=..., pool=...)``), or there are no unconditional rows.
        DataError, StoreError
            If labels do not fit, or the store was made by something else.
        """
        from interp.steering._dataset import captured_dataset

        return captured_dataset(self, half, labels, out)

    def calls(self) -> pd.DataFrame:
        """One line for each row, intervention, half and edited position: step, second, displacement."""
        rate = self.model.frame_rate
        parts = [
            pd.DataFrame(
                {
                    "row": row,
                    "intervention": index,
                    "half": half,
                    "step": positions - self.rows[row].prompt_frames,
                    "seconds": np.asarray(positions) / rate,
                    "displacement": moved,
                }
            )
            for row, index, half, positions, moved in self.edits
            if len(positions)
        ]
        if not parts:
            return pd.DataFrame(columns=["row", "intervention", "half", "step", "seconds", "displacement"])
        return pd.concat(parts, ignore_index=True)
