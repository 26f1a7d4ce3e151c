"""Closed forms: along paths, components and maps are what pushing each component by itself gives, in every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.decompose import Component, Contributing, Level, decompose
from pipeline.decompose.head_maps import Asked, HeadMaps, maps_of_images
from pipeline.decompose.maps import source_maps
from pipeline.decompose.paths import Path, Paths, find_paths
from pipeline.models import LoadedModel
from tests.pipeline.test_decompose import EXACT, noise
from tests.pipeline.test_families import small


def modules(model: LoadedModel) -> list[str]:
    return [site.path for site in (*model.description.attention_sites, *model.description.ffn_sites)]


@pytest.mark.parametrize("name", EXACT)
def test_contributions_along_paths_are_those_of_each_component_pushed_by_itself(name: str) -> None:
    model = small(name)
    x = noise(model, 3)
    contributing = Contributing(model)
    found = contributing(x)
    pushed = decompose(model, x).vectors().detach()
    direct = torch.tensor([level == Level.DIRECT for level in contributing.levels])
    largest = float(pushed.norm(dim=2).max())
    torch.testing.assert_close(found.vectors[:, direct], pushed[:, direct], rtol=0, atol=1e-11 * largest)


@pytest.mark.parametrize("name", ["vit", "deit, distilled", "swin", "pit", "open_clip"])
def test_heads_and_ffns_have_paths_where_nothing_mixes_tokens(name: str) -> None:
    model = small(name)
    assert find_paths(model, noise(model, 3)).closed == set(modules(model))


def test_the_two_read_tokens_of_a_distilled_model_have_matrices_of_their_own() -> None:
    model = small("deit, distilled")
    paths = find_paths(model, noise(model, 3)).of
    assert {len(path.matrices) for path in paths.values()} == {2}
    assert {tuple(path.positions.tolist()) for path in paths.values()} == {(0, 1)}


def test_places_of_merged_patches_are_groups() -> None:
    model = small("swin")
    groups = [len(path.matrices) for path in find_paths(model, noise(model, 3)).of.values()]
    assert min(groups) == 1, "behind the last merge all tokens are alike"
    assert max(groups) >= 4, "before it there are four places"


def test_images_whose_derivatives_have_another_form_are_done_without_paths() -> None:
    model = small("vit")
    x = noise(model, 3)
    contributing = Contributing(model)
    right = contributing(x).vectors
    generator = torch.Generator().manual_seed(0)

    def wrong(path: Path) -> Path:
        drawn = torch.randn(path.matrices.shape, generator=generator, dtype=path.matrices.dtype)
        return replace(path, matrices=drawn)

    contributing.paths = Paths({key: wrong(path) for key, path in contributing.paths.of.items()})
    again = contributing(x).vectors
    torch.testing.assert_close(again, right, rtol=0, atol=1e-11 * float(right.abs().max()))


def test_heads_lie_in_the_bases_of_what_they_can_write() -> None:
    model = small("vit")
    contributing = Contributing(model)
    found = contributing(noise(model, 3))
    bases = contributing.bases(64)
    assert set(bases) == set(range(model.description.heads))
    for head, basis in bases.items():
        own = found.vectors[:, head]
        assert basis.shape[1] == model.description.attention_sites[0].head_dim
        torch.testing.assert_close(own @ basis @ basis.mT, own, rtol=0, atol=1e-12 * float(own.abs().max()))


@pytest.mark.parametrize("name", ["vit", "deit, distilled", "swin", "coat", "convit", "pit", "twins, svt", "open_clip"])
def test_maps_of_all_heads_at_once_are_those_of_each_direction_by_itself(name: str) -> None:
    model = small(name)
    x = noise(model, 2)
    contributing = Contributing(model)
    vectors = contributing(x).vectors
    heads = [(site, head) for site in model.description.attention_sites for head in range(site.heads)]
    generator = torch.Generator().manual_seed(5)
    directions = torch.randn(len(heads), 2, vectors.shape[2], generator=generator, dtype=torch.float64)
    asked = [Asked(image, head, (image + head) % 2) for image in (0, 1) for head in range(len(heads))]
    found = dict(maps_of_images(contributing, x, [0, 1], asked, directions))
    assert list(found.keys() - set(asked)) == []
    assert len(found) == len(asked)
    for one in asked[:: max(1, len(asked) // 8)]:
        site, head = heads[one.head]
        along, level = directions[one.head, one.direction], contributing.levels[one.head]
        expected = source_maps(model, x[one.image][None], along, level).sites[site.layer]
        scale = float(expected.joined()[0, head].abs().max())
        heat = torch.from_numpy(found[one].heat)
        torch.testing.assert_close(heat, expected.joined()[0, head].float(), rtol=0, atol=1e-6 * scale)
        assert found[one].elsewhere == pytest.approx(float(expected.elsewhere[0, head]), rel=1e-6, abs=1e-6 * scale)
        total = float(heat.double().sum()) + found[one].elsewhere
        assert total == pytest.approx(float(vectors[one.image, one.head] @ along), rel=1e-5, abs=1e-5 * scale)


def test_maps_are_merged_and_read_back() -> None:
    model = small("vit")
    x = noise(model, 2)
    contributing = Contributing(model)
    width = contributing(x).vectors.shape[2]
    directions = torch.eye(width, dtype=torch.float64)[:9, None]
    asked = [[Asked(image, head, 0) for head in range(9)] for image in (0, 1)]
    parts = []
    for image in (0, 1):
        sums = HeadMaps()
        sums.add(maps_of_images(contributing, x[image][None], [image], asked[image], directions))
        parts.append(HeadMaps.of(sums.arrays()))
    parts[0].merge(parts[1])
    read = list(parts[0].found())
    assert [one for one, *_ in read] == [*asked[0], *asked[1]]
    for one, cells, scale, elsewhere in read:
        total = ((cells.astype(float) - 128) / 127 * scale).sum() + elsewhere
        site = model.description.attention_sites[one.head // 3]
        component = contributing.components.index(Component("head", site.layer, one.head % 3))
        own = float(contributing(x[one.image][None]).vectors[0, component, one.head])
        assert abs(total - own) <= scale / 254 * cells.size + 1e-5 * abs(own)


def test_no_image_asked_for_is_no_map() -> None:
    model = small("vit")
    assert list(maps_of_images(Contributing(model), noise(model, 1), [0], [], torch.zeros(9, 1, 24))) == []
    assert list(HeadMaps.of(HeadMaps().arrays()).found()) == []
