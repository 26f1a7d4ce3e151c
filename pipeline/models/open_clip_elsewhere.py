"""CLIPs that open_clip reads from a folder or a repository: `open_clip/local-dir:PATH`, `open_clip/hf-hub:ORG/NAME`.

Both hold `open_clip_config.json` (the architecture and how pictures are prepared) beside the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from atlas_schema.errors import NoNetwork, UnknownModel

LOCAL, HUB = "local-dir:", "hf-hub:"
CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class OpenClipModel:
    """What open_clip knows of one model: its configuration, how pictures are prepared, and where its weights are."""

    name: str
    tag: str
    id: str  # behind open_clip/
    config: dict[str, Any]
    record: dict[str, Any]
    quick_gelu: bool
    tags: tuple[str, ...]
    fetch: Callable[[], dict[str, Tensor]]
    place: str = ""  # as open_clip takes it, where that is not its name


def kept_elsewhere(rest: str) -> OpenClipModel | None:
    """The model of a folder or repository; None for a name of open_clip's own. UnknownModel, NoNetwork."""
    if rest.startswith(LOCAL):
        return _of_folder(rest.removeprefix(LOCAL))
    if rest.startswith(HUB):
        return _of_hub(rest.removeprefix(HUB))
    return None


def _of_folder(path: str) -> OpenClipModel:
    """Named by its last part alone: where it lies on a machine is nobody else's."""
    from pipeline.models.weights import read_weights

    place = os.path.join(path, CONFIG)
    if not os.path.isfile(place):
        raise UnknownModel(
            f"open_clip/{LOCAL}{path}: expected a folder with {CONFIG} and the weights beside it, as open_clip's "
            "push_to_hf_hub and save_for_hf write them."
        )
    with open(place, encoding="utf-8") as file:
        config, record = _config(file.read(), place)
    name = f"{LOCAL}{os.path.basename(os.path.abspath(path))}"

    def fetch() -> dict[str, Tensor]:
        return read_weights(path).tensors

    return OpenClipModel(name, "local", name, config, record, quick(config), (), fetch, f"{LOCAL}{path}")


def _of_hub(repository: str) -> OpenClipModel:
    from huggingface_hub import hf_hub_download

    from pipeline.models.network import quick_when_offline

    try:
        with quick_when_offline():
            place = hf_hub_download(repository, CONFIG)
    except Exception as error:  # the hub's client has a dozen
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NoNetwork(
            f"open_clip/{HUB}{repository}: its {CONFIG} is neither in the local cache nor can it be fetched: {line} "
            "Check the name, connect this machine once, or download the repository and ask for "
            f"open_clip/{LOCAL}FOLDER."
        ) from error
    with open(place, encoding="utf-8") as file:
        config, record = _config(file.read(), repository)
    name = f"{HUB}{repository}"
    return OpenClipModel(name, "hub", name, config, record, quick(config), (), lambda: _fetched(repository))


def quick(config: dict[str, Any]) -> bool:
    """Whether a configuration says QuickGELU."""
    return bool(config.get("quick_gelu"))


def _fetched(repository: str) -> dict[str, Tensor]:
    from open_clip.factory import download_pretrained_from_hf

    from pipeline.models.weights import read_weights

    return read_weights(download_pretrained_from_hf(repository)).tensors


def _config(text: str, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        read = json.loads(text)
        config = read.get("model_cfg", read)
        return {**config, "vision_cfg": dict(config["vision_cfg"])}, dict(read.get("preprocess_cfg", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownModel(
            f"{place}: not a configuration of open_clip (expected model_cfg with vision_cfg)."
        ) from error
