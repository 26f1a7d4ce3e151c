"""The procedural pictures: reproducible, labelled rightly, and told truly in captions."""

import numpy as np
import pytest

from atlas_schema.errors import BadConfig
from pipeline.zoo.captions import WordTokenizer, caption, prompts
from pipeline.zoo.world import ATTRIBUTES, CENTRES, HELD_OUT_SEED, RADIUS, SIZE, labels_for, scenes

ONE_OF_EACH = {"shape": "square", "colour": "red", "texture": "plain", "size": "large", "position": "centre"}


def test_a_scene_depends_on_seed_and_index_alone():
    together = scenes(3, range(40))
    alone = scenes(3, [17])
    backwards = scenes(3, range(39, -1, -1))
    assert np.array_equal(together.images[17], alone.images[0])
    assert np.array_equal(together.images, backwards.images[::-1])
    assert np.array_equal(together.labels, labels_for(3, range(40)))
    assert not np.array_equal(together.images, scenes(4, range(40)).images)


def test_a_scene_has_the_declared_form():
    batch = scenes(0, [0, 2**40])
    assert batch.images.shape == (2, SIZE, SIZE, 3)
    assert batch.images.dtype == np.uint8
    assert batch.masks.shape == (2, SIZE, SIZE)
    assert batch.labels.shape == (2, len(ATTRIBUTES))
    assert set(batch.words(0)) == set(ATTRIBUTES)


def test_every_value_is_equally_frequent_and_attributes_are_independent():
    labels = labels_for(HELD_OUT_SEED, range(20_000))
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        share = np.bincount(labels[:, column], minlength=len(values)) / len(labels)
        assert np.abs(share * len(values) - 1).max() < 0.15, name
    correlation = np.corrcoef(labels.T) - np.eye(len(ATTRIBUTES))
    assert np.abs(correlation).max() < 0.03


def test_fixing_an_attribute_changes_nothing_else():
    free = scenes(5, range(30))
    red = scenes(5, range(30), {"colour": "red"})
    column = list(ATTRIBUTES).index("colour")
    assert (red.labels[:, column] == 0).all()
    assert np.array_equal(np.delete(free.labels, column, 1), np.delete(red.labels, column, 1))
    assert np.array_equal(free.masks, red.masks)
    outside = ~_grown(free.masks)
    assert np.array_equal(free.images[outside], red.images[outside])


def test_the_mask_is_where_the_object_is():
    """Two colours of one scene differ inside the mask, and nowhere beyond its smooth edge."""
    red, blue = (scenes(6, range(60), {"colour": c, "texture": "plain"}) for c in ("red", "blue"))
    differs = (red.images != blue.images).any(axis=3)
    assert differs[red.masks].mean() > 0.99
    assert not differs[~_grown(red.masks)].any()


