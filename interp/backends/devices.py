"""Where a model runs and in which precision: names of devices and dtypes, and float32 where rounding would show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from interp.errors import ModelError

__all__ = ["codec_device", "device_named", "devices", "dtype_named", "full_precision"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def devices() -> list[str]:
    """Devices of this machine that a model can run on, the default one first.

    Examples
    --------
    >>> devices()[-1]
    'cpu'
    """
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def device_named(name: str | torch.device | None) -> torch.device:
    """Read the name of a device; None is a CUDA GPU if there is one, else the CPU.

    Raises
    ------
    ModelError
        If it is no device, or this machine does not have it; the sentence lists those it has.

    Examples
    --------
    >>> device_named("cpu")
    device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = devices()
    try:
        device = torch.device(name.lower() if isinstance(name, str) else name)
    except (RuntimeError, TypeError):
        device = None
    known = device is not None and (str(device) in there or (device.index is None and f"{device}:0" in there))
    if device is None or not known:
        hint = "a GPU is written cuda; " if str(name).lower() in ("gpu", "nvidia") else ""
        raise ModelError(f"there is no device {str(name)!r} here: {hint}this machine has {', '.join(there)}.")
    return device


def dtype_named(name: str | torch.dtype | None) -> torch.dtype | None:
    """Read the name of a dtype that an LM can run in; None is None.

    Raises
    ------
    ModelError
        If it is none of float32, float16 and bfloat16.

    Examples
    --------
    >>> dtype_named("bfloat16")
    torch.bfloat16
    """
    if name is None:
        return None
    dtype = DTYPES.get(str(name).removeprefix("torch."))
    if dtype is None:
        raise ModelError(f"a model cannot run in dtype {str(name)!r}: use {', '.join(DTYPES)}.")
    return dtype


def codec_device(device: torch.device) -> torch.device:
    """Where the codec of a model on `device` runs: beside it, but on the CPU for Apple's GPUs, on which EnCodec's codes
    have been reported to be wrong.

    Examples
    --------
    >>> codec_device(torch.device("mps")), codec_device(torch.device("cuda", 1))
    (device(type='cpu'), device(type='cuda', index=1))
    """
    return torch.device("cpu") if device.type == "mps" else device


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 until the block ends, whatever is asked for around it: no autocast, no TF32.

    For what must not depend on the device or on the context: codes, which are kept and shared between machines, and
    means over thousands of frames.
    """
    if device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            cudnn: Any = torch.backends.cudnn
            for backend in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn):
                stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
                backend.fp32_precision = "ieee"
        yield
