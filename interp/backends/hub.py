"""Files of models on the Hugging Face hub: fetched, from the cache, or missed with a sentence that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interp.errors import ModelError

__all__ = ["ask_hub", "download", "is_hub_name", "not_here", "snapshot"]

_SMALL, _SAFE, _PICKLED = ["*.json", "spiece.model"], ["*.safetensors"], ["*model*.bin"]


def is_hub_name(name: str) -> bool:
    """Whether a text has the form ``owner/model`` and is no path.

    Examples
    --------
    >>> is_hub_name("facebook/musicgen-small"), is_hub_name("./runs/7"), is_hub_name("tiny")
    (True, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def download(name: str, filename: str, needs: str, cache: str | None = None) -> Path:
    """The file of a model on the hub, from the cache if it is there.

    Parameters
    ----------
    name : str
        Of the model.
    filename : str
        Of the file.
    needs : str
        What ``hf download`` would have to be asked for, for the sentence.
    cache : str, optional
        Folder of the cache; the hub's own if not given.

    Raises
    ------
    ModelError
        If there is no such model or file, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    with _sentences(name, needs, filename):
        return Path(hf_hub_download(name, filename, cache_dir=cache))


def snapshot(name: str, needs: str) -> Path:
    """The folder of a model in transformers' format (or of an adapter) on the hub: settings, tokenizer and weights.

    Without a network it is what the cache holds of it, which may lack files.

    Raises
    ------
    ModelError
        If there is no such model, or the hub cannot be reached and nothing of it is in the cache.
    """
    from huggingface_hub import snapshot_download

    with _sentences(name, needs, "files"):
        folder = Path(snapshot_download(name, allow_patterns=_SMALL + _SAFE))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=_SMALL + _PICKLED))
    return folder


@contextlib.contextmanager
def _sentences(name: str, needs: str, filename: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise not_here(name, needs) from error
    except errors.EntryNotFoundError as error:
        raise ModelError(
            f"{name} on the hub holds no {filename}: it is no MusicGen that can be loaded, as facebook/musicgen-small "
            "is."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(f"the hub has no model {name!r} that you may read: check the name.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise not_here(name, needs) from error


def ask_hub(build: Callable[[], Any], name: str, needs: str) -> Any:
    """Build a part that a library fetches from the hub by its own name."""
    try:
        return build()
    except OSError as error:  # what transformers raises for all that is missing or cannot be reached
        raise not_here(name, needs) from error


def not_here(name: str, needs: str) -> ModelError:
    """The error for a model, or a part of it, that is neither here nor to be had; `needs` are the arguments of
    ``hf download``."""
    from huggingface_hub import constants

    missing = needs.split(" ")[0]
    what = f"{name} is" if missing == name else f"{name} needs {missing}, which is"
    return ModelError(
        f"{what} not on this machine, and the hub cannot be reached: where there is a network run `hf download "
        f"{needs}` and copy the result into {constants.HF_HUB_CACHE}."
    )
