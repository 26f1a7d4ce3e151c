"""`neuron-atlas`: the commands, their exit codes, and how errors are told.

Exit codes: 0 done, 1 work failed or violations found, 2 misuse, 130 and 143 interrupted. Commands live in
`jobs.commands` and are imported when they are called; nothing here or there loads torch, ray, timm or pyarrow
before a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from atlas_schema.errors import AtlasError

HELP = """Look at every neuron of a vision transformer, and publish what was found.

Begin with a demonstration that needs no network and no GPU:

    neuron-atlas demo --out demo
"""

# command -> (function, one line for the list of commands, example)
COMMANDS = {
    "demo": (
        "demo:demo",
        "Run all stages on the zoo models, and show the site as it fills: no network, no GPU.",
        "--out demo",
    ),
    "models": ("data:models", "List the checkpoints that can be asked for by name.", '"timm/deit*"'),
    "plan": (
        "work:plan",
        "Say what a run would do and cost, without weights or network.",
        "--model timm/deit_tiny_patch16_224 --json",
    ),
    "run": (
        "work:run",
        "Compute what is missing of an atlas; run the same command again to resume.",
        "--model zoo/vit --units 0:16 --out atlas",
    ),
    "status": ("data:status", "Say what of an atlas is committed.", "demo/atlas"),
    "submit": (
        "submit:submit",
        "Carry out plan, run or status on a Ray cluster from outside, as a job.",
        "--address http://HEAD:8265 --follow -- run --model zoo/vit --out s3://bucket/atlas",
    ),
    "validate": ("data:validate", "Check an atlas: schema, counts, keys, images, gaps.", "demo/atlas"),
    "clean": ("clean:clean", "Say what of an atlas is no longer needed, and remove it.", "demo/atlas"),
    "show": (
        "data:show",
        "Print the numbers of a neuron or a head; save or open a neuron's picture.",
        "zoo-vit/mlp/3/17 --atlas demo/atlas --image neuron.png",
    ),
    "search": (
        "data:search",
        "Find neurons by their label, heads by their texts, features by their name.",
        '"stripes" --atlas demo/atlas',
    ),
    "diff": (
        "diff:diff",
        "Say what changed between two checkpoints of one architecture, or two versions of an atlas.",
        "atlas --models my-dino my-dino-tuned",
    ),
    "heatmap": (
        "heatmap:heatmap",
        "Draw where in a picture a model sees a text, a class or another picture.",
        "--model zoo/clip --image scene.png --text 'a red object' --against 'a blue object'",
    ),
    "retrieve": (
        "retrieve:retrieve",
        "Find images by what some heads say of them: by colour alone, by shape alone.",
        '--model zoo/clip --probe zoo:500 --feature colour --text "a red object"',
    ),
    "spurious": (
        "spurious:spurious",
        "Leave out what a model makes of a feature that misleads it, and see what its worst group gains.",
        "--model zoo/clip --train DIR --test a=DIR --test b=DIR --probe zoo:500 --core shape --spurious background",
    ),
    "push": (
        "publish:push",
        "Publish an atlas as a Hugging Face dataset, or to another folder or URL.",
        "demo/atlas hf://datasets/ORG/NAME --tag v1",
    ),
    "pull": (
        "publish:pull",
        "Fetch an atlas, or some models, layers or tables of one, so that a run extends it.",
        "hf://datasets/ORG/NAME --model zoo-vit --out atlas",
    ),
    "merge": (
        "publish:merge",
        "Make one atlas of two that were made with the same probe images.",
        "atlas their-atlas --out both",
    ),
    "card": ("data:card", "Write the dataset card (README.md) of an atlas again.", "demo/atlas"),
}
GROUPS = {
    "site": (
        "Build the static site of an atlas, and look at it.",
        {
            "build": (
                "site:build",
                "Build the static site of an atlas: any file host can serve it.",
                "demo/atlas --out demo/site",
            ),
            "serve": (
                "site:serve",
                "Serve a built site on this machine, until Ctrl-C.",
                "demo/site --port 8000",
            ),
        },
    ),
    "check": (
        "Check what the project claims on a model of yours.",
        {
            "decomposition": (
                "check:decomposition",
                "Check that a representation is the sum of its heads, FFNs, image and constants.",
                "--model timm/deit_tiny_patch16_224 --random-weights --json",
            ),
            "weights": (
                "check_weights:weights",
                "Say what a file of weights is, which architectures fit it, and the run that works.",
                "checkpoint.pth --model timm/vit_small_patch14_dinov2",
            ),
        },
    ),
    "study": (
        "Repeat an experiment of the papers on a model of yours.",
        {
            "associations": (
                "study:associations",
                "Say which words a CLIP's text tower holds nearer to one group of words than to another.",
                "words.toml --model open_clip/ViT-B-32/openai",
            ),
            "inversion-ablations": (
                "inversion_studies:inversion_ablations",
                "Invert classes by Plug-In Inversion, whole and without each of its parts.",
                "--model zoo/vit --classes 0-3 --readers zoo/deit,zoo/pit --steps 50 --sheet ablations.webp",
            ),
            "inversion-scale": (
                "inversion_studies:inversion_scale",
                "Compare inversions of models of other sizes, or trained on other amounts.",
                "--model open_clip/ViT-B-32/openai --model open_clip/ViT-L-14/openai --prompts texts.txt",
            ),
        },
    ),
    "zoo": (
        "The small models that ship with the project.",
        {
            "train": (
                "zoo:train",
                "Train zoo models from scratch on the procedural images: minutes a model.",
                "vit --out zoo-weights",
            ),
        },
    ),
}


def make_app() -> App:
    """All commands by import path: resolving one imports its module, listing them imports none."""
    app = App(
        name="neuron-atlas",
        help=HELP,
        version=_version,
        help_format="markdown",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(show_default=_default),
    )
    for name, entry in COMMANDS.items():
        _register(app, "neuron-atlas", name, *entry)
    for group, (line, commands) in GROUPS.items():
        inner = App(name=group, help=line)
        for name, entry in commands.items():
            _register(inner, f"neuron-atlas {group}", name, *entry)
        app.command(inner)
    return app


def _default(value: Any) -> str | None:
    """What the help says is taken where an option is not given; nothing where nothing is."""
    return None if value is None or value is False or value == () else str(value)


def _register(app: App, parent: str, name: str, path: str, line: str, example: str) -> None:
    app.command(
        f"jobs.commands.{path}",
        name=name,
        help=line,
        help_epilogue=f"Example:\n\n    {parent} {name} {example}",
    )


def _version() -> str:
    from jobs.version import code_version

    return code_version()


def call(tokens: Sequence[str]) -> int:
    """Run one command line; its exit code. Errors of the user's become one short message on stderr."""
    try:
        result = make_app()(list(tokens), exit_on_error=False, print_error=True)
    except CycloptsError:  # already told, with the nearest valid name
        return 2
    except AtlasError as error:
        print(f"neuron-atlas: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as signal:
        print("neuron-atlas: interrupted", file=sys.stderr)
        return getattr(signal, "exit_code", 130)
    except BrokenPipeError:  # `| head` closed our output: there is nobody to tell
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


def main() -> None:
    sys.exit(call(sys.argv[1:]))
