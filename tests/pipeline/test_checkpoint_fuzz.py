"""Whatever is done to a small checkpoint: a model equal to its source, or an AtlasError."""

import functools
import io

import hypothesis
import hypothesis.strategies as st
import safetensors.torch
import timm
import torch

from atlas_schema.errors import AtlasError
from pipeline.models.weights import fit, read_weights
from tests.pipeline.checkpoints import made

#: The prefix under which a whole model may come to stand; no rule takes one of these before another.
PREFIXES = ("", "net.", "module.", "model.backbone.")
SETTINGS = hypothesis.settings(
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    database=None,
    derandomize=True,
)


@functools.lru_cache(maxsize=1)
def source() -> dict[str, torch.Tensor]:
    return made(num_classes=7, depth=1).state_dict()


def outcome(path) -> dict[str, torch.Tensor] | AtlasError:
    """What a file becomes. Any other error fails the test."""
    module = timm.create_model("test_vit", num_classes=7, depth=1).eval()
    try:
        fit(module, read_weights(str(path)))
    except AtlasError as error:
        return error
    return module.state_dict()


def assert_source_or_error(found, *, but: set[str] = frozenset()) -> None:
    """but: names of the head, which may be missing, and is then zero."""
    if isinstance(found, AtlasError):
        assert "Traceback" not in str(found)
        assert str(found)
        return
    for name, value in source().items():
        if name not in but:
            assert torch.equal(found[name], value), name


@st.composite
def changed_names(draw) -> dict[str, torch.Tensor]:
    """The source's state dict with names, shapes and types changed, left out and added."""
    state = dict(source())
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(state)))
        what = draw(st.sampled_from(("drop", "rename", "shape", "type", "double", "add")))
        if what == "drop":
            del state[name]
        elif what == "rename":
            state[draw(st.text("abc.0_é", min_size=1, max_size=12))] = state.pop(name)
        elif what == "shape":
            state[name] = state[name].flatten()[: draw(st.integers(0, 40))].reshape(-1)
        elif what == "type":
            kinds = (torch.int8, torch.bool, torch.complex64, torch.int64)
            state[name] = state[name].to(draw(st.sampled_from(kinds)))
        elif what == "double":
            state[draw(st.sampled_from(PREFIXES[1:])) + name] = torch.zeros_like(state[name])
        else:
            extra = draw(
                st.sampled_from(("head.0.weight", "decoder.x", "blocks.0.mlp.extra", "blocks.7.norm1.weight", "x"))
            )
            state[extra] = torch.ones(draw(st.integers(0, 3)), 2)
    prefix = draw(st.sampled_from(PREFIXES))
    return {prefix + name: value for name, value in state.items()}


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(changed_names())
def test_changed_names_shapes_and_types(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    torch.save(state, path)
    head = {name for name in ("head.weight", "head.bias") if not any(key.endswith(name) for key in state)}
    assert_source_or_error(outcome(path), but=head)


@functools.lru_cache(maxsize=2)
def stored(form: str) -> bytes:
    if form == "safetensors":
        return safetensors.torch.save(source())
    sink = io.BytesIO()
    torch.save({"state_dict": source(), "epoch": 3}, sink)
    return sink.getvalue()


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(st.data())
def test_changed_bytes_of_a_torch_file(tmp_path_factory, data):
    """Its zip format has sums of every entry: no byte changes without notice."""
    kept = bytearray(stored("torch"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(kept) - 1))
        kept[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(kept[: data.draw(st.sampled_from((len(kept), data.draw(st.integers(0, len(kept))))))])
    assert_source_or_error(outcome(path))


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(st.data())
def test_changed_bytes_in_the_header_of_a_safetensors_file(tmp_path_factory, data):
    """Its numbers carry no sums: the header alone is changed, or the end is cut off.

    Names of the head may become those of another one, which is left out and said.
    """
    kept = bytearray(stored("safetensors"))
    header = 8 + int.from_bytes(kept[:8], "little")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, header - 1))
        kept[place] ^= data.draw(st.integers(1, 255))
    else:
        kept = kept[: data.draw(st.integers(0, len(kept) - 1))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(kept)
    assert_source_or_error(outcome(path), but={"head.weight", "head.bias"})
