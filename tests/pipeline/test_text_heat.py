"""Where a text is, through aligned heads: the sum of the maps of the heads that say most of it."""

import pytest
import torch

from atlas_schema.errors import BadConfig
from pipeline.decompose import Level, components_of
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.maps import heatmap, source_maps, spread
from pipeline.uses.text_heat import text_heat
from tests.pipeline.test_decompose import noise, small


def _alignment(model, width: int) -> Alignment:
    generator = torch.Generator().manual_seed(4)
    d = model.description.representation_dim
    maps = torch.randn(len(components_of(model)), d, width, generator=generator)
    return Alignment.of_maps(maps, torch.zeros(width), 1.0, 1.0, 1.0, 0.0)


def test_all_heads_of_a_clip_along_its_own_text_are_its_heatmap():
    model = small("open_clip")
    x = noise(model, 1)
    text = torch.randn(7, generator=torch.Generator().manual_seed(1))
    heads = model.description.heads
    found = text_heat(model, x, text, Alignment.own(len(components_of(model)), 7), count=heads)
    torch.testing.assert_close(found.heat, heatmap(model, x, text)[0], rtol=1e-9, atol=1e-12)
    assert len(found.heads) == heads


def test_the_heads_that_say_most_each_at_its_own_level():
    model = small("convit")  # the heads of two sites write through later attention only
    x = noise(model, 1)
    alignment = _alignment(model, 5)
    text = torch.randn(5, generator=torch.Generator().manual_seed(2))
    found = text_heat(model, x, text, alignment, count=12)
    contributing = Contributing(model)
    aligned = alignment.apply(contributing(x).vectors)[0] @ text.double()
    scores = aligned[: model.description.heads]
    order = scores.abs().argsort(descending=True)[:12].tolist()
    assert [one for one, _ in found.heads] == [contributing.components[place] for place in order]
    torch.testing.assert_close(torch.tensor([v for _, v in found.heads]).double(), scores[order], rtol=1e-6, atol=1e-9)
    levels = [contributing.levels[place] for place in order]
    assert set(levels) == {Level.DIRECT, Level.THROUGH}
    expected = torch.zeros(32, 32, dtype=torch.float64)
    for place, level in zip(order, levels, strict=True):
        component = contributing.components[place]
        along = alignment.map(place).double() @ text.double()
        site = source_maps(model, x, along, level).sites[component.layer]
        expected += spread(site.patches[0][:, component.head, None], (32, 32))[0, 0]
    torch.testing.assert_close(found.heat, expected, rtol=1e-7, atol=1e-10)


def test_alignments_of_something_else_are_named():
    model = small("vit")
    x = noise(model, 1)
    with pytest.raises(BadConfig, match=r"3 components, .* has 14: it was fitted for another model"):
        text_heat(model, x, torch.ones(24), Alignment.own(3, 24))
    with pytest.raises(BadConfig, match=r"A text of 9 numbers .* space of 24"):
        text_heat(model, x, torch.ones(9), Alignment.own(len(components_of(model)), 24))
