"""What attention and FFNs write reaches the representation by a fixed matrix and one number a token, where it does.

With norm statistics held, what a module writes into the residual stream passes additions, factors of a token (norms,
pools) and linear maps that are the same for all tokens, or for all tokens of a group: the class token and the rest, the
four places of a merged patch. So the derivative of <u, representation> by the module's output at token s of image i is
a[i, s] T[g(s)]^T u. Whether that holds, and T, is read off derivatives of the model's own replay; a is read off one
vector-Jacobian product in every batch, which checks the form as well. A head's contribution is then
T W_O sum_s a[i, s] head[i, s], exact to rounding, and no head is replayed. Where the form does not hold (convolutions
across tokens whose norms differ), there is no path, and the component is pushed by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from pipeline.decompose.activation_cache import ActivationCache, cache_activations
from pipeline.decompose.attention import channel_axis, output_projection, per_head
from pipeline.decompose.replay import Calls, replay
from pipeline.hooks.activations import sequence
from pipeline.models import AttentionSite, FfnSite, LoadedModel

PROBES = 4  # directions by which tokens are grouped
MOST_GROUPS = 64  # of tokens with a matrix of their own: the places within a patch that is merged three times
FORM = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far derivatives may be from the form, over the largest of them, before it is taken not to hold."""

Key = tuple[str, int]  # path of an attention or FFN module, and which of its calls


@dataclass(frozen=True)
class Path:
    """How one call of a module reaches the representation.

    positions: int64 (positions,), the places of an image that do, windows counted on. group: int64 (positions,), the
    group of each. matrices: (groups, d, channels), T. scale: (channels,), a factor of the channels by which paths that
    share their matrices differ (layer scale); None for 1.
    """

    positions: Tensor
    group: Tensor
    matrices: Tensor
    scale: Tensor | None = None

    def weights(self, gradient: Tensor, directions: Tensor) -> tuple[Tensor, float]:
        """a, (images, positions), and how far derivatives are from the form, over the largest of them.

        gradient: (images, all positions, channels), of <u, representation>; directions: (images, d), u.
        """
        pulled = torch.einsum("gdc,nd->ngc", self.matrices, directions)
        pulled = pulled if self.scale is None else pulled * self.scale
        own, held = pulled[:, self.group], gradient[:, self.positions]  # (images, positions, channels)
        tiny = torch.finfo(own.dtype).tiny
        weights = (held * own).sum(2) / own.square().sum(2).clamp_min(tiny)
        largest = gradient.abs().amax().clamp_min(tiny)
        elsewhere = gradient.abs().amax(2)
        elsewhere[:, self.positions] = (held - weights[:, :, None] * own).abs().amax(2)
        return weights, float(elsewhere.amax() / largest)

    def summed(self, written: Tensor, weights: Tensor) -> Tensor:
        """What is written, weighted and summed over the positions of each group: (images, groups, ...).

        written: (images, all positions, ...); weights: a.
        """
        held = written[:, self.positions]
        weighted = held * weights.reshape(*weights.shape, *[1] * (held.ndim - 2))
        sums = weighted.new_zeros(len(held), len(self.matrices), *held.shape[2:])
        return sums.index_add_(1, self.group, weighted)

    def pushed(self, sums: Tensor) -> Tensor:
        """T times sums over positions, (images, groups, ..., channels) -> (images, ..., d), added up over groups."""
        sums = sums if self.scale is None else sums * self.scale
        return torch.einsum("ng...c,gdc->n...d", sums, self.matrices)


@dataclass(frozen=True)
class Paths:
    """The paths of a model's attention and FFN modules, by path and call; what is not there has none."""

    of: Mapping[Key, Path] = field(default_factory=dict)

    @property
    def closed(self) -> frozenset[str]:
        """The modules that have paths: all of their calls do."""
        return frozenset(path for path, _ in self.of)

    def spans(self, model: LoadedModel, site: AttentionSite) -> Tensor | None:
        """What each head of a site can write, as columns: (heads, d, groups * head_dim) of all its calls; None without
        a path.
        """
        if site.path not in self.closed:
            return None
        of_head = _output_of_heads(model, site)
        calls = [path for (name, _), path in self.of.items() if name == site.path]
        parts = []
        for path in calls:
            matrices = path.matrices if path.scale is None else path.matrices * path.scale
            parts.append(torch.einsum("gdc,che->hdge", matrices, of_head).flatten(2))
        return torch.cat(parts, 2)


