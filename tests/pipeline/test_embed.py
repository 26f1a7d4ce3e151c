"""Views of a picture, and their embeddings by real models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_schema.errors import BadConfig, NotFinite, WeightsMismatch
from pipeline.decompose import representation
from pipeline.images.windows import VIEWS, WINDOWS, window_of, windows_of_grid
from pipeline.label.concepts import read_concepts
from pipeline.label.embedder import image_views, load_embedder
from pipeline.models import ModelRequest, load
from pipeline.zoo import ZOO
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.close import assert_close


@pytest.fixture(scope="module")
def clip():
    return load_embedder(ModelRequest("zoo/clip"))


# ------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(
    "grid", [(1, 1), (2, 2), (3, 3), (4, 4), (7, 7), (8, 8), (15, 15), (16, 16), (14, 7), (37, 37)]
)
def test_a_places_window_has_the_nearest_centre(grid):
    centres = np.array([((t + b) / 2, (left + r) / 2) for t, left, b, r in WINDOWS])
    for row in range(grid[0]):
        for column in range(grid[1]):
            place = np.array([(row + 0.5) / grid[0], (column + 0.5) / grid[1]])
            distance = ((centres - place) ** 2).sum(1)
            assert distance[window_of(row, column, grid)] <= distance.min() + 1e-12


def test_numbers_arrays_and_tensors_alike():
    grid = (8, 6)
    row, column = np.divmod(np.arange(48), 6)
    table = windows_of_grid(grid)
    assert table.dtype == np.uint8
    assert table.tolist() == [window_of(int(r), int(c), grid) for r, c in zip(row, column, strict=True)]
    assert table.tolist() == window_of(torch.from_numpy(row), torch.from_numpy(column), grid).tolist()
    assert set(table.tolist()) == set(range(9))


def test_windows_of_a_mirrored_place_are_mirrored():
    for side in range(1, 20):
        table = windows_of_grid((side, side)).reshape(side, side)
        assert (table[:, ::-1] % 3 == 2 - table % 3).all()
        assert (table % 3 * 3 + table // 3 == table.T).all()


# --------------------------------------------------------------------------------------------------- views


def test_each_view_shows_its_part_of_the_picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 96), indexing="ij")
    views = image_views(torch.stack([y, x, torch.zeros_like(y)]), (48, 48))
    assert views.shape == (VIEWS, 3, 48, 48)
    for view, (top, left, bottom, right) in zip(views, [(0, 0, 1, 1), *WINDOWS], strict=True):
        assert abs(float(view[0].mean()) - (top + bottom) / 2) < 0.01
        assert abs(float(view[1].mean()) - (left + right) / 2) < 0.01
        assert abs(float(view[0, -1].mean() - view[0, 0].mean()) - (bottom - top)) < 0.03


def test_a_large_photograph_is_cropped_before_it_is_made_small(clip):
    """Detail that the whole picture loses at 64 pixels is there in a window: stripes of 1/128 of the side."""
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, (np.arange(512) // 4) % 2 == 0] = 255
    views = clip.views(Image.fromarray(stripes))
    # 128 dark and light pairs: too fine for 64 pixels; in a window two pixels a pair, which bilinear halves to 0.25
    assert views[0].std() < 0.05
    assert views[1].std() > 0.2


def test_image_and_tensor_of_the_same_square_give_the_same_whole(clip):
    array = scenes(HELD_OUT_SEED, [3]).images[0]
    of_image = clip.views(Image.fromarray(array))
    of_tensor = clip.views(torch.from_numpy(array).permute(2, 0, 1).float() / 255)
    assert torch.equal(of_image[0], of_tensor[0])
    assert (of_image - of_tensor).abs().mean() < 0.02  # windows are enlarged by two resamplers


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (2, 3, 64, 64)])
def test_a_tensor_that_is_no_picture_is_refused(shape):
    with pytest.raises(BadConfig, match=r"expected \(3, height, width\)"):
        image_views(torch.zeros(shape), (64, 64))


# --------------------------------------------------------------------------------------------- embeddings


def test_zoo_clip_matches_pictures_and_texts(clip):
    batch = scenes(HELD_OUT_SEED, range(60))
    views = clip.embed_views([Image.fromarray(image) for image in batch.images])
    texts = clip.texts(read_concepts("zoo").prompts)
    assert views.shape == (60, VIEWS, 64)
    assert views.dtype == torch.float32
    assert torch.allclose(views.norm(dim=2), torch.ones(60, VIEWS), atol=1e-5)
    assert torch.allclose(texts.norm(dim=1), torch.ones(40), atol=1e-5)
    colour = (views[:, 0] @ texts[8:16].T).argmax(1).numpy()
    assert (colour == batch.labels[:, 1]).mean() >= 0.95


def test_embeddings_do_not_depend_on_the_batch(clip):
    images = [Image.fromarray(image) for image in scenes(HELD_OUT_SEED, range(7)).images]
    assert torch.allclose(clip.embed_views(images, batch=2), clip.embed_views(iter(images), batch=16), atol=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_every_family_has_a_final_representation_of_the_size_it_says(name):
    embedder = load_embedder(ModelRequest(f"zoo/{name}"))
    views = embedder.embed_views([torch.rand(3, 64, 64), torch.rand(3, 64, 64)])
    assert views.shape == (2, VIEWS, embedder.vision.description.representation_dim)
    assert (embedder.language is not None) is (name == "clip")


def test_a_classifiers_logits_follow_from_its_representation():
    model = load(ModelRequest("zoo/twins"))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model.module.head(representation(model, x)), model.module(x), 1e-6)


def test_half_precision_is_close(clip):
    images = [torch.from_numpy(i).permute(2, 0, 1).float() / 255 for i in scenes(HELD_OUT_SEED, range(4)).images]
    exact = clip.embed_views(images)
    assert (exact - exact.half().float()).abs().max() < 1e-3


@pytest.fixture(scope="module")
def tiny_open_clip(tmp_path_factory):
    """An architecture of open_clip's own kind, small, under a name of its own in open_clip's registry."""
    import open_clip

    file = tmp_path_factory.mktemp("open_clip") / "atlas-tiny.json"
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    file.write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(file)
    return "open_clip/atlas-tiny"


def test_open_clips_own_text_tower_and_tokenizer_without_network(tiny_open_clip):
    """Random weights: sizes, lengths and determinism are what can be asked of them."""
    request = ModelRequest(tiny_open_clip, random_weights=True)
    one, two = load_embedder(request), load_embedder(request)
    texts = one.texts(["a dog", "a cat", "a dog"])
    assert texts.shape == (3, 32)
    assert torch.equal(texts[0], texts[2])
    assert not torch.allclose(texts[0], texts[1], atol=1e-3)
    assert torch.equal(texts, two.texts(["a dog", "a cat", "a dog"]))
    assert one.pictures(torch.rand(1, 3, 64, 64)).shape == (1, 32)


def test_a_file_of_a_whole_open_clip_gives_both_sides(tiny_open_clip, tmp_path):
    """Picture and text as open_clip's own model with these weights embeds them; a vision tower alone reads no texts,
    and a text side that lacks something is refused.
    """
    import open_clip

    torch.manual_seed(1)
    whole = open_clip.create_model("atlas-tiny", load_weights=False).eval()
    torch.save(whole.state_dict(), tmp_path / "clip.pt")
    embedder = load_embedder(ModelRequest(tiny_open_clip, weights=str(tmp_path / "clip.pt"), name="mine"))
    words, picture = ["a dog", "two cats"], torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        texts = whole.encode_text(open_clip.get_tokenizer("atlas-tiny")(words), normalize=True)
        pictures = whole.encode_image(embedder.vision.normalise(picture), normalize=True)
    assert torch.allclose(embedder.texts(words), texts, atol=1e-5)
    assert torch.allclose(embedder.pictures(picture), pictures, atol=1e-5)
    torch.save({k: v for k, v in whole.state_dict().items() if k.startswith("visual.")}, tmp_path / "vision.pt")
    half = load_embedder(ModelRequest(tiny_open_clip, weights=str(tmp_path / "vision.pt"), name="half"))
    assert torch.equal(half.pictures(picture), embedder.pictures(picture))
    with pytest.raises(BadConfig, match="its weights came without one"):
        half.texts(words)
    torch.save({k: v for k, v in whole.state_dict().items() if k != "text_projection"}, tmp_path / "most.pt")
    with pytest.raises(WeightsMismatch, match=r"1 tensors of the text side .*text_projection"):
        load_embedder(ModelRequest(tiny_open_clip, weights=str(tmp_path / "most.pt"), name="most"))


SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}


def _same_texts(request: ModelRequest, whole) -> None:
    """Texts as a whole CLIP of open_clip embeds them."""
    import open_clip

    words = ["a dog", "two cats on a red sofa"]
    with torch.no_grad():
        wanted = whole.encode_text(open_clip.get_tokenizer("ViT-B-32")(words), normalize=True)
    assert torch.allclose(load_embedder(request).texts(words), wanted, atol=1e-5)


@pytest.fixture
def quick_clip():
    """A small CLIP with QuickGELU in both towers, and its configuration."""
    from open_clip.model import CLIP

    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
        "text_cfg": {"width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(2)
    whole = CLIP(**config, quick_gelu=True).eval()
    for part in whole.parameters():
        part.data += 0.1 * torch.randn_like(part)  # far from its start, so that activation functions differ
    return whole, config


def test_a_folder_of_open_clip_reads_texts(quick_clip, tmp_path):
    """`open_clip/local-dir:FOLDER` is known by its last part alone, and its text side was looked for under that."""
    import safetensors.torch

    whole, config = quick_clip
    folder = tmp_path / "kept" / "my-clip"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config | {"quick_gelu": True}}))
    safetensors.torch.save_file(whole.state_dict(), folder / "open_clip_model.safetensors")
    _same_texts(ModelRequest(f"open_clip/local-dir:{folder}"), whole)


def test_arguments_hold_for_the_text_side_too(quick_clip, tiny_open_clip, tmp_path):
    """`--model-args quick_gelu=true`: both towers were trained with it."""
    whole, _ = quick_clip
    torch.save({f"module.{key}": value for key, value in whole.state_dict().items()}, tmp_path / "clip.pt")
    request = ModelRequest(
        tiny_open_clip, weights=str(tmp_path / "clip.pt"), name="quick", arguments=(("quick_gelu", True),)
    )
    _same_texts(request, whole)


def test_transformers_clip_reads_texts(tmp_path, monkeypatch):
    """A folder of the hub, as transformers writes it: its embeddings of texts are transformers' own."""
    import open_clip
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    from pipeline.models import hub_models

    text = {**SIZES, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406}
    vision = {**SIZES, "image_size": 64, "patch_size": 32}
    torch.manual_seed(3)
    theirs = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()
    for part in theirs.parameters():
        part.data += 0.1 * torch.randn_like(part)
    theirs.save_pretrained(tmp_path / "their-clip")
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
        "text_cfg": {"width": 64, "heads": 2, "layers": 2},
    }
    (tmp_path / "their-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "their-tiny.json")
    monkeypatch.setitem(hub_models.CLIP, (64, 2, 32), "their-tiny")
    embedder = load_embedder(ModelRequest(str(tmp_path / "their-clip")))
    words, picture = ["a dog", "two cats on a red sofa"], torch.rand(2, 3, 64, 64)
    tokens = open_clip.get_tokenizer("their-tiny")(words)
    with torch.no_grad():
        read = theirs(input_ids=tokens, pixel_values=embedder.vision.normalise(picture))
    assert torch.allclose(embedder.texts(words), read.text_embeds, atol=1e-5)
    assert torch.allclose(embedder.pictures(picture), read.image_embeds, atol=1e-5)
    alone = CLIPVisionModelWithProjection(CLIPVisionConfig(**vision, projection_dim=32))
    alone.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in alone.state_dict()})
    alone.save_pretrained(tmp_path / "their-tower")
    tower = load_embedder(ModelRequest(str(tmp_path / "their-tower")))
    assert tower.language is None
    assert torch.equal(tower.pictures(picture), embedder.pictures(picture))


