"""Labels: the published functions by the book, the null, the held-out check, and neurons whose meaning is known."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.windows import windows_of_grid
from pipeline.label.concepts import read_concepts
from pipeline.label.embedder import load_embedder
from pipeline.label.labels import LabelSettings, label_layer, strongest_count
from pipeline.label.significance import auroc, auroc_lower, benjamini_hochberg, pooled_p, standardised
from pipeline.label.similarity import Cosine, LogMean, Measured, RankReorder, SoftWpmi
from pipeline.models import ModelRequest, load
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes
from tests.pipeline.close import assert_close

VALUES = [value for values in ATTRIBUTES.values() for value in values]


def measured(images=60, neurons=5, texts=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Measured(
        torch.randn(images, neurons, generator=g),
        torch.randint(0, 10, (images, neurons), generator=g),
        torch.rand(images, 10, texts, generator=g) - 0.2,
    )


# ------------------------------------------------------------------------------------- functions by the book


def seen(m, neuron, order=None):
    """(images, texts): what a neuron sees of each image, float64."""
    similarities, views = m.similarities.double().numpy(), m.views.numpy()
    images = range(len(m.peaks)) if order is None else order.tolist()
    return np.array([similarities[i, views[j, neuron]] for j, i in enumerate(images)])


def naive_soft_wpmi(m, top, order=None):
    log_p = []
    for neuron in range(m.neurons):
        x = 10 * seen(m, neuron, order)
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        best = np.argsort(-m.peaks[:, neuron].numpy(), kind="stable")[:top]
        member = [0.998 - r / top * (0.998 - 0.97) for r in range(top)]
        log_p.append(sum(np.log(1 + member[r] * (p[best[r]] - 1) + 1e-7) for r in range(top)))
    return np.array(log_p)


def test_soft_wpmi_is_the_published_formula():
    m = measured()
    scorer = SoftWpmi(m, 20)
    log_p = naive_soft_wpmi(m, 20)
    scorer.normalise(scorer.log_mean(torch.ones(m.neurons, dtype=torch.bool)))
    expected = log_p - np.log(np.exp(log_p).mean(0))
    assert_close(scorer.scores(slice(0, 5)), expected, 1e-5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert_close(scorer.log_likelihood(slice(1, 3), order), naive_soft_wpmi(m, 20, order)[1:3], 1e-6)


def test_soft_wpmi_by_hand():
    """Two images, two texts, one neuron: image 1 is stronger and likes both texts alike, image 0 the first."""
    m = Measured(
        torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1, dtype=torch.int64), torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])
    )
    found = SoftWpmi(m, 2).log_likelihood(slice(0, 1))[0]
    sure = 1 / (1 + np.exp(-10))
    for text, p in enumerate((sure, 1 - sure)):
        assert found[text] == pytest.approx(np.log(1 + 0.998 * -0.5) + np.log(1 + 0.984 * (p - 1)), abs=1e-4)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms())
def test_the_normaliser_merges_over_any_shards_in_any_order(sizes, shuffle):
    values = 300 * torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(sum(sizes)))
    parts = [LogMean.of(part) for part in values.split(sizes)]
    shuffle.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.count == sum(sizes)
    assert_close(merged.value, LogMean.of(values).value, 1e-12)


def test_scores_without_a_normaliser_are_refused():
    with pytest.raises(ValueError, match="normalise"):
        SoftWpmi(measured(), 20).scores(slice(0, 2))


def test_rank_reorder_is_the_published_formula_with_the_exact_mean_of_random_orders():
    m, top = measured(), 12
    found = RankReorder(m, top).scores(slice(0, 5)).numpy()
    for neuron in range(m.neurons):
        peaks = m.peaks[:, neuron].double().numpy()
        best = np.argsort(-peaks, kind="stable")[:top]
        strong = peaks[best]
        chance = np.mean([abs(a - b) ** 3 for a in strong for b in strong])
        for text in range(m.texts):
            likeness = seen(m, neuron)[best, text]
            rank = np.argsort(np.argsort(likeness))
            error = np.mean(np.abs(strong - np.sort(strong)[rank]) ** 3) / chance
            assert found[neuron, text] == pytest.approx(-error / np.sqrt(max(likeness.mean(), 1e-3)), rel=1e-3)


def test_rank_reorder_is_best_for_a_text_in_the_peaks_order():
    m = measured(neurons=1)
    m.similarities[torch.arange(60), m.views[:, 0], 3] = 0.5 + 0.1 * m.peaks[:, 0]
    found = RankReorder(m, 12).scores(slice(0, 1))[0]
    assert found.argmax() == 3
    assert found[3] == pytest.approx(0, abs=1e-6)


def test_cosine_is_a_cosine():
    m = measured()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    for how in (None, order):
        found = Cosine(m, 1).scores(slice(0, 5), how).numpy()
        for neuron in range(m.neurons):
            peaks, x = m.peaks[:, neuron].numpy(), seen(m, neuron, how)
            expected = peaks @ x / np.linalg.norm(peaks) / np.linalg.norm(x, axis=0)
            assert_close(found[neuron], expected, 2e-6)


# ------------------------------------------------------------------------------------------------ significance


def test_auroc_equals_mann_whitney_with_ties():
    g = np.random.default_rng(0)
    scores, positive = g.integers(0, 6, (4, 50)).astype(np.float32), g.random((4, 50)) < 0.3
    found = auroc(torch.from_numpy(scores), torch.from_numpy(positive))
    for i in range(4):
        u = stats.mannwhitneyu(scores[i][positive[i]], scores[i][~positive[i]]).statistic
        assert found[i] == pytest.approx(u / positive[i].sum() / (~positive[i]).sum())
    assert auroc(torch.rand(1, 5), torch.zeros(1, 5, dtype=torch.bool)).isnan()


def test_the_lower_bound_of_an_auroc_covers():
    """Scores of two normals a known distance apart: the bound lies above the truth in about 5 % of draws."""
    g = torch.Generator().manual_seed(0)
    truth, ones, zeros = 0.7, 60, 500
    apart = stats.norm.ppf(truth) * 2**0.5
    scores = torch.randn(2000, ones + zeros, generator=g)
    scores[:, :ones] += apart
    positive = (torch.arange(ones + zeros) < ones).expand(2000, -1)
    lower = auroc_lower(auroc(scores, positive), torch.tensor(ones), torch.tensor(zeros))
    assert 0.03 < (lower > truth).float().mean() < 0.08


@pytest.mark.slow
def test_q_is_the_least_rate_at_which_a_finding_is_still_one():
    """By the procedure itself: at rate a, all findings up to the last with p <= a x rank / count are discoveries."""
    p = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    p[10:14] = p[3]  # ties
    rates = sorted({min(1.0, float(one) * 60 / rank) for rank in range(1, 61) for one in p})
    ordered = p.sort().values
    expected = []
    for one in p:
        for rate in rates:
            passing = [rank for rank in range(1, 61) if float(ordered[rank - 1]) <= rate * rank / 60 * (1 + 1e-12)]
            if passing and one <= ordered[passing[-1] - 1]:
                expected.append(rate)
                break
    torch.testing.assert_close(benjamini_hochberg(p), torch.tensor(expected, dtype=torch.float64))
    assert len(benjamini_hochberg(torch.zeros(0))) == 0


def test_a_draw_from_the_null_has_an_even_p():
    """Skewed null, every row on another scale: pooled p of draws of the same kind are even, in the tail too."""
    g = torch.Generator().manual_seed(0)
    rows, draws = 20000, 100
    scale = torch.rand(rows, generator=g) * 10 + 0.1
    null = torch.rand(draws, rows, 5, generator=g).log().neg().amax(2) * scale
    drawn = torch.rand(rows, 5, generator=g).log().neg().amax(1) * scale
    p = pooled_p(drawn, null)[1]
    for level in (0.5, 0.05, 0.01, 0.001):
        error = 4 * (level * (1 - level) / rows) ** 0.5
        assert abs((p <= level).double().mean() - level) < error + 0.05 * level, level


def test_left_out_draws_are_measured_against_the_others():
    null = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = standardised(torch.zeros(3), null)[1]
    others = torch.cat([null[:4], null[5:]])
    assert torch.allclose(found[4], (null[4] - others.mean(0)) / others.std(0))
    z, flat = standardised(torch.tensor([1.0]), torch.ones(9, 1))  # no spread, no finding
    assert z == 0
    assert (flat == 0).all()


# ------------------------------------------------------------------------------------------- known neurons


@pytest.fixture(scope="module")
def world():
    """800 held-out scenes: true attributes, split, similarities of zoo/clip, and the peaks of zoo/vit's layers."""
    batch = scenes(HELD_OUT_SEED, range(800))
    pictures = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
    clip = load_embedder(ModelRequest("zoo/clip"))
    texts = read_concepts("zoo")
    truth = torch.from_numpy(
        np.concatenate([batch.labels[:, [i]] == np.arange(len(v)) for i, v in enumerate(ATTRIBUTES.values())], axis=1)
    )
    vit = load(ModelRequest("zoo/vit"))
    with torch.inference_mode():
        hidden = all_ffn_activations(vit, vit.normalise(pictures))
    table = torch.from_numpy(windows_of_grid((8, 8)))
    layers = {}
    for layer, (calls,) in hidden.items():
        peak, place = calls.max(dim=1)
        layers[layer] = (peak, table[place])
    return {
        "truth": truth,
        "fit": torch.arange(800) % 2 == 0,
        "similarities": clip.embed_views(pictures) @ clip.texts(texts.prompts).T,
        "texts": texts.texts,
        "layers": layers,
    }


