"""MusicGen, seen from inside: its LM under nnsight, with its codec and its text conditioning.

::

    model = interp.load("tiny")
    with model.trace(audio=audio, sample_rate=16000, text="jazz, piano"):
        drums = model.heads[3][:, :, 5].save()     # [rows, positions, head_dim]
        model["L4.H2"] = 0                         # later layers see the head ablated
        logits = model.output.save()               # [rows, codebooks, positions, cardinality]

See :mod:`interp.tracing` for what a trace can do; in a program, :meth:`MusicGen.predict` runs one forward pass over
music that reads sites and calls functions at places, and everything else in the toolkit goes through it.
"""

from __future__ import annotations

import contextlib
import functools
import html
import math
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.backends import audiocraft as seam
from interp.backends.audiocraft import AudiocraftMusicGen, CompressionModel, ConditionTensors
from interp.backends.devices import codec_device, device_named, dtype_named, full_precision
from interp.clips import Clip
from interp.errors import ClipError, ModelError
from interp.sites import Site
from interp.tracing import Forward, Texts, TracedLM, Visitor

__all__ = ["Forward", "MusicGen", "Texts", "Visitor", "load"]

_MAX_CHANNELS = 16


class MusicGen(TracedLM):
    """A MusicGen whose LM is an nnsight model.

    Parameters
    ----------
    musicgen : audiocraft MusicGen
        The model; its LM is wrapped, not copied.
    name : str, optional
        What to call it; audiocraft's name by default.
    fingerprint : str, optional
        Identity of the checkpoint; hashed from the weights when it is first asked for, if not given.
    form : str
        Whose format it was read from: ``audiocraft`` or ``transformers``. The model is the same.

    Raises
    ------
    ModelError
        If the LM cannot be traced: no called output projection, or conditions that are not text.
    """

    def __init__(
        self,
        musicgen: AudiocraftMusicGen,
        name: str | None = None,
        fingerprint: str | None = None,
        form: str = "audiocraft",
    ) -> None:
        musicgen.compression_model.eval().requires_grad_(False)
        super().__init__(musicgen.lm)
        musicgen.compression_model.to(codec_device(self.device))
        seam.set_precision(musicgen)
        # Not an nn.Module, so that nnsight neither mirrors it nor adds the codec to the LM's state.
        self._musicgen = musicgen
        self._called = name if name is not None else str(musicgen.name)
        self._fingerprint, self._form = fingerprint, form

    # What it is ---------------------------------------------------------------------------------------------

    @property
    def codec(self) -> CompressionModel:
        """audiocraft's compression model."""
        return self._musicgen.compression_model

    @property
    def audiocraft(self) -> AudiocraftMusicGen:
        """The audiocraft object this model wraps, with its own ``generate`` methods."""
        return self._musicgen

    @property
    def name(self) -> str:
        """What it was loaded as."""
        return self._called

    @property
    def format(self) -> str:
        """Whose format it was read from: ``audiocraft`` or ``transformers``."""
        return self._form

    @property
    def sample_rate(self) -> int:
        """Of the codec, in Hz."""
        return int(self.codec.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Codec frames per second."""
        return float(self.codec.frame_rate)

    @property
    def max_seconds(self) -> float:
        """Longest window the model was trained to hear at once."""
        return float(self._musicgen.max_duration)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the checkpoint: its weights and its sizes.

        For a loaded checkpoint it is taken from the weights as they are on disk, so that it does not depend
        on the device or the dtype they run in.
        """
        if self._fingerprint is None:
            self._fingerprint = seam.lm_fingerprint(self.lm.state_dict(), self.shape.n_heads)
        return self._fingerprint

    @functools.cached_property
    def codec_fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the codec: equal ones give equal codes."""
        codec = self.codec
        what = f"{type(codec).__name__} {self.sample_rate} {self.frame_rate} {self.n_codebooks}"
        return seam.hash_weights(codec.state_dict(), what)

    def untrained(self, seed: int = 0) -> MusicGen:
        """The same model before it learnt anything: its architecture and codec, the LM's weights drawn anew.

        Parameters
        ----------
        seed : int
            Same seed, same weights. torch's global generator is left as it was.

        Returns
        -------
        MusicGen
            With a fingerprint of its own, so that its stores are never taken for the trained model's.

        Raises
        ------
        ModelError
            If it is not known how a weight was initialised: a half-trained copy is no baseline.
        """
        from interp.backends.untrained import untrained

        return MusicGen(untrained(self._musicgen, f"{self.name}-untrained-{seed}", seed))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the model in transformers' format, for ``MusicgenForConditionalGeneration.from_pretrained(folder)``.

        Parameters
        ----------
        folder : str or Path
            A new folder; written completely or not at all. :func:`load` reads it as the same model.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ModelError
            If the format has no place for a part of the model: another text encoder than T5, another codec than
            EnCodec.
        StoreError
            If the folder is there already or cannot be written.
        """
        from interp.backends.transformers import save

        return save(self._musicgen, folder)

    def output_projection(self, site: str | Site) -> Tensor:
        """What takes all heads of a layer, side by side, to what the attention block adds to the residual stream:
        float64 ``[width, width]``, head h in columns ``h * head_dim`` to ``(h + 1) * head_dim``."""
        return seam.output_projection(self.lm, Site.parse(site).check(self.shape).place)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The precision context in which audiocraft generates, and in which every trace runs: none, or half precision
        on a GPU whose weights are."""
        autocast: contextlib.AbstractContextManager[None] = self._musicgen.autocast
        return autocast

    @contextlib.contextmanager
    def starting_at(self, seconds: float) -> Iterator[None]:
        """Let music begin at a later second, until the block ends: positions count from there in all that runs inside.

        Codes alone do not say where in a piece they stand; they are heard as its beginning. ``extract`` and
        ``generate`` have this as ``offset=``, and write it down.

        Parameters
        ----------
        seconds : float
            0 or more. Beyond ``max_seconds`` the LM was not trained.

        Raises
        ------
        ModelError
            If it is no such number, or the LM's positions are not sinusoidal.

        Examples
        --------
        >>> from interp.backends.build import random_musicgen
        >>> model = MusicGen(random_musicgen())
        >>> codes = torch.zeros(1, 4, 10, dtype=torch.long)
        >>> with model.starting_at(20):
        ...     late = model.predict(codes).logits
        >>> bool(torch.equal(late, model.predict(codes).logits))
        False
        """
        if not (isinstance(seconds, Real) and math.isfinite(seconds) and seconds >= 0):
            raise ModelError(f"music cannot begin at second {seconds!r}: give a number of 0 or more.")
        with seam.starting_at(self.lm, round(seconds * self.frame_rate)):
            yield

    # Audio and codes ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio into codes, in float32 on every device.

        Parameters
        ----------
        audio : Tensor or array
            Float ``[B, C, T]``, ``[C, T]`` or ``[T]``, in -1 to 1; resampled and mixed to the codec's rate
            and channels.
        sample_rate : int
            Of `audio`, in Hz.

        Returns
        -------
        Tensor
            Long ``[B, K, frames]`` on the model's device.

        Raises
        ------
        ClipError
            If there is no sample, one is not finite, the sample rate is none, or channels and samples are exchanged.

        Examples
        --------
        >>> from interp.backends.build import random_musicgen
        >>> model = MusicGen(random_musicgen())
        >>> model.encode(torch.zeros(16000), 16000).shape
        torch.Size([1, 4, 50])
        """
        audio = _checked_audio(torch.as_tensor(audio, dtype=torch.float32))
        if not (isinstance(sample_rate, Real) and sample_rate > 0 and sample_rate % 1 == 0):
            raise ClipError(f"a sample rate is a whole number of Hz, such as 44100, not {sample_rate!r}.")
        audio = seam.convert_audio(audio, int(sample_rate), self.sample_rate, self._musicgen.audio_channels)
        device = codec_device(self.device)
        with full_precision(device):
            codes, _ = self.codec.encode(audio.to(device))
        return codes.to(device=self.device, dtype=torch.long)

    def encode_file(self, path: str | Path, start: float = 0.0, seconds: float | None = None) -> Tensor:
        """Encode a sound file, or a part of it, mixed down and given to every channel of the codec.

        Parameters
        ----------
        path : str or Path
            A wav, flac, mp3 or ogg file.
        start : float
            Second to start from.
        seconds : float, optional
            Length of the part; to the end when not given.

        Returns
        -------
        Tensor
            Long ``[K, frames]`` on the model's device.

        Raises
        ------
        ClipError
            If the file cannot be read, has no such part, or the part is longer than the model hears at once.
        """
        import soundfile

        from interp.data.audio import read_audio

        length = seconds
        if length is None and Path(path).is_file():
            try:  # from the header, before a long file is read
                length = soundfile.info(path).duration - start
            except (soundfile.LibsndfileError, RuntimeError):
                length = None  # read_audio says what is wrong with it
        if length is not None and length > self.max_seconds:
            raise ClipError(
                f"{path} goes on for {length:.1f} s, but the model hears {self.max_seconds:g} s at once: choose a "
                "part of it (--audio-start and --audio-seconds; start and seconds in Python)."
            )
        wave, rate = read_audio(path, start, seconds)
        mono = torch.from_numpy(wave.mean(axis=0, keepdims=True))
        channels = int(getattr(self.codec, "channels", 1))
        return self.encode(mono.expand(channels, -1)[None], rate)[0]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes ``[B, K, frames]`` or ``[K, frames]`` into audio, float32 ``[B, C, T]`` on the CPU."""
        device = codec_device(self.device)
        with full_precision(device):
            return self.codec.decode(codes.reshape(-1, *codes.shape[-2:]).to(device), None).float().cpu()

    def _batch_size(self, *inputs: Any, **kwargs: Any) -> int:
        audio = kwargs.get("audio")
        if inputs or audio is None:
            return super()._batch_size(*inputs, **kwargs)
        return len(audio) if getattr(audio, "ndim", 0) == 3 else 1

    def _inputs(
        self, music: Any = None, *inputs: Any, audio: Any = None, sample_rate: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, ConditionTensors]:
        """Input of a trace; music may be audio: ``trace(audio=array, sample_rate=44100)``, ``trace(audio=clip)``."""
        if audio is None:
            return super()._inputs(music, *inputs, **kwargs)
        if music is not None or "codes" in kwargs:
            raise ClipError("a trace hears either audio or tokens or codes, not several.")
        if isinstance(audio, Clip):
            audio, sample_rate = audio.audio, audio.sample_rate
        if sample_rate is None:
            raise ClipError("say how many samples a second the audio has: trace(audio=..., sample_rate=44100).")
        codes = self.encode(audio, sample_rate)
        seconds = codes.shape[-1] / self.frame_rate
        if seconds > self.max_seconds + 0.05:
            raise ClipError(f"the audio is {seconds:.1f} s long, but {self.name} hears at most {self.max_seconds:g} s.")
        return super()._inputs(codes=codes, **kwargs)

    # How it looks -------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, str]:
        shape = self.shape
        cross = "text by cross-attention" if shape.cross_attention else "no text"
        return {
            "layers": f"{shape.n_layers} of {shape.n_heads} heads, width {shape.width}, {cross}",
            "codes": f"{self.n_codebooks} codebooks of {self.cardinality}, {self.frame_rate:g} frames a second",
            "sound": f"{self.sample_rate} Hz, {self._musicgen.audio_channels} channel(s), up to {self.max_seconds:g} s",
            "runs": f"{str(self.dtype).removeprefix('torch.')} on {self.device}",
        }

    def __repr__(self) -> str:
        lines = [f"  {name}: {value}" for name, value in self._facts().items()]
        return "\n".join([f"MusicGen {self.name!r}", *lines])

    def _repr_html_(self) -> str:
        rows = [f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>" for name, value in self._facts().items()]
        return f"<b>MusicGen {html.escape(self.name)}</b><table>{''.join(rows)}</table>"


def _checked_audio(audio: Tensor) -> Tensor:
    """Audio as ``[B, C, T]``, refused where it cannot be music."""
    if audio.ndim > 3 or audio.ndim == 0:
        raise ClipError(f"audio is [batch, channels, samples] or a part of it, not {list(audio.shape)}.")
    audio = audio.reshape((1,) * (3 - audio.ndim) + tuple(audio.shape))
    if audio.shape[-1] == 0:
        raise ClipError("cannot encode audio without a single sample.")
    if audio.shape[1] > _MAX_CHANNELS:
        raise ClipError(
            f"this audio of {list(audio.shape)} has {audio.shape[1]} channels: give it as [channels, samples] "
            "(soundfile reads it the other way round)."
        )
    if not torch.isfinite(audio).all():
        raise ClipError("cannot encode audio that holds NaN or infinity: repair the file, or leave it out.")
    return audio


def load(
    name_or_path: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    *,
    codec: str | Path | None = None,
    adapter: str | Path | None = None,
) -> MusicGen:
    """Load a MusicGen.

    Parameters
    ----------
    name_or_path : str or Path
        ``"tiny"`` (the model that ships with the package); the name of a model on the Hugging Face hub such as
        ``"facebook/musicgen-small"``; a folder in audiocraft's format (``state_dict.bin`` and
        ``compression_state_dict.bin``), of audiocraft's trainer (``checkpoint.th``), or in transformers' format
        (``config.json`` and ``model.safetensors``). Where both formats are there audiocraft's is taken; ``"hf:"``
        before the name or the folder takes transformers'. Both give the same model with the same fingerprint.
    device : str or torch.device, optional
        By default a GPU if there is one.
    dtype : torch.dtype or str, optional
        Of the LM's weights; by default float32 on a CPU and float16 on a GPU, as audiocraft has it.
    codec : str or Path, optional
        Codec of an LM in audiocraft's format that comes without one: the file or the folder of its checkpoint, or its
        name on the hub.
    adapter : str or Path, optional
        A LoRA adapter for this model, merged into its weights: the folder that PEFT wrote, or its name on the hub.

    Returns
    -------
    MusicGen

    Raises
    ------
    ModelError
        If it cannot be found, read, or traced, its parts do not fit, or the machine has no such device; the sentence
        says what to do.

    Examples
    --------
    >>> model = load("tiny", device="cpu")
    >>> model.shape.n_layers, model.n_codebooks
    (6, 4)
    """
    where, kind = device_named(device), dtype_named(dtype)
    name = str(name_or_path)
    if name == "tiny":
        from interp import testbed

        if codec is not None or adapter is not None:
            raise ModelError("the model that ships with the package takes no other codec and no adapter.")
        model = MusicGen(testbed.load(where), "tiny")
        if kind is not None and kind != model.dtype:
            fingerprint = model.fingerprint  # of the weights as they ship, before they are rounded
            model.lm.to(kind)
            model = MusicGen(model.audiocraft, "tiny", fingerprint)
        return model
    from interp.backends.checkpoints import load_checkpoint

    musicgen, fingerprint, form = load_checkpoint(name, where, kind, codec, adapter)
    return MusicGen(musicgen, name if adapter is None else f"{name}+{adapter}", fingerprint, form)
