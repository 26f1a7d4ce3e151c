"""Which work can begin: the units of all stages of a run, each once what it reads is committed.

    visualize ─────────────────────────┐
    probe (slices, then their merges) ─┼─> judge
                                       ├─> evidence, examples, effect
    embed (slices, then their merges) ─┴─> label
    pairs (of models)
    decompose and what follows it: `jobs.heads`

A unit that is given up leaves what reads it undone; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from atlas_schema.parts import WorkUnit, alike
from atlas_schema.store import Store
from jobs.layers import Identities, Identity, Layers, work_units
from jobs.plan import Plan, Range, remaining

FAN_IN = 8  # partials that one merge takes in

#: What a unit of a layer reads, beside its model: partials of its own model, or of the embedder.
READS: Mapping[str, tuple[str, ...]] = {
    "visualize": (),
    "evidence": ("probe",),
    "examples": ("probe",),
    "judge": ("probe", "visualize"),
    "label": ("probe", "embed", "texts"),
    "effect": ("probe",),
}


class Tree:
    """A pass over the probe images: committed slices, and the merges that make one partial of them.

    reads: other trees, by stage and slug, that must be done before its slices can begin.
    """

    def __init__(
        self,
        store: Store,
        stage: str,
        slug: str,
        own: Identity,
        images: int,
        slice_images: int,
        reads: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.stage, self.slug, self.own, self.images = stage, slug, own, images
        self.slice_images, self.reads = slice_images, reads
        self.nodes = self._cover(alike(store, own.unit(stage, slug, 0, 0, 1)))
        self.asked: set[WorkUnit] = set()

    @property
    def done(self) -> bool:
        return [(node.start, node.stop) for node in self.nodes] == [(0, self.images)]

    def add(self, unit: WorkUnit) -> None:
        self.nodes = self._cover([*self.nodes, unit])

    def ready(self) -> list[WorkUnit]:
        """Slices that are missing; once there are none, merges of neighbours, up to one partial of all."""
        gaps = self._gaps()
        if gaps:
            units = [self._unit(start, stop) for gap in gaps for start, stop in self._cut(gap)]
        elif self.done:
            units = []
        else:
            groups = [self.nodes[i : i + FAN_IN] for i in range(0, len(self.nodes), FAN_IN)]
            units = [self._unit(group[0].start, group[-1].stop) for group in groups if len(group) > 1]
        fresh = [unit for unit in units if unit not in self.asked]
        self.asked.update(fresh)
        return fresh

    def _unit(self, start: int, stop: int) -> WorkUnit:
        return self.own.unit(self.stage, self.slug, 0, start, stop)

    def _cut(self, gap: Range) -> list[Range]:
        return [(start, min(start + self.slice_images, gap[1])) for start in range(*gap, self.slice_images)]

    def _gaps(self) -> list[Range]:
        edges = [0, *(edge for node in self.nodes for edge in (node.start, node.stop)), self.images]
        return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high]

    def _cover(self, units: Iterable[WorkUnit]) -> list[WorkUnit]:
        """Partials without overlap, the longest first choice, by start."""
        chosen: list[WorkUnit] = []
        for unit in sorted(set(units), key=lambda unit: (unit.start - unit.stop, unit.start)):
            if all(unit.stop <= one.start or unit.start >= one.stop for one in chosen) and unit.stop <= self.images:
                chosen.append(unit)
        return sorted(chosen, key=lambda unit: unit.start)


class Graph:
    """All work of a run; `ready` gives each unit once, `add` takes in what is committed."""

    def __init__(
        self, plan: Plan, layers: Layers, identities: Identities, trees: Sequence[Tree], pairs: Sequence[WorkUnit]
    ) -> None:
        self.layers, self.identities = layers, identities
        self.trees = {(tree.stage, tree.slug): tree for tree in trees}
        self.embedder = next((tree.slug for tree in trees if tree.stage == "embed"), "")
        slices = remaining(plan.slices, layers.covered())
        self.flops = dict(zip(work_units(slices, identities), (one.flops for one in slices), strict=True))
        undone = (unit for unit in pairs if not layers.store.exists(unit.path))
        self.free = [*self.flops, *undone]  # they read no other's work
        self.waiting = [site for site in layers.wanted if READS[site[0]]]

    def ready(self) -> list[WorkUnit]:
        """Units that can begin now and were not handed out before."""
        units, self.free = self.free, []
        for tree in self.trees.values():
            if all(self.trees[read].done for read in tree.reads):
                units += tree.ready()
        begin = [site for site in self.waiting if all(self._has(reads, *site[1:]) for reads in READS[site[0]])]
        self.waiting = [site for site in self.waiting if site not in begin]
        for stage, slug, layer in begin:
            own = self.identities[stage, slug]
            gaps = self.layers.gaps((stage, slug, layer))
            units += [own.unit(stage, slug, layer, start, stop) for start, stop in gaps]
        return units

    def _has(self, reads: str, slug: str, layer: int) -> bool:
        if reads == "visualize":
            site = (reads, slug, layer)
            return self.layers.complete(site) and bool(self.layers.units.get(site))
        tree = self.trees.get((reads, self.embedder if reads in ("embed", "texts") else slug))
        return tree is not None and tree.done

    def add(self, unit: WorkUnit) -> None:
        """A unit was committed."""
        if (unit.stage, unit.slug) in self.trees:
            self.trees[unit.stage, unit.slug].add(unit)
        elif not unit.is_partial:
            self.layers.add(unit)