def quick(**changes):
    return replace(LabelSettings(permutations=60, view="image"), **changes)


def planted(world, names, noise=1.0):
    """Peaks of neurons that fire on these values (several: on any of them), under noise; windows at random."""
    g = torch.Generator().manual_seed(0)
    fires = [torch.stack([world["truth"][:, VALUES.index(v)] for v in name.split("|")]).any(0) for name in names]
    peaks = 2 * torch.stack(fires, 1).float()
    peaks += noise * torch.randn(peaks.shape, generator=g)
    return peaks, torch.randint(0, 9, peaks.shape, generator=g).to(torch.uint8)


@pytest.mark.parametrize("function", ["soft_wpmi", "cosine"])
def test_planted_neurons_get_their_names(world, function):
    names = ["red", "blue", "dotted", "checked", "large", "dark", "wavy", "bottom left", "vertical", "pink"]
    found = label_layer(
        *planted(world, names), world["similarities"], world["fit"], world["texts"], quick(similarity=function)
    )
    rows = found.rows()
    assert [row["label_status"] for row in rows] == ["labelled"] * len(names)
    assert [VALUES[i] for i in found.text] == names
    for row, name in zip(rows, names, strict=True):
        assert row["label"] == world["texts"][VALUES.index(name)]
        assert row["label_z"] > 5
        assert row["label_q"] <= 0.05
        assert row["label_auroc"] > 0.6
        assert row["label_candidates"][0]["text"] == row["label"]
        assert row["label_candidates"][0]["auroc"] == row["label_auroc"]
        assert len(row["label_candidates"]) == 5
        assert [c["z"] for c in row["label_candidates"]] == sorted(
            (c["z"] for c in row["label_candidates"]), reverse=True
        )


