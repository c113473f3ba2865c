"""What a study works with: the model, labelled music, a judge, activations, sounds to continue and to compare with."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

import interp
from interp._files import slug
from interp.clips import Clips
from interp.errors import DataError
from interp.study.cache import fingerprint_of_code
from interp.study.config import Common
from interp.traits import Trait

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from interp.judges import Judge
    from interp.model import MusicGen
    from interp.validation import Setting

__all__ = ["RENDERED", "Material", "content_of", "held_back"]

C = TypeVar("C", bound=Common)
RENDERED = "rendered"
SHIPPED = "tiny"


class Material(Generic[C]):
    """What every :class:`interp.study.Study` has at hand; everything is made or loaded when it is first asked for.

    Attributes
    ----------
    config : dataclass
    progress : bool
        Whether progress bars are shown.
    traits : tuple of Trait
        Of ``config.traits``.
    """

    kept_apart: ClassVar[float] = 0.0
    """Share of a folder's groups that is kept from the probes, to be continued and compared with (:attr:`sounds`)."""
    panel: ClassVar[bool] = False
    """Whether several judges may listen (:attr:`judges`), each of whom is reported; the first one decides."""

    config: C
    progress: bool
    traits: tuple[Trait, ...]

    @property
    def judged(self) -> Sequence[Trait]:
        """What the judge is asked for; refused before any work if it cannot hear it."""
        return self.traits

    @functools.cached_property
    def code(self) -> str:
        """Fingerprint of the sources that the numbers come from."""
        return fingerprint_of_code(type(self))

    @functools.cached_property
    def model(self) -> MusicGen:
        """The model under study."""
        return interp.load(self.config.model)

    @property
    def rendered(self) -> bool:
        """Whether music is rendered, and not read from a folder."""
        return self.config.data is None or str(self.config.data) == RENDERED

    @property
    def judge(self) -> Judge:
        """Who listens; of several the one who decides."""
        return self.judges[0]

    @functools.cached_property
    def judges(self) -> list[Judge]:
        """All who listen."""
        from interp.judges.registry import panel

        c = self.config
        if c.data is None and c.model != SHIPPED and not Path(c.model).exists():
            raise _no_music(c.model)  # of a model of the hub: said before it is fetched
        data = None if self.rendered else self.clips
        if "," in c.judge and not self.panel:
            raise DataError(f"this study has one judge, not {c.judge}: name the one who decides.")
        return panel(c.judge, model=self.model, data=data, traits=self.judged)

    @functools.cached_property
    def _all_clips(self) -> Clips:
        c = self.config
        if c.data is not None and not self.rendered:
            return Clips.from_folder(c.data)
        from interp.judges.registry import makes_rendered_music

        if c.data is None and not makes_rendered_music(self.model):
            raise _no_music(self.model.name)
        from interp.data import render_clips

        return render_clips(c.n_clips, seed=c.seed, progress=self.progress)

    @functools.cached_property
    def _apart(self) -> NDArray[np.bool_]:
        if self.rendered or not self.kept_apart:
            return np.zeros(len(self._all_clips), dtype=bool)
        return held_back(self._all_clips, self.config.seed, self.kept_apart)

    @functools.cached_property
    def clips(self) -> Clips:
        """Labelled music that the probes hear."""
        return self._all_clips.subset(~self._apart) if self._apart.any() else self._all_clips

    @functools.cached_property
    def sounds(self) -> Clips | None:
        """Music of the folder that the probes never hear, to be continued; None where prompts are rendered."""
        return self._all_clips.subset(self._apart) if self._apart.any() else None

    def activations(
        self,
        sites: str | Sequence[str] = "heads, resid",
        *,
        clips: Clips | None = None,
        name: str = "",
        **settings: Any,
    ) -> xr.Dataset:
        """Activations of the clips, from a store beside the cache that a stopped run goes on filling.

        Parameters
        ----------
        sites, **settings
            As in :func:`interp.extract`.
        clips : Clips, optional
            Other clips than :attr:`clips`.
        name : str
            Of the store; by default it says which clips and sites are in it.
        """
        c = self.config
        chosen = self.clips if clips is None else clips
        content = f"rendered-{c.seed}-{c.n_clips}" if clips is None and self.rendered else content_of(chosen)
        parts = [self.model.fingerprint[:12], self.code, name or slug(str(sites)), content]
        store = c.out / ".cache" / f"{'-'.join(parts)}.zarr"
        store.parent.mkdir(parents=True, exist_ok=True)
        return interp.extract(self.model, chosen, sites=sites, out=store, progress=self.progress, **settings)

    def setting(self, **differs: Any) -> Setting:
        """How the study's music is made and heard (:class:`interp.validation.Setting`), with what differs."""
        from interp.validation import Setting

        c = self.config
        settings = {"seconds": c.seconds, "prompt_seconds": c.prompt_seconds, "guidance": c.guidance}
        return Setting(**{**settings, "progress": self.progress, **differs})

    def prompts(
        self,
        trait: str | Trait | None,
        n: int,
        *,
        present: bool = False,
        seed: int | None = None,
        taken: int = 0,
        seconds: float | None = None,
    ) -> list[torch.Tensor]:
        """Sounds to continue that no probe heard: of the folder, or rendered.

        Parameters
        ----------
        trait : str, Trait or None
            What they lack; None for music of all kinds.
        n : int
            How many.
        present : bool
            They have it instead.
        seed : int, optional
            Of the rendering; the study's when not given.
        taken : int
            How many of a folder's sounds, which do not change with the seed, other parts of the study take.
        seconds : float, optional
            Of each that is heard; ``prompt_seconds`` when not given.

        Returns
        -------
        list of Tensor
            Codes ``[codebooks, frames]``.

        Raises
        ------
        DataError
            If there are too few such sounds, or one is shorter.
        """
        from interp.validation.sounds import PROMPTS, draw, encode

        seconds = self.config.prompt_seconds if seconds is None else seconds
        first = 0 if self.sounds is None else taken
        start = (self.config.seed if seed is None else seed) + PROMPTS
        clips = draw(trait, first + n, seconds, present=present, seed=start, clips=self.sounds)
        return encode(self.model, clips, seconds)[first:]

    def reference_embeddings(
        self,
        trait: str | Trait | None,
        n: int,
        *,
        present: bool = True,
        seconds: float | None = None,
        clips: Clips | None = None,
    ) -> NDArray[np.float32] | None:
        """The judge's embeddings of music that what is generated is compared with, ``[clips, dim]``.

        Parameters
        ----------
        trait : str, Trait or None
            What the music has (lacks, if not ``present``); None for music of all kinds.
        n : int
            Clips, at most.
        present : bool
        seconds : float, optional
            Of each; as much as is generated beyond the prompt when not given.
        clips : Clips, optional
            Where it is taken from; :attr:`sounds` when not given, else rendered.

        Returns
        -------
        array of shape (clips, dim), or None
            None where the judge has no embedding.
        """
        from interp.judges import embed
        from interp.judges.base import has_embedding
        from interp.validation.sounds import reference_sounds

        if not has_embedding(self.judge):
            return None
        seconds = self.config.seconds - self.config.prompt_seconds if seconds is None else seconds
        music = reference_sounds(
            self.model, trait, n, seconds, present=present, seed=self.config.seed,
            clips=self.sounds if clips is None else clips,
        )  # fmt: skip
        return embed(self.judge, music, self.model.sample_rate)

    def recorded(self, sounds: Mapping[str, tuple[str, NDArray[np.floating]]]) -> pd.DataFrame:
        """Write sounds to ``out/audio``, for :meth:`interp.study.Study.recordings`.

        Parameters
        ----------
        sounds : mapping of str to (str, array of shape (takes, channels, samples))
            Column -> the beginning of its files' names, and the sounds.

        Returns
        -------
        DataFrame
            One row a take, as many as every column has; paths of files.
        """
        from interp.data.audio import write_audio

        takes = min((len(audio) for _, audio in sounds.values()), default=0)
        rows = [
            {
                name: write_audio(self.config.out / "audio" / f"{stem}_{i}.wav", audio[i], self.model.sample_rate)
                for name, (stem, audio) in sounds.items()
            }
            for i in range(takes)
        ]
        return pd.DataFrame(rows)


def _no_music(model: str) -> DataError:
    return DataError(
        f"{model} needs labelled music: give --data FOLDER, or say --data rendered for music like that of the model "
        "that ships."
    )


def held_back(clips: Clips, seed: int, share: float = 0.3) -> NDArray[np.bool_]:
    """Which clips of a folder are kept from the probes: whole groups, bool ``[clips]``.

    Examples
    --------
    >>> clips = Clips.from_arrays([np.zeros((1, 8), np.float32)] * 6, 16_000, pd.DataFrame({"group": list("aabbcc")}))
    >>> held_back(clips, 0).sum()
    np.int64(2)
    """
    groups = clips.labels["group"].astype(str).to_numpy() if "group" in clips.labels else np.asarray(clips.ids)
    names = np.unique(groups)
    kept = np.random.default_rng([seed, 6]).permutation(names)[: max(1, round(share * len(names)))]
    return np.isin(groups, kept)


def content_of(clips: Clips) -> str:
    """Sixteen hexadecimal digits of the audio and the labels of clips, in their order."""
    digest = hashlib.sha256(clips.labels.to_csv().encode())
    for i in range(len(clips)):
        digest.update(clips.key(i).encode())
    return digest.hexdigest()[:16]
