"""What :func:`interp.steering.generate` returns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import DataError, SiteError
from interp.model import MusicGen
from interp.sites import Kind, Site

if TYPE_CHECKING:
    import xarray as xr

    from interp.steering.record import Edited
    from interp.steering.rows import Row

__all__ = ["Generation"]

_DECODE = 32
_SHOWN = 8

Side = Literal["cond", "uncond"]


@dataclass(frozen=True, eq=False, repr=False)
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
    settings : dict
        Options of the run.

    Examples
    --------
    >>> import interp
    >>> from interp.steering import Row, generate
    >>> music = generate(interp.load("tiny", "cpu"), Row("jazz, piano"), 0.1, engine="hooks", progress=False)
    >>> music
    <Generation: 1 row of 0.10 s by tiny, 0 interventions>
    >>> music.codes.shape
    torch.Size([1, 4, 5])
    """

    model: MusicGen
    codes: Tensor
    rows: tuple[Row, ...]
    log: pd.DataFrame
    monitor: pd.DataFrame
    settings: Mapping[str, Any]
    _captured: Mapping[Site, list[Tensor]] = field(default_factory=dict)
    _pooled: Mapping[Kind, list[Tensor]] = field(default_factory=dict)
    _edited: Edited = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        n, items = len(self), len(set(self.log["description"]))
        seconds = self.codes.shape[-1] / self.model.frame_rate
        return (
            f"<Generation: {n} {'row' if n == 1 else 'rows'} of {seconds:.2f} s by {self.model.name}, "
            f"{items} {'intervention' if items == 1 else 'interventions'}>"
        )

    def _repr_html_(self) -> str:
        lines = [
            f"<tr><th>{i}</th><td>{escape(row.prompt or '')}</td><td>{row.seed}</td>"
            f"<td>{row.prompt_frames / self.model.frame_rate:g} s</td>"
            f"<td>{escape('; '.join(item.describe() for item in row.interventions))}</td></tr>"
            for i, row in enumerate(self.rows[:_SHOWN])
        ]
        more = len(self.rows) - len(lines)
        if more > 0:
            lines.append(f"<tr><td></td><td colspan=4>and {more} more</td></tr>")
        head = "".join(f"<th>{name}</th>" for name in ("row", "prompt", "seed", "continued", "interventions"))
        return (
            f"<table><caption>{escape(repr(self)[1:-1])}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table>"
        )

    @functools.cached_property
    def audio(self) -> Tensor:
        """The sound, float32 ``[rows, channels, samples]`` on the CPU; decoded when it is first asked for."""
        return torch.cat([self.model.decode(self.codes[i : i + _DECODE]) for i in range(0, len(self), _DECODE)])

    @property
    def sample_rate(self) -> int:
        """Of :attr:`audio`, in Hz."""
        return self.model.sample_rate

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites that were captured in full, see :meth:`captured`."""
        return tuple(self._captured)

    def captured(self, site: Site | str, half: Side = "cond") -> Tensor:
        """Activations of a site at every position that was fed, as later layers saw them.

        Returns
        -------
        Tensor
            Float32 ``[rows, positions, dim]`` on the CPU. Entry t is the activation at the position that writes frame
            t of the first codebook, so the first generated frame of a row is entry ``row.prompt_frames``; the last
            entries, one less than there are codebooks, finish the delayed ones. This is what
            :class:`~interp.steering.Swap` takes with ``first=-row.prompt_frames``.

        Raises
        ------
        SiteError
            If the site was not captured, or there are no unconditional rows.
        """
        site = Site.parse(site)
        if site not in self._captured:
            raise SiteError(f"{site} was not captured: name it in generate(..., capture=...).")
        self._check_half(half)
        return torch.stack([_of_half(x, half) for x in self._captured[site]])

    def to_dataset(
        self, half: Side = "cond", labels: pd.DataFrame | None = None, out: str | Path | None = None
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
        from interp._manifest import describe, digest
        from interp._store import keep

        if not self._pooled:
            raise SiteError(
                "nothing was pooled while generating: name sites and pooling, generate(..., capture=, pool=)."
            )
        self._check_half(half)
        arrays = {kind: np.stack([_of_half(x, half).numpy() for x in rows]) for kind, rows in self._pooled.items()}
        sites = {kind: [site for site in self.settings["capture"] if site.kind == kind] for kind in arrays}
        prompts = [row.prompt for row in self.rows]
        info = {k: v for k, v in self.settings.items() if k not in ("capture", "pool", "pool_names")}
        header = describe(
            self.model, self._labels(labels), sites, self.settings["pool_names"],
            pool=list(self.settings["pool"]),
            text=prompts[0] if len(set(prompts)) == 1 else digest(prompts),
            clips={"number": len(self), "codes": digest(self.codes.tolist())},
            captured={"while": "generating", "half": half},
            info=info,
        )  # fmt: skip
        if out is None:
            dims = {kind: ("clip", "pool", f"{kind}_site", f"{kind}_dim") for kind in arrays}
            return header.assign({kind: (dims[kind], array) for kind, array in arrays.items()})
        keys = [
            digest([number, codes.tolist(), row.prompt, row.seed, info, [p.describe() for p in row.interventions]])
            for number, codes, row in zip(range(len(self)), self.codes, self.rows, strict=True)
        ]
        return keep(out, header, keys, arrays)

    def _check_half(self, half: str) -> None:
        if half not in ("cond", "uncond"):
            raise SiteError(f"there is no half {half!r}: it is 'cond' or 'uncond'.")
        if half == "uncond" and self.settings.get("guidance") is None:
            raise SiteError("there are no unconditional rows without guidance.")

    def _labels(self, labels: pd.DataFrame | None) -> pd.DataFrame:
        """Prompt, seed and what is added, a row each; rows of one seed, which share their noise, are one group."""
        n = len(self)
        if labels is not None and len(labels) != n:
            raise DataError(f"there are {n} rows of music but {len(labels)} rows of labels: give one a row.")
        table = pd.DataFrame(
            {
                "prompt": np.array([row.prompt or "" for row in self.rows], object),
                "seed": [row.seed for row in self.rows],
                "group": [f"seed-{row.seed}" for row in self.rows],
            },
            index=pd.Index([f"row-{i:05d}" for i in range(n)], name="clip"),
        )
        if labels is not None:
            for name in labels.columns:
                table[str(name)] = labels[name].to_numpy()
        table["group"] = table["group"].astype(str)
        return table

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
            for row, index, half, positions, moved in self._edited
            if len(positions)
        ]
        if not parts:
            return pd.DataFrame(columns=["row", "intervention", "half", "step", "seconds", "displacement"])
        return pd.concat(parts, ignore_index=True)


def _of_half(x: Tensor, half: str) -> Tensor:
    """One half of ``[halves, ...]``; rows whose halves are identical were run once."""
    return x[min(len(x) - 1, int(half == "uncond"))]
