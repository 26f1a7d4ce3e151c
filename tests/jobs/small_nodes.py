"""Nodes that are processes of this machine, for Ray's autoscaler: Ray's own, which cannot be told of memory."""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class SmallNodes(FakeMultiNodeProvider):
    """Node types may say that they have memory; the nodes then have what this machine has."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: dict[str, float], labels: Any
    ) -> None:
        told = {name: amount for name, amount in resources.items() if name != "memory"}
        super()._create_node_with_resources_and_labels(node_config, tags, count, told, labels)
