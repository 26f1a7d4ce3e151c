"""Which device, how many workers and threads."""

from __future__ import annotations

import pytest

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig, config_from_mapping
from jobs.machine import arrange
from jobs.plan import Machine

GB = 1 << 30


def config(**options) -> RunConfig:
    return config_from_mapping({"models": ["zoo/vit"], **options})


@pytest.mark.parametrize(
    ("options", "offer", "machine"),
    [
        ({}, {"gpus": 0, "cores": 2, "memory": 24 * GB}, Machine("cpu", 2, 1, 12 * GB)),
        ({}, {"gpus": 0, "cores": 16, "memory": 8 * GB}, Machine("cpu", 4, 4, 2 * GB)),  # memory bounds the workers
        ({}, {"gpus": 0, "cores": 1, "memory": 1 * GB}, Machine("cpu", 1, 1, 1 * GB)),
        ({"threads": 2}, {"gpus": 0, "cores": 8, "memory": 64 * GB}, Machine("cpu", 4, 2, 16 * GB)),
        ({"workers": 8}, {"gpus": 0, "cores": 8, "memory": 8 * GB}, Machine("cpu", 8, 1, 1 * GB)),  # who asks is obeyed
        ({}, {"gpus": 2, "cores": 16, "memory": 64 * GB}, Machine("cuda", 2, 4, 32 * GB)),
        ({}, {"gpus": 8, "cores": 16, "memory": 16 * GB}, Machine("cuda", 4, 4, 4 * GB)),
        ({"device": "cpu"}, {"gpus": 2, "cores": 4, "memory": 64 * GB}, Machine("cpu", 4, 1, 16 * GB)),
        ({}, {"gpus": 0, "cores": 8, "memory": 64 * GB, "mps": True}, Machine("mps", 1, 4, 64 * GB)),
        (
            {"address": "auto", "device": "cuda", "workers": 8},
            {"gpus": 0, "cores": 0, "memory": 64 * GB},
            Machine("cuda", 8, 1, 8 * GB),
        ),
    ],
)
def test_what_is_offered_and_asked_for_decides(options, offer, machine):
    needs = {"cpu": 2 * GB, "cuda": 4 * GB, "mps": 2 * GB}
    assert arrange(config(**options), **offer, needs=needs.__getitem__) == machine


@pytest.mark.parametrize(
    ("options", "offer", "message"),
    [
        ({"device": "cuda"}, {"gpus": 0, "cores": 2}, "no GPU was found"),
        ({"device": "mps"}, {"gpus": 0, "cores": 2}, "no Metal device"),
        ({"device": "cuda", "address": "auto"}, {"gpus": 0, "cores": 2}, "say how many with --workers"),
        ({"address": "auto"}, {"gpus": 0, "cores": 0}, "offers neither GPU nor CPU now"),
    ],
)
def test_what_is_not_there_is_said(options, offer, message):
    with pytest.raises(BadConfig, match=message):
        arrange(config(**options), memory=8 * GB, **offer)
