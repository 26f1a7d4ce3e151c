"""Embeddings of pictures and texts by a CLIP, or of pictures alone by any other model, all of length 1.

A view is the whole picture or one of its nine windows (`pipeline.images.windows`). Views are embedded once for a
probe set and serve every neuron of every model: ten vectors an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from atlas_schema.errors import AtlasError, BadConfig, NoNetwork, NotFinite
from pipeline import zoo
from pipeline.images.windows import VIEWS, WINDOWS
from pipeline.label.concepts import knows_few_words
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.description import blueprint_of
from pipeline.models.open_clip_text import TextSide, Tokenizer, fill
from pipeline.models.preprocess import RESAMPLING, centre_of, pixels_of
from pipeline.models.representation import representation

TEXTS_AT_ONCE = 64  # that a text tower reads: of 256, what a ViT-L holds is more than the weights of its text tower


@dataclass(frozen=True)
class Embedder:
    """A model as a measure of likeness between pictures and, for a CLIP, between pictures and texts."""

    vision: LoadedModel
    language: nn.Module | None = None  # of a CLIP, what has `encode_text`; its picture tower is `vision`
    tokenizer: Tokenizer | None = None

    @property
    def slug(self) -> str:
        return self.vision.description.slug

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels of a view."""
        return self.vision.description.input_size

    @torch.inference_mode()
    def pictures(self, x01: Tensor, *, batch: int = 128) -> Tensor:
        """(pictures, 3, height, width) in [0, 1], of the input size -> float32 (pictures, d), each of length 1."""
        device = self.vision.device
        dtype = next(p.dtype for p in self.vision.module.parameters() if p.is_floating_point())
        parts = [
            representation(self.vision, self.vision.normalise(part.to(device, dtype))) for part in x01.split(batch)
        ]
        return _unit(torch.cat(parts), self.slug, "pictures")

    @torch.inference_mode()
    def texts(
        self, texts: Sequence[str], *, batch: int = TEXTS_AT_ONCE, on_step: Callable[[], None] = lambda: None
    ) -> Tensor:
        """float32 (texts, d), each of length 1. on_step: called before each batch.

        BadConfig where the model reads no text or not these words.
        """
        if self.language is None or self.tokenizer is None:
            raise BadConfig(
                f"{self.vision.description.id} has no text tower, or its weights came without one, so it cannot "
                "compare pictures with texts. Take a CLIP: zoo/clip or open_clip/NAME/TAG."
            )
        if not texts:
            raise BadConfig("no texts to embed: expected at least one.")
        language: Any = self.language
        parts = []
        for start in range(0, len(texts), batch):
            on_step()
            tokens = self.tokenizer(list(texts[start : start + batch])).to(self.vision.device)
            parts.append(language.encode_text(tokens))
        return _unit(torch.cat(parts), self.slug, "texts")

    def check_texts(self, texts: Sequence[str]) -> None:
        """BadConfig where the model reads no text or not these words: said before hours are spent.

        Only a text tower that knows few words is given all of them.
        """
        self.texts(texts if knows_few_words(self.vision.description.id) else texts[:1])

    def embed_views(self, images: Iterable[Image.Image | Tensor], *, batch: int = 16) -> Tensor:
        """float32 (images, VIEWS, d): the whole and the nine windows of each image, each vector of length 1.

        images: PIL images, or tensors (3, height, width) in [0, 1] of the square that models see. At most
        `batch` images are held at a time. BadConfig without images.
        """
        parts = [
            self.pictures(torch.cat([self.views(image) for image in some])).unflatten(0, (len(some), VIEWS)).cpu()
            for some in _batches(images, batch)
        ]
        if not parts:
            raise BadConfig("no images to embed: the probe set is empty.")
        return torch.cat(parts)

    def views(self, image: Image.Image | Tensor) -> Tensor:
        """float32 (VIEWS, 3, height, width): the whole image, then its windows, all at the model's input size."""
        if isinstance(image, Tensor):
            return image_views(image, self.input_size)
        description = self.vision.description
        resampling = RESAMPLING.get(description.interpolation, Image.Resampling.BICUBIC)
        # a window spans half the side: at twice the size, windows are crops and are resampled once only
        double = centre_of(image.convert("RGB"), (2 * self.input_size[0], 2 * self.input_size[1]), resampling)
        return torch.cat([pixels_of(image, description)[None], _windows(_tensor(double))])


