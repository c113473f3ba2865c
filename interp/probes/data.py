"""What is probed: activations, labels and groups of the same clips, with the unlabelled ones left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.directions.reading import Stack, check_finite, clip_groups, fingerprint, label_table, read_stacks
from interp.errors import DataError
from interp.pooling import choose_pool
from interp.sites import Site
from interp.traits import Labels, Trait, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ProbeData"]


@dataclass(frozen=True)
class ProbeData:
    """Activations, labels and groups of the labelled clips.

    Attributes
    ----------
    stacks : list of Stack
        Activations of the labelled clips, a stack for each kind of site: ``x`` of shape (sites, clips, dim), finite.
    labels : Labels
        ``labels.y`` has one entry a labelled clip.
    groups : array of shape (clips,)
        Clips of one group never straddle a split.
    clips : array of str, shape (clips,)
        Ids.
    model, pool : str
        Fingerprint of the checkpoint and the pooling, for the record.
    """

    stacks: list[Stack]
    labels: Labels
    groups: NDArray[np.generic]
    clips: NDArray[np.str_]
    model: str = ""
    pool: str = ""

    @classmethod
    def of(
        cls,
        ds: xr.Dataset,
        trait: str | Trait | Labels,
        *,
        sites: str | Site | Iterable[str | Site] = "heads",
        pool: str | None = None,
        kind: TraitKind | None = None,
        group_by: str | None = None,
    ) -> ProbeData:
        """Read the chosen sites of a dataset and the labels of a trait.

        Parameters
        ----------
        ds : xarray.Dataset
            Activations with labels, from :func:`interp.activations.extract`.
        trait : str, Trait or Labels
            As for :func:`interp.probes.probe`; labels that were read already (one a clip of the dataset) are taken.
        sites, pool
            As for :func:`interp.probes.probe`.
        kind : {"binary", "categorical", "graded"}, optional
            What the labels are, where it cannot be seen.
        group_by : str, optional
            Label column whose values are the groups, in place of the column ``group``.

        Raises
        ------
        DataError
            If a label or column is missing, or activations are not finite.
        SiteError
            If a site is not in the dataset.
        """
        table = label_table(ds)
        labels = trait if isinstance(trait, Labels) else Trait.parse(trait).read(table, kind)
        if group_by is not None and group_by not in table:
            raise DataError(f"no label column {group_by!r} to group by: there are {', '.join(table.columns)}.")
        groups = clip_groups(ds) if group_by is None else table[group_by].astype(str).to_numpy(dtype=str)
        return cls.from_arrays(
            read_stacks(ds, sites, pool),
            labels,
            groups,
            clips=np.asarray(ds["clip"].values).astype(str),
            model=fingerprint(ds),
            pool=choose_pool(ds["pool"].values, pool),
        )

    @classmethod
    def from_arrays(
        cls,
        stacks: Sequence[Stack],
        labels: Labels,
        groups: ArrayLike,
        *,
        clips: ArrayLike | None = None,
        model: str = "",
        pool: str = "",
    ) -> ProbeData:
        """Put plain arrays together; all describe the same clips, labelled or not.

        Raises
        ------
        DataError
            If they differ in their number of clips, or an activation of a labelled clip is not finite.
        """
        groups, keep = np.asarray(groups), labels.keep
        ids = np.arange(len(keep)).astype(str) if clips is None else np.asarray(clips).astype(str)
        sizes = {"groups": len(groups), "clip ids": len(ids), **{stack.kind: stack.x.shape[1] for stack in stacks}}
        for name, size in sizes.items():
            if size != len(keep):
                raise DataError(f"{len(keep)} labels but {size} {name}: give one for each clip.")
        kept = [Stack(s.kind, s.sites, s.x if keep.all() else s.x[:, keep]) for s in stacks]
        for stack in kept:
            check_finite(stack.x, stack.sites, ids[keep])
        return cls(kept, labels, groups[keep], ids[keep], model, pool)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of all stacks, in their order."""
        return tuple(site for stack in self.stacks for site in stack.sites)