def test_the_mask_has_the_labelled_size_and_place():
    batch = scenes(7, range(300), {"shape": "disk"})
    area = batch.masks.sum(axis=(1, 2))
    radius = np.sqrt(area / np.pi) / 0.93  # the disk's outline, as a share of the radius
    low, high = np.array(RADIUS)[batch.labels[:, 3]].T
    assert (radius > low - 0.3).all()
    assert (radius < high + 0.3).all()
    y, x = (np.indices((SIZE, SIZE)) + 0.5)[:, None]
    centre = np.array(CENTRES)
    position = batch.labels[:, 4]
    assert np.abs((batch.masks * x).sum((1, 2)) / area - centre[position % 3]).max() < 2.5
    assert np.abs((batch.masks * y).sum((1, 2)) / area - centre[position // 3]).max() < 2.5


def test_colour_is_of_the_object_and_not_of_the_background():
    batch = scenes(8, range(200), {"texture": "plain"})
    saturation = batch.images.max(axis=3).astype(int) - batch.images.min(axis=3)
    assert np.median(saturation[batch.masks]) > 100
    assert saturation[~_grown(batch.masks)].max() < 40


@pytest.mark.parametrize(
    ("texture", "along", "across"), [("horizontal", 2, 1), ("vertical", 1, 2), ("plain", None, None)]
)
def test_stripes_run_as_they_are_called(texture, along, across):
    batch = scenes(9, range(16), {**ONE_OF_EACH, "texture": texture})
    inside = batch.images[:, 24:40, 24:40].astype(float).sum(axis=3)
    if along is None:
        assert np.ptp(inside, axis=(1, 2)).max() <= 3
    else:
        assert inside.std(axis=along).mean() < 1e-6 < 50 < inside.std(axis=across).mean()


def test_pictures_do_not_change_between_versions():
    """The shipped weights were trained on these pictures: a change of the renderer needs new weights.

    Mean brightness, not bytes: another processor's rounding may move a value by one.
    """
    batch = scenes(0, range(4))
    brightness = batch.images.reshape(4, -1).mean(axis=1)
    assert batch.labels.tolist() == GOLDEN_LABELS
    assert brightness == pytest.approx(GOLDEN_BRIGHTNESS, abs=0.02)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(BadConfig, match=r"'color'.*attribute.*colour"):
        labels_for(0, [0], {"color": "red"})
    with pytest.raises(BadConfig, match=r"'gren'.*colour.*green"):
        labels_for(0, [0], {"colour": "gren"})
    with pytest.raises(BadConfig, match=r"'hue'.*shape, colour"):
        prompts("hue")


def test_a_caption_tells_all_attributes():
    labels = [5, 0, 1, 2, 0, 3]
    assert caption(labels) == ("a large red star with horizontal stripes at the top left on a speckled background")
    assert caption(labels, [False, True, False, False, False, False]) == "a red object"
    assert caption([0, 1, 0, 0, 4, 0], [False, True, True, False, True, False]) == (
        "an orange object in one plain colour in the centre"
    )


def test_different_scenes_have_different_captions():
    rows = {tuple(row) for row in labels_for(2, range(3000))}
    assert len({caption(row) for row in rows}) == len(rows)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_prompts_name_each_value_once(attribute):
    texts = prompts(attribute)
    assert len(set(texts)) == len(ATTRIBUTES[attribute])


def test_tokens_are_the_words_in_order_and_the_last_is_the_greatest():
    tokenizer = WordTokenizer()
    text = "a large red star with horizontal stripes at the top left on a speckled background"
    ids = tokenizer([text, "A red object."])
    assert ids.shape == (2, tokenizer.context_length)
    assert tokenizer.decode(ids[0]) == text
    assert tokenizer.decode(ids[1]) == "a red object"
    assert ids[0].argmax() == len(text.split()) + 1
    assert int(ids.max()) < tokenizer.vocab_size
    assert tokenizer("a disk").shape == (1, tokenizer.context_length)


def test_the_longest_caption_fits_and_a_longer_text_is_refused():
    tokenizer = WordTokenizer()
    tokenizer([caption(row) for row in labels_for(0, range(2000))])
    with pytest.raises(BadConfig, match="at most 24"):
        tokenizer("red " * 23)


def test_a_word_the_model_has_not_seen_is_refused():
    with pytest.raises(BadConfig, match=r"'stars'.*nearest: star"):
        WordTokenizer()("red stars")


def _grown(masks, by=4):
    """Masks widened by some pixels: beyond lies nothing of the object, not even the thin ends of its tips."""
    padded = np.pad(masks, ((0, 0), (by, by), (by, by)))
    shifts = [(dy, dx) for dy in range(2 * by + 1) for dx in range(2 * by + 1)]
    return np.any([padded[:, dy : dy + SIZE, dx : dx + SIZE] for dy, dx in shifts], axis=0)


GOLDEN_LABELS = [[0, 6, 0, 1, 7, 3], [0, 0, 1, 1, 6, 0], [4, 1, 4, 1, 4, 5], [3, 0, 5, 0, 6, 1]]
GOLDEN_BRIGHTNESS = [145.117, 58.510, 123.202, 210.681]  # mean byte of each picture