def test_noise_and_constant_neurons_stay_unlabelled(world):
    g = torch.Generator().manual_seed(1)
    peaks = torch.randn(800, 40, generator=g)
    peaks[:, 7] = 0.25
    windows = torch.randint(0, 9, peaks.shape, generator=g)
    found = label_layer(peaks, windows, world["similarities"], world["fit"], world["texts"], quick())
    assert found.labelled.sum() <= 2
    assert found.row(7) == {
        "label_status": "unlabelled",
        "label": None,
        "label_score": None,
        "label_z": None,
        "label_p": None,
        "label_q": None,
        "label_auroc": None,
        "label_view": "image",
        "label_candidates": [],
    }
    unlabelled = found.row(int((~found.labelled & (found.text >= 0)).nonzero()[0]))
    assert unlabelled["label"] is None
    assert unlabelled["label_p"] > 0
    assert len(unlabelled["label_candidates"]) == 5  # what it nearly was


def test_a_label_that_does_not_hold_on_other_images_is_none(world):
    """Fires on red among the images labels are chosen on, and on blue among the others."""
    fit = world["fit"]
    red, blue = (planted(world, [name], noise=0.3) for name in ("red", "blue"))
    peaks = torch.where(fit[:, None], red[0], blue[0])
    row = label_layer(peaks, red[1], world["similarities"], fit, world["texts"], quick()).row(0)
    assert row["label_candidates"][0]["text"] == "a red object"
    assert row["label_p"] == pytest.approx(1 / 61)  # a layer of one neuron: no shuffle of 60 comes near
    assert row["label_auroc"] < 0.65  # nothing that 40 firing images could tell from chance
    assert (row["label_status"], row["label"]) == ("unlabelled", None)