def load_embedder(
    request: ModelRequest, device: str | torch.device = "cpu", *, vision: LoadedModel | None = None
) -> Embedder:
    """The embedder of a model id: picture and text of zoo/clip and of CLIPs that open_clip builds, else pictures alone.

    The vision side is exactly what `pipeline.models.load` gives; `vision`: this, where the caller has it. Raises what
    that raises, and NoNetwork where the text side needs files that are not there.
    """
    vision = vision or load(request, device)
    texts = blueprint_of(request).texts
    if texts is not None:
        found = _text_side(texts, request, vision)
        return Embedder(vision) if found is None else Embedder(vision, _ready(found[0], vision), found[1])
    own = zoo.zoo_name(vision.description.id)
    if own in zoo.READS_TEXT:
        from pipeline.zoo.captions import WordTokenizer

        clip = zoo.build(own)
        clip.load_state_dict(zoo.load_state(own))
        return Embedder(vision, _ready(clip, vision), WordTokenizer())
    return Embedder(vision)


def image_views(square: Tensor, size: tuple[int, int]) -> Tensor:
    """(VIEWS, 3, *size) from one square picture (3, height, width) in [0, 1]: the whole, then windows 0 to 8.

    Resampled bicubically with antialiasing; a picture that has the size already is taken as it is.
    """
    if square.ndim != 3 or square.shape[0] != 3:
        raise BadConfig(f"a picture of shape {tuple(square.shape)}: expected (3, height, width).")
    return torch.cat([_resized(square, size)[None], _windows(_resized(square, (2 * size[0], 2 * size[1])))])


def _windows(double: Tensor) -> Tensor:
    """(9, 3, h, w) out of a picture (3, 2 h, 2 w); by the shares of WINDOWS, exact because sides are even."""
    height, width = double.shape[1:]
    boxes = [(round(t * height), round(left * width)) for t, left, _, _ in WINDOWS]
    return torch.stack([double[:, y : y + height // 2, x : x + width // 2] for y, x in boxes])


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(picture.shape[1:]) == size:
        return picture.float()
    grown = functional.interpolate(
        picture[None].float(), size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return grown[0].clamp(0, 1)  # bicubic overshoots at edges


def _tensor(image: Image.Image) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


def _batches(images: Iterable[Image.Image | Tensor], size: int) -> Iterator[list[Image.Image | Tensor]]:
    held: list[Image.Image | Tensor] = []
    for image in images:
        held.append(image)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def _unit(vectors: Tensor, slug: str, what: str) -> Tensor:
    vectors = vectors.float()
    bad = ~torch.isfinite(vectors).all(dim=1)
    if bad.any():
        raise NotFinite(
            f"{slug}: the embeddings of {int(bad.sum())} of {len(vectors)} {what} are NaN or infinite. "
            "The weights are damaged, or the precision is too low for them."
        )
    return functional.normalize(vectors, dim=1)


def _ready(language: nn.Module, vision: LoadedModel) -> nn.Module:
    """Beside the vision tower, as it is: on its device, in its precision. zoo/clip's own one is not held twice."""
    language.visual = None  # type: ignore[assignment]
    dtype = next(p.dtype for p in vision.module.parameters() if p.is_floating_point())
    return language.eval().requires_grad_(False).to(device=vision.device, dtype=dtype)


def _text_side(texts: TextSide, request: ModelRequest, vision: LoadedModel) -> tuple[nn.Module, Tokenizer] | None:
    """What reads texts in an open_clip model, with the weights of the request, and its tokenizer; None where these
    weights are its picture tower's alone.
    """
    from pipeline.models.load import RANDOM_SEED

    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(RANDOM_SEED)
            language = texts.build()
        tensors = {} if request.random_weights else _tensors(request)
    except AtlasError:
        raise
    except Exception as error:
        raise NoNetwork(_unreachable(request.model, "text tower", error)) from error
    location = request.weights or request.model
    if tensors and not fill(language, tensors, location, vision.module, vision.description.id):
        return None
    try:
        return language, texts.tokenizer()
    except Exception as error:
        raise NoNetwork(_unreachable(request.model, "tokenizer", error)) from error


def _tensors(request: ModelRequest) -> dict[str, Tensor]:
    """All tensors of the weights of a request, of the file or of the hub."""
    from pipeline.models.weights import Names, read_weights

    if request.weights:
        return read_weights(request.weights).tensors
    got = blueprint_of(request).fetch()
    assert not isinstance(got, nn.Module), "open_clip's weights come as tensors"
    return got.tensors if isinstance(got, Names) else got


def _unreachable(model: str, what: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return (
        f"{model}: its {what} is neither in the local cache nor can it be fetched from the hub.\n  {reason}\n"
        "Connect this machine once (files are kept), set HF_ENDPOINT to a mirror or HF_HOME to a filled cache, or "
        "take zoo/clip, which is shipped."
    )
