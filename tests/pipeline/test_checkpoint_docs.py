"""docs/checkpoints.md is what the code has, and every form in it is a test."""

from pathlib import Path

import pytest

from pipeline.models import catalogue
from pipeline.models.hub_ids import HUB_NAMES, id_for_hub_name
from pipeline.models.sources import blueprint
from pipeline.models.weights.forms import form_names
from pipeline.models.weights_docs import page
from tests.pipeline import (
    test_checkpoint_files,
    test_checkpoint_forms,
    test_checkpoint_meaning,
    test_checkpoint_pickles,
)

DOCS = Path(__file__).parents[2] / "docs"
WITH_TRANSFORMERS = (Path(__file__).parent / "test_checkpoint_transformers.py").read_text()

#: Forms that have a test of their own, by module.
TESTS = {
    test_checkpoint_forms: {
        "averages in a list": "test_tensors_without_names_are_not_read_and_said",
        "one model under two names": "test_one_model_under_two_names_is_one_model",
        "two models of equal rank": "test_where_no_rule_decides_both_are_named",
        "fp16, bf16, float8, float64": "test_every_precision_is_read_to_the_values_it_holds_and_said",
        "heads of 10, 2 and 1 classes": "test_heads_of_any_number_of_classes",
        "no head": "test_no_head",
        "a head without bias": "test_a_head_without_bias",
        "a head of several layers": "test_a_head_of_several_layers_is_left_out",
        "BEiT's shared table": "test_beits_shared_table_gives_the_same_function",
        "distilled weights, plain architecture": "test_distilled_weights_under_the_plain_architecture_are_refused",
        "an unknown layer within a block": "test_a_part_of_the_encoder_is_never_left_out",
        "adapters (LoRA)": "test_adapters_are_called_so",
        "integers for weights": "test_integers_are_no_weights",
        "NaN in a weight that is used": "test_nan_matters_only_in_what_is_used",
    },
    test_checkpoint_meaning: {
        "a rectangle": "test_a_rectangle_names_its_sizes_and_is_equal_at_them",
        "a rectangle of a square number of patches": "test_a_grid_that_could_be_a_square_is_no_guess",
        "another resolution": "test_resampling_is_said_with_from_and_to",
        "Swin's window of 12 into 7": "test_swins_window_of_12_is_not_one_of_7",
        "OpenAI's weights under GELU": "test_openais_weights_are_never_run_with_gelu",
        "Swin's official files": "test_official_swin_files",
        "Swin v2's window of 16 into 8": "test_official_swin_v2_files_say_their_window",
        "DINOv2's own names with registers": "test_dinov2s_own_names_with_registers",
        "open_clip's epoch_1.pt": "test_open_clips_training_checkpoint",
        "OpenAI's names in timm's architecture": "test_openais_names_in_timms_architecture",
        "torchvision's ViT": "test_torchvisions_names",
    },
    test_checkpoint_pickles: {
        "torch.save before 1.6": "test_objects_of_trainers_are_read_past_and_never_made",
        "objects of trainers (omegaconf, Lightning, ...)": "test_objects_of_trainers_are_read_past_and_never_made",
        "objects of one's own classes": "test_the_command_that_keeps_the_tensors_works",
        "a whole pickled module": "test_a_whole_pickled_module_is_refused_with_a_command_that_works",
        "a plain pickle": "test_the_command_that_converts_a_plain_pickle_works",
        "code in a pickle": "test_code_is_never_run_whatever_it_is_called",
        "code in a TorchScript archive": "test_torchscript_that_would_run_code_is_refused",
    },
    test_checkpoint_files: {
        "TorchScript": "test_torchscript_is_read_without_being_run",
        "fp16 TorchScript": "test_half_precision_torchscript",
        "shards with an index": "test_folders_of_hugging_face_and_their_shards",
        "a Hugging Face folder": "test_folders_of_hugging_face_and_their_shards",
        "a folder with one file": "test_a_folder_with_one_file_is_that_file",
        "a folder in a store": "test_folders_in_a_store",
        "a distributed checkpoint (DCP, FSDP)": "test_the_command_for_a_distributed_checkpoint_works",
        "JAX's .npz": "test_jax_archives_are_called_so_and_the_command_works",
        "a program of torch.export": "test_the_command_for_an_exported_program_works",
        "folders of DeepSpeed, TensorFlow and Flax": "test_folders_of_other_kinds_are_called_what_they_are",
        "git-lfs pointers, web pages, HDF5, GGUF, ONNX, pictures, archives, text, nothing": (
            "test_files_of_other_kinds_are_called_what_they_are"
        ),
        "a truncated file": "test_a_file_that_was_cut_off",
        "a byte that changed in a zip": "test_a_byte_that_changed_in_a_zip_is_noticed",
        "a store that refuses": "test_a_store_that_refuses_ends_in_our_error",
    },
}
#: Those whose test needs transformers.
THEIRS = {
    **{name: f'    "{name}": (' for name in ("ViT", "DeiT, distilled", "DINOv2", "DINOv2, registers", "DINOv3")},
    "Swin of transformers": "def test_swin(",
    "SigLIP": "def test_siglip_into_timm(",
    "CLIP": "def test_clip_into_open_clip_and_its_activation_function(",
}


def test_the_page_is_current():
    assert (DOCS / "checkpoints.md").read_text() == page(), "python -m pipeline.models.weights_docs docs/checkpoints.md"


def test_every_form_of_the_page_is_tested_and_every_tested_form_is_on_it():
    tested = [*test_checkpoint_forms.SERIES, *test_checkpoint_forms.PAIRS, *test_checkpoint_forms.ARGUMENTS, *THEIRS]
    for module, names in TESTS.items():
        tested += list(names)
        assert [name for name in names.values() if not callable(getattr(module, name, None))] == []
    assert [text for text in THEIRS.values() if text not in WITH_TRANSFORMERS] == []
    assert sorted(form_names()) == sorted(tested)
    assert len(set(tested)) == len(tested) >= 70


@pytest.mark.parametrize("entry", HUB_NAMES, ids=lambda entry: entry[0][:40])
def test_every_answer_to_a_name_of_the_hub_is_an_id_with_weights(entry):
    alternatives = {"(small|base|large|giant)": "base", "(tiny|small|base)": "tiny", "(base|large)": "large"}
    alternatives |= {"(tiny|small)": "tiny", "(8|16)": "8", "(16|32)": "32", "(224|384)": "384"}
    alternatives |= {"(lvd1689m|sat493m)": "sat493m", "(7-224|12-384)": "12-384", "(256|384|512)": "384"}
    name = entry[0]
    for pattern, example in alternatives.items():
        name = name.replace(pattern, example)
    found = id_for_hub_name(name)
    assert blueprint(found).tag, (name, found)


def test_names_of_the_hub_are_answered_with_the_id_that_works():
    known = {one.id for one in catalogue()}
    for name, told in {
        "facebook/dinov2-small": "timm/vit_small_patch14_dinov2.lvd142m",
        "openai/clip-vit-base-patch32": "open_clip/ViT-B-32/openai",
        "google/vit-base-patch16-224": "timm/vit_base_patch16_224.orig_in21k_ft_in1k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "open_clip/ViT-B-32/laion2b_s34b_b79k",
        "microsoft/swin-tiny-patch4-window7-224": "timm/swin_tiny_patch4_window7_224.ms_in1k",
    }.items():
        assert id_for_hub_name(name) == told
        assert told in known
    assert id_for_hub_name("somebody/something") == ""