@pytest.mark.parametrize("function", ["soft_wpmi", pytest.param("cosine", marks=pytest.mark.slow)])
@pytest.mark.parametrize("calibrated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shuffled_images_give_at_most_five_percent_significant_labels(world, function, calibrated):
    """Real activations and windows, embeddings dealt to the wrong images: nothing can be known."""
    dealt = world["similarities"][torch.randperm(800, generator=torch.Generator().manual_seed(3))]
    for view in ("crop", "image", "both"):
        settings = quick(similarity=function, calibrated=calibrated, view=view)
        found = [label_layer(*x, dealt, world["fit"], world["texts"], settings) for x in world["layers"].values()]
        q, p = torch.cat([x.q for x in found]), torch.cat([x.p for x in found])
        assert len(q) == 512
        assert (q <= 0.05).double().mean() <= 0.05, view
        assert torch.cat([x.labelled for x in found]).double().mean() <= 0.01, view
        if view != "both":
            assert (p <= 0.05).double().mean() < 0.12, view  # neurons of a layer share the deal, so p vary together


def test_real_neurons_of_the_zoo_are_labelled(world):
    found = [
        label_layer(*x, world["similarities"], world["fit"], world["texts"], quick()) for x in world["layers"].values()
    ]
    assert torch.cat([x.labelled for x in found]).double().mean() > 0.6


# ------------------------------------------------------------------------------------------------- mechanics


def test_chunks_and_repetition_change_nothing(world, monkeypatch):
    peaks, windows = world["layers"][2]
    for function in ("soft_wpmi", "rank_reorder", "cosine"):
        settings = LabelSettings(similarity=function, permutations=20, view="crop")
        asked = (peaks[:, :30], windows[:, :30], world["similarities"], world["fit"], world["texts"], settings)
        whole = label_layer(*asked)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.label.similarity.ELEMENTS", 1 << 15)
            patch.setattr("pipeline.label.labels.ELEMENTS", 1 << 12)
            parts = label_layer(*asked)
        for field in fields(whole):
            a, b = getattr(whole, field.name), getattr(parts, field.name)
            same = torch.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) if isinstance(a, torch.Tensor) else a == b
            assert same, (function, field.name)
        assert label_layer(*asked).rows() == whole.rows()


def test_calibrated_labels_do_not_depend_on_the_neighbours(world):
    peaks, windows = world["layers"][1]
    both = [
        label_layer(peaks[:, :n], windows[:, :n], world["similarities"], world["fit"], world["texts"], quick())
        for n in (10, 100)
    ]
    assert torch.equal(both[0].text, both[1].text[:10])
    assert_close(both[0].z, both[1].z[:10], 1e-5)


def test_the_seed_decides_the_shuffles_and_no_text(world):
    """All of a neuron's texts and their z come from a formula; the shuffles say how likely the best is by chance."""
    asked = (*planted(world, ["red"]), world["similarities"], world["fit"], world["texts"])
    one, two = (label_layer(*asked, quick(seed=seed)) for seed in (0, 1))
    assert torch.equal(one.candidates, two.candidates)
    assert torch.equal(one.candidate_z, two.candidate_z)
    assert not torch.equal(one.standing, two.standing)
    assert torch.allclose(one.standing, two.standing, rtol=0.3)
    drawn = [label_layer(*asked, quick(seed=seed, similarity="rank_reorder")).z for seed in (0, 1)]
    assert drawn[0] != drawn[1], "what has no formula is standardised by the draws"


def test_half_precision_peaks_do(world):
    peaks, windows = world["layers"][3]
    asked = (world["similarities"], world["fit"], world["texts"], quick())
    whole, half = (label_layer(p, windows, *asked) for p in (peaks, peaks.half()))
    assert (whole.text == half.text).double().mean() > 0.97


def test_how_many_images_count_as_strongest():
    assert strongest_count(25_000, LabelSettings()) == 100
    assert strongest_count(1000, LabelSettings()) == 100
    assert strongest_count(500, LabelSettings()) == 50
    assert strongest_count(20, LabelSettings()) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fit": torch.ones(800, dtype=torch.bool)}, "0 to check them"),
        ({"texts": ("one", "two")}, "similarities to 40 texts, 2 texts"),
        ({"windows": torch.full((800, 3), 9)}, "windows up to 9"),
        ({"peaks": torch.zeros(700, 3)}, "do not belong to one set"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(world, change, told):
    given = {
        "peaks": torch.rand(800, 3),
        "windows": torch.zeros(800, 3, dtype=torch.uint8),
        "similarities": world["similarities"],
        "fit": world["fit"],
        "texts": world["texts"],
        "settings": LabelSettings(view="crop"),
    }
    with pytest.raises(BadConfig, match=told):
        label_layer(**(given | change))


def test_bad_settings_and_numbers_are_refused(world):
    with pytest.raises(BadConfig, match="expected crop, image or both"):
        LabelSettings(view="window")
    with pytest.raises(BadConfig, match="at least 20"):
        LabelSettings(permutations=5)
    peaks = torch.rand(800, 3)
    asked = (torch.zeros(800, 3, dtype=torch.uint8), world["similarities"], world["fit"], world["texts"])
    with pytest.raises(BadConfig, match="nearest: soft_wpmi"):
        label_layer(peaks, *asked, quick(similarity="soft_wmpi"))
    peaks[5, 1] = torch.nan
    with pytest.raises(NotFinite, match="peaks"):
        label_layer(peaks, *asked, quick())