NO_PATHS = Paths()


def leaves_of(model: LoadedModel, cache: ActivationCache, closed: Collection[str] | None) -> tuple[Calls, Calls]:
    """Leaves for a replay of which only derivatives count: zeros without memory, shaped as what modules give.

    closed: attention that is answered by the output of its projection (None: all); the leaves of others stand for its
    input. Returned as `replay` takes them: heads, FFNs.
    """
    heads: Calls = {}
    for site in model.description.attention_sites:
        projection = output_projection(model.module.get_submodule(site.path))
        written = closed is None or site.path in closed
        shapes = [_written_shape(projection, call) if written else call.shape for call in cache.heads[site.path]]
        calls = zip(cache.heads[site.path], shapes, strict=True)
        heads[site.path] = [nothing(call, shape).requires_grad_() for call, shape in calls]
    return heads, {path: [nothing(call).requires_grad_() for call in calls] for path, calls in cache.ffns.items()}


def nothing(like: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """Zeros of the shape of a tensor, or of another, which take no memory."""
    return like.new_zeros(1).expand(like.shape if shape is None else tuple(shape))


def _written_shape(projection: nn.Module, heads: Tensor) -> list[int]:
    """The shape of what an output projection gives, from that of its input."""
    shape = list(heads.shape)
    shape[channel_axis(projection)] = len(_weight(projection))
    return shape


def written_nothing(model: LoadedModel, cache: ActivationCache, closed: Collection[str]) -> Calls:
    """What the projections of attention with a path give where their heads are zero: their bias."""
    calls: Calls = {}
    for path in set(closed) & set(cache.heads):
        projection = output_projection(model.module.get_submodule(path))
        shapes = [_written_shape(projection, heads) for heads in cache.heads[path]]
        calls[path] = [_bias(projection, heads, shape) for heads, shape in zip(cache.heads[path], shapes, strict=True)]
    return calls


def _bias(projection: nn.Module, like: Tensor, shape: Sequence[int]) -> Tensor:
    """A projection's bias on every token; a view, whose tokens are one."""
    if not isinstance(projection.bias, Tensor):
        return nothing(like, shape)
    bias = projection.bias.detach()
    return (bias[:, None, None] if isinstance(projection, nn.Conv2d) else bias).expand(*shape)


def find_paths(model: LoadedModel, x: Tensor) -> Paths:
    """The paths of a model, from derivatives of its replay: a fact of its weights, up to rounding.

    x: (images, 3, height, width), normalised; the first and the last of them show which tokens form groups, the first
    alone, as many times as there are images, gives the matrices.
    """
    with torch.inference_mode(False), torch.enable_grad():
        groups = _groups_of(model, x[[0, -1]].detach().clone())
        like = _alike(groups)
        first = {key: groups[key] for key in dict.fromkeys(like.values())}
        matrices = _matrices(model, x[:1].detach().expand(x.shape).clone(), first)
    made: dict[Key, Path] = {}
    for key, group in first.items():
        path = Path(group.positions, group.group, matrices.pop(key))
        made[key] = next((same for same in (_like(path, one) for one in made.values()) if same is not None), path)
    return Paths({key: replace(made[same], positions=groups[key].positions, group=groups[key].group)
                  for key, same in like.items()})  # fmt: skip


@dataclass(frozen=True)
class _Groups:
    """The tokens of a call that reach the representation, and their groups.

    positions, group: as `Path` has them. stand_for: of each group the position that stands for it. seen: (groups,
    probes * channels), its derivatives along random directions.
    """

    positions: Tensor
    group: Tensor
    stand_for: Tensor
    seen: Tensor


def _alike(groups: Mapping[Key, _Groups]) -> dict[Key, Key]:
    """For each call the first whose groups have the same derivatives: all of a stage that nothing scales."""
    first: dict[tuple[torch.Size, bytes], Key] = {}
    return {
        key: first.setdefault((own.seen.shape, own.seen.cpu().numpy().tobytes()), key) for key, own in groups.items()
    }


def _trunk(model: LoadedModel, x: Tensor) -> tuple[Tensor, dict[Key, Tensor]]:
    """A replay in which all attention and FFNs write leaves: the representation, and the leaves by module and call."""
    cache = cache_activations(model, x, attention=False, gates=False)
    heads, ffns = leaves_of(model, cache, None)
    z = replay(model, cache, x, cache.convolutions, heads, ffns, projected=frozenset(heads)).representation
    return z, {(path, call): leaf for path, calls in (heads | ffns).items() for call, leaf in enumerate(calls)}


def _groups_of(model: LoadedModel, pair: Tensor) -> dict[Key, _Groups]:
    """The groups of each call whose module has the form."""
    z, leaves = _trunk(model, pair)
    if z.grad_fn is None:
        return {}
    generator = torch.Generator().manual_seed(0)
    probes: dict[Key, list[Tensor]] = {}
    for _ in range(PROBES):
        u = torch.randn(z.shape[1], generator=generator, dtype=torch.float64).to(z).expand_as(z)
        for key, gradient in _by_position(model, _gradients(z, leaves, u), len(pair)).items():
            probes.setdefault(key, []).append(gradient)
    found = {key: _grouped(torch.cat(gradients, 2)) for key, gradients in probes.items()}
    open_modules = {path for (path, _), group in found.items() if group is None}
    return {key: group for key, group in found.items() if group is not None and key[0] not in open_modules}


def _gradients(z: Tensor, leaves: Mapping[Key, Tensor], seed: Tensor) -> dict[Key, Tensor]:
    grads = torch.autograd.grad(z, list(leaves.values()), seed, retain_graph=True, allow_unused=True)
    return {
        key: torch.zeros_like(leaf) if grad is None else grad
        for (key, leaf), grad in zip(leaves.items(), grads, strict=True)
    }


def _by_position(model: LoadedModel, tensors: Mapping[Key, Tensor], images: int) -> dict[Key, Tensor]:
    """Tensors shaped as outputs of modules as (images, positions, channels)."""
    attention = {site.path: site for site in model.description.attention_sites}
    ffns = {site.path: site for site in model.description.ffn_sites}
    return {
        key: written_by_position(model, attention.get(key[0]) or ffns[key[0]], tensor, images)
        for key, tensor in tensors.items()
    }


def written_by_position(model: LoadedModel, site: AttentionSite | FfnSite, tensor: Tensor, images: int) -> Tensor:
    """A tensor shaped as the output of an attention's projection, or of an FFN: (images, positions, channels)."""
    if isinstance(site, FfnSite):
        rows = sequence(tensor, site)
        return rows.reshape(images, -1, rows.shape[-1])
    return per_head(model.module.get_submodule(site.path), tensor, images, 1)[:, :, 0]


def _grouped(seen: Tensor) -> _Groups | None:
    """The groups of the tokens of a call; None where tokens have no form in common.

    seen: (2, positions, probes * channels), derivatives of two images.
    """
    first, second = seen
    positions = (first.ne(0).any(1) | second.ne(0).any(1)).nonzero()[:, 0]
    first, second = first[positions], second[positions]
    limit = FORM[seen.dtype] * float(first.abs().amax()) if len(positions) else 0.0
    group = torch.full_like(positions, -1)
    stand_for: list[Tensor] = []
    while bool((left := (group < 0).nonzero()[:, 0]).numel()):
        if len(stand_for) == MOST_GROUPS:
            return None
        chosen = left[first[left].abs().amax(1).argmax()]
        like = _multiples(first[left], first[chosen], limit) & _multiples(second[left], first[chosen], limit)
        if not bool(like[left == chosen].all()):
            return None
        group[left[like]] = len(stand_for)
        stand_for.append(positions[chosen])
    standing = torch.stack(stand_for) if stand_for else positions
    return _Groups(positions, group, standing, seen[0][standing])


def _multiples(rows: Tensor, of: Tensor, limit: float) -> Tensor:
    """Which rows (n, m) are multiples of a vector (m,), up to `limit` in each place."""
    factor = rows @ of / of.square().sum().clamp_min(torch.finfo(of.dtype).tiny)
    return (rows - factor[:, None] * of).abs().amax(1) <= limit


def _matrices(model: LoadedModel, same: Tensor, groups: Mapping[Key, _Groups]) -> dict[Key, Tensor]:
    """T of every call, (groups, d, channels): derivatives of each coordinate of the representation, a few at a time.

    same: (images, 3, height, width), one image as many times as coordinates are done at a time.
    """
    if not groups:
        return {}
    z, leaves = _trunk(model, same)
    chosen = {key: leaves[key] for key in groups}
    found: dict[Key, Tensor] = {}
    for some in torch.arange(z.shape[1], device=z.device).split(len(same)):
        seed = torch.zeros_like(z)
        seed[torch.arange(len(some), device=z.device), some] = 1
        for key, gradient in _by_position(model, _gradients(z, chosen, seed), len(same)).items():
            rows = gradient[: len(some), groups[key].stand_for]  # (coordinates, groups, channels)
            if key not in found:
                found[key] = rows.new_zeros(rows.shape[1], z.shape[1], rows.shape[2])
            found[key][:, some] = rows.transpose(0, 1)
    return found


def _like(path: Path, known: Path) -> Path | None:
    """The path with the matrices of a known one, scaled by channel, where they are so related; else None."""
    ours, theirs = path.matrices, known.matrices
    if ours.shape != theirs.shape or not torch.equal(path.group, known.group):
        return None
    if torch.equal(ours, theirs):
        return Path(path.positions, path.group, theirs, known.scale)
    square = theirs.square().sum((0, 1))
    scale = (ours * theirs).sum((0, 1)) / square.clamp_min(torch.finfo(square.dtype).tiny)
    off = (ours - scale * theirs).abs().amax()
    if float(off) > 1e-6 * float(ours.abs().amax()):
        return None
    return Path(path.positions, path.group, theirs, scale)


@dataclass
class TokenWeights:
    """a of every call with a path, (images, positions), and how far derivatives were from the form, at most."""

    of: dict[Key, Tensor]
    off: float


def token_weights(
    model: LoadedModel, paths: Paths, gradients: Mapping[Key, Tensor], directions: Tensor
) -> TokenWeights:
    """The factors with which tokens reach the representation.

    gradients: of <u, representation> by the output of each call with a path; directions: u, (images, d), one an image,
    none of them special.
    """
    found = TokenWeights({}, 0.0)
    for key, gradient in _by_position(model, gradients, len(directions)).items():
        found.of[key], off = paths.of[key].weights(gradient, directions)
        found.off = max(found.off, off)
    return found


def contributions_along(
    model: LoadedModel, paths: Paths, cache: ActivationCache, weights: Mapping[Key, Tensor]
) -> dict[str, Tensor]:
    """What every module with a path contributes, added up over its calls: heads (images, heads, d), FFNs (images, d).

    cache: of the images; weights: of `token_weights`.
    """
    images, found = len(cache.representation), {}
    for site in model.description.attention_sites:
        if site.path in paths.closed:
            of_head, parts = _output_of_heads(model, site), []
            for call, heads in enumerate(cache.heads[site.path]):
                path, key = paths.of[site.path, call], (site.path, call)
                module = model.module.get_submodule(site.path)
                sums = path.summed(
                    per_head(module, heads, images, site.heads), weights[key]
                )  # (images, groups, h, own)
                parts.append(path.pushed(torch.einsum("nghe,che->nghc", sums, of_head)))
            found[site.path] = _total(parts)
    for ffn in model.description.ffn_sites:
        if ffn.path in paths.closed:
            calls = [written_by_position(model, ffn, written, images) for written in cache.ffns[ffn.path]]
            parts = []
            for call, written in enumerate(calls):
                path = paths.of[ffn.path, call]
                parts.append(path.pushed(path.summed(written, weights[ffn.path, call])))
            found[ffn.path] = _total(parts)
    return found


def _weight(projection: nn.Module) -> Tensor:
    """(channels, ...) of a linear map or a convolution."""
    assert isinstance(projection.weight, Tensor)
    return projection.weight.detach()


def _output_of_heads(model: LoadedModel, site: AttentionSite) -> Tensor:
    """The weights of an attention's output projection: (channels, heads, head_dim)."""
    projection = output_projection(model.module.get_submodule(site.path))
    return _weight(projection).flatten(1).unflatten(1, (site.heads, -1))


def pulled_into_heads(model: LoadedModel, path: Path, site: AttentionSite, directions: Tensor) -> Tensor:
    """W_O^T T^T u of each head's own direction: (groups, heads, head_dim), of directions (heads, d)."""
    back = torch.einsum("gdc,hd->ghc", path.matrices, directions)
    back = back if path.scale is None else back * path.scale
    return torch.einsum("ghc,che->ghe", back, _output_of_heads(model, site))


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0) if len(parts) > 1 else parts[0]
