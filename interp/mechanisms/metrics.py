"""What is measured of a run whose inside was changed: one number a row, of its logits or of a probe further on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interp.directions import Direction
from interp.errors import DataError
from interp.mechanisms.heard import Heard
from interp.model import Forward
from interp.sites import Site

__all__ = ["Metric", "likelihood", "metric_named", "ratio", "reading"]


@dataclass(frozen=True)
class Metric:
    """One number a row.

    Parameters
    ----------
    name : str
        In words, for tables and figures.
    measure : callable
        ``measure(forward, clean, corrupt) -> [rows]``: what the run gave over the frames that count (logits float32
        ``[rows, codebooks, frames, cardinality]``; values of `sites`, ``[rows, frames, dim]``) and the codes of both
        sides over these frames, long ``[rows, codebooks, frames]``. Differentiable where attribution is asked for.
    sites : tuple of Site
        What has to be read for it.
    music : {"same", "different", "any"}
        What the counted frames of both sides have to be.

    Examples
    --------
    The logit of one code in the first codebook:

    >>> code = Metric("code 7", lambda forward, clean, corrupt: forward.logits[:, 0, :, 7].mean(1))
    >>> code.measure(Forward(torch.ones(2, 4, 3, 8)), None, None)
    tensor([1., 1.])
    """

    name: str
    measure: Callable[[Forward, Tensor, Tensor], Tensor]
    sites: tuple[Site, ...] = ()
    music: Literal["same", "different", "any"] = "any"

    def check(self, clean: Heard, corrupt: Heard, counted: range) -> None:
        """Raise :class:`DataError` where the metric means nothing for these pairs."""
        alike = (clean.codes == corrupt.codes)[..., counted.start : counted.stop].flatten(1).all(1)
        if self.music == "same" and not bool(alike.all()):
            raise DataError(
                f"{self.name} is that of one music, but both sides of pair {int((~alike).nonzero()[0, 0])} differ "
                "where it counts: count frames that are the same (counted=), or compare both with metric='ratio'."
            )
        if self.music == "different" and bool(alike.any()):
            raise DataError(
                f"{self.name} compares the music of both sides, but those of pair {int(alike.nonzero()[0, 0])} are the "
                "same where it counts: use metric='likelihood'."
            )


def likelihood() -> Metric:
    """Mean log-likelihood of the music that both sides hear, in nats a token.

    Between two texts, its gap is the log-likelihood ratio of the music under them; between two beginnings, that of a
    common continuation (say by ``counted=`` where it lies).

    Examples
    --------
    >>> likelihood().measure(Forward(torch.zeros(1, 4, 3, 8)), torch.zeros(1, 4, 3, dtype=torch.long), None)
    tensor([-2.0794])
    """
    return Metric("log-likelihood", lambda forward, clean, _: _log_p(forward, clean).mean((1, 2)), music="same")


def ratio() -> Metric:
    """Mean log-likelihood of the clean side's next code less that of the corrupt side's, in nats a token that differs.

    Examples
    --------
    >>> logits = torch.zeros(1, 4, 3, 8)
    >>> logits[..., 5] = 2.0
    >>> clean, corrupt = torch.full((1, 4, 3), 5), torch.full((1, 4, 3), 1)
    >>> ratio().measure(Forward(logits), clean, corrupt)
    tensor([2.])
    """

    def measure(forward: Forward, clean: Tensor, corrupt: Tensor) -> Tensor:
        difference = _log_p(forward, clean) - _log_p(forward, corrupt)  # exactly zero where the codes agree
        return difference.sum((1, 2)) / (clean != corrupt).sum((1, 2))

    return Metric("log-likelihood ratio", measure, music="different")


def reading(direction: Direction) -> Metric:
    """What a probe says, as a logit, of its site's mean over the frames that count.

    Parameters
    ----------
    direction : Direction
        Of a probe; without an intercept the logit is that of zero intercept.

    Examples
    --------
    >>> probe = Direction.from_weight("L1.resid", [3.0, 4.0], intercept=1.0)
    >>> reading(probe).measure(Forward(values={Site.parse("L1.resid"): torch.ones(2, 3, 2)}), None, None)
    tensor([8., 8.])
    """
    site = direction.site
    intercept = 0.0 if direction.intercept != direction.intercept else direction.intercept

    def measure(forward: Forward, clean: Tensor, corrupt: Tensor) -> Tensor:
        x = forward.values[site].float().mean(1)
        return x @ torch.as_tensor(direction.weight.copy(), dtype=x.dtype, device=x.device) + intercept

    return Metric(f"probe of {direction.towards or direction.method or 'a trait'} at {site}", measure, (site,))


def metric_named(metric: str | Metric) -> Metric:
    """A metric, or the one that is called so: ``"likelihood"`` or ``"ratio"``.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    named = {"likelihood": likelihood, "ratio": ratio}
    if isinstance(metric, Metric):
        return metric
    if metric not in named:
        raise DataError(f"there is no metric {metric!r}: use {', '.join(named)}, reading(direction), or a Metric.")
    return named[metric]()


def _log_p(forward: Forward, codes: Tensor) -> Tensor:
    assert forward.logits is not None
    chosen = forward.logits.gather(-1, codes[..., None])[..., 0]
    return chosen - torch.logsumexp(forward.logits, -1)
