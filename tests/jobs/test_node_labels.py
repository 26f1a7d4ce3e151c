"""Which nodes an option of labels means, and what is no label."""

from __future__ import annotations

import pytest

from atlas_schema.errors import BadConfig
from jobs.config import config_from_mapping
from jobs.node_labels import fits, selector


def test_labels_choose_nodes():
    wanted = selector("zone=a, ray.io/accelerator-type=!L4")
    assert wanted == {"zone": "a", "ray.io/accelerator-type": "!L4"}
    assert fits({"zone": "a", "ray.io/accelerator-type": "H100"}, wanted)
    assert fits({"zone": "a"}, wanted), "a node without the label is none of those to leave out"
    assert not fits({"zone": "a", "ray.io/accelerator-type": "L4"}, wanted)
    assert not fits({"zone": "b"}, wanted)
    assert not fits({}, wanted)
    assert fits({}, selector(None))


@pytest.mark.parametrize("text", ["", "big", "kind=", "=big", "kind=big;x=y", "kind==big"])
def test_what_is_no_label_is_named(text: str):
    with pytest.raises(BadConfig, match=r"node_label: .* is no label; give NAME=VALUE"):
        config_from_mapping({"models": ["zoo/vit"], "address": "auto", "node_label": text})


def test_labels_are_of_a_cluster():
    with pytest.raises(BadConfig, match="node_label: one machine has no nodes to choose from; give --address"):
        config_from_mapping({"models": ["zoo/vit"], "node_label": "kind=big"})