def test_the_text_side_is_not_built_with_a_second_picture_tower(monkeypatch):
    """A ViT-L's 1.2 GB more, for the time in which its texts are read: 0.3 % of them is."""
    import open_clip
    from torch import nn

    from pipeline.models.sources import blueprint

    plan, built = blueprint("open_clip/ViT-L-14"), []
    with torch.device("meta"):
        tower = sum(part.numel() for part in plan.build().parameters())
        real = open_clip.model._build_vision_tower

        def noted(*given, **named) -> nn.Module:
            built.append(real(*given, **named))
            return built[-1]

        monkeypatch.setattr(open_clip.model, "_build_vision_tower", noted)
        side = plan.texts.build()
    assert side.visual is None
    (beside,) = built
    assert sum(part.numel() for part in beside.parameters()) < tower / 300


def _text_sides() -> list[str]:
    import open_clip

    return [
        one for one in open_clip.list_models() if "hf_model_name" not in open_clip.get_model_config(one)["text_cfg"]
    ]


def _kept(module) -> tuple[object, ...]:
    """The class, the tensors by name and shape, and the activation functions of a CLIP but for its picture tower."""
    tensors = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    parts = {type(part).__name__ for name, part in module.named_modules() if not name.startswith("visual")}
    return (
        type(module),
        {key: shape for key, shape in tensors.items() if not key.startswith("visual.")},
        {part for part in parts if "gelu" in part.lower()},
    )


@pytest.mark.parametrize(
    "names",
    [
        ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16-SigLIP2", "coca_ViT-B-32", "MobileCLIP-B"),
        pytest.param((), marks=pytest.mark.slow, id="all that need no file of transformers"),
    ],
)
def test_a_text_side_is_that_of_open_clips_own_model(names):
    import open_clip

    from pipeline.models.sources import blueprint

    for name in names or _text_sides():
        with torch.device("meta"):
            whole = open_clip.create_model(name, load_weights=False, device="meta")
            side = blueprint(f"open_clip/{name}").texts.build()
        assert _kept(side) == _kept(whole), name


def test_refusals(clip):
    with pytest.raises(BadConfig, match="zoo/vit has no text tower"):
        load_embedder(ModelRequest("zoo/vit")).texts(["a red object"])
    with pytest.raises(BadConfig, match="'dog'"):
        clip.texts(["a dog"])
    with pytest.raises(BadConfig, match="no texts"):
        clip.texts([])
    with pytest.raises(BadConfig, match="probe set is empty"):
        clip.embed_views([])
    with pytest.raises(NotFinite, match="1 of 2 pictures"):
        clip.pictures(torch.stack([torch.zeros(3, 64, 64), torch.full((3, 64, 64), torch.nan)]))
