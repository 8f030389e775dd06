"""Weights of our own that travel with the package, small and in float16."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from genmed_core import runtime
from genmed_core.errors import first_line

Network = TypeVar("Network", bound=nn.Module)
FOLDER = Path(__file__).resolve().parent.parent / "weights"


class WeightsError(RuntimeError):
    """Shipped weights are missing, damaged, or not fit to be stored."""


def weights_dir() -> Path:
    """Folder of the weights that come with the package."""
    return FOLDER


def save_weights(model: nn.Module, name: str, **facts: object) -> Path:
    """Store `model` as `<name>.safetensors`, its floating-point tensors as float16 -> the path.

    facts: how it was made, such as steps=24_000; kept in the file, and read by `weights_facts`.
    Raises WeightsError for a number that float16 cannot hold.
    """
    from safetensors.torch import save_file

    path = weights_dir() / f"{name}.safetensors"
    state = {}
    for key, value in model.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        state[key] = half.contiguous()
    if bad := [key for key, value in state.items() if not torch.isfinite(value).all()]:
        raise WeightsError(
            f"{path.name} is not written: {', '.join(bad)} hold NaN, infinity or more than "
            "float16 can."
        )
    with runtime.whole_file(path) as part:
        save_file(state, part, metadata={key: str(value) for key, value in facts.items()})
    return path


def load_weights(model: Network, name: str) -> Network:
    """Load `<name>.safetensors` (stored as float16) into `model`, and return it in eval mode.

    Raises WeightsError naming the file and the remedy.
    """
    with _stored(name) as file:
        keys = file.keys()
        state = {key: file.get_tensor(key) for key in keys}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as err:
        first = str(err).splitlines()[1].strip()
        made_by = weights_facts(name).get("made_by", "data/weights/README.md")
        raise WeightsError(
            f"{name}.safetensors holds another network than this {type(model).__name__} ({first}): "
            f"build it as {made_by.removeprefix('python ')} does."
        ) from err
    return model.eval()


def weights_facts(name: str) -> dict[str, str]:
    """What `<name>.safetensors` says of how it was made: {name: text}. Raises WeightsError."""
    with _stored(name) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _stored(name: str) -> Iterator[Any]:
    """The open file of stored weights; what goes wrong with it becomes a WeightsError."""
    from safetensors import SafetensorError, safe_open

    path = weights_dir() / f"{name}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as err:
        raise WeightsError(f"{path} is missing: {_restore(path)}.") from err
    except (SafetensorError, OSError) as err:
        raise WeightsError(f"{path} is damaged ({first_line(err)}): {_restore(path)}.") from err


def _restore(path: Path) -> str:
    """The remedy that works here: from the repository, or with the package."""
    for folder in path.parents:
        if (folder / ".git").exists():
            target = shlex.quote(str(path.relative_to(folder)))
            return f"restore it with `git -C {shlex.quote(str(folder))} checkout -- {target}`"
    return "install the package anew, which brings it along"

