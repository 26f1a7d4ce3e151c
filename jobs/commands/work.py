"""plan, run, demo: the commands that decide on work and do it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.config import RunConfig, load_config

if TYPE_CHECKING:
    from jobs.plan import Machine


def _flag(text: str, name: str | None = None) -> Parameter:
    return Parameter(name=name, help=text, negative="")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Every option of `RunConfig` as a flag; None: not given, the file's or the default value holds."""

    model: Annotated[
        list[str] | None,
        _flag(
            "Model id: timm/deit_tiny_patch16_224, open_clip/ViT-B-32/openai, zoo/vit, zoo/*; repeatable.",
            "--model",
        ),
    ] = None
    weights: Annotated[str | None, _flag("Your own weights (safetensors or pth; file or URL) for the one --model.")] = (
        None
    )
    name: Annotated[str | None, _flag("Name of the one model in addresses; needed with --weights.", "--as")] = None
    random_weights: Annotated[bool | None, _flag("Untrained weights from a fixed seed.")] = None
    input_size: Annotated[int | None, _flag("Side of the input in pixels (default: the model's).")] = None
    recipe: Annotated[str | None, _flag("fast or reference (default: fast).")] = None
    seed: Annotated[int | None, _flag("Seed of all random numbers (default: 0).")] = None
    layers: Annotated[str | None, _flag("FFN layers: all, or a list such as 0,5,-1 or 0:4 (default: all).")] = None
    units: Annotated[str | None, _flag("Units of each layer: all, or a list such as 0:16 (default: all).")] = None
    stages: Annotated[
        str | None,
        _flag("visualize,probe,label,effect,match,decompose or some (default: visualize; with --probe: all)."),
    ] = None
    probe: Annotated[
        str | None,
        _flag("Real images to measure on: zoo, zoo:N, a folder or URL, *.parquet, *.tar, hf:NAME[:SPLIT]."),
    ] = None
    probe_images: Annotated[
        str | None, _flag("What the atlas holds of them: embed (thumbnails), reference, none (default: by licence).")
    ] = None
    examples: Annotated[int | None, _flag("Strongest images kept of each neuron (default: 9).")] = None
    panel: Annotated[int | None, _flag("Images for which all neurons' numbers are kept (default: 2048).")] = None
    match_images: Annotated[
        int | None, _flag("Probe images on which neurons of two models are compared (default: 512).")
    ] = None
    embedder: Annotated[str | None, _flag("Compares images with texts: zoo/clip, open_clip/NAME/TAG.")] = None
    concepts: Annotated[str | None, _flag("Texts for labels: general, zoo, or a file with one text a line.")] = None
    texts: Annotated[str | None, _flag("Texts that heads are described with (default: as --concepts).")] = None
    features: Annotated[str | None, _flag("Features of heads: general, zoo, or a TOML file.")] = None
    out: Annotated[str | None, _flag("The atlas: a folder, or a URL such as s3://bucket/atlas (default: atlas).")] = (
        None
    )
    address: Annotated[str | None, _flag("A Ray cluster, HOST:PORT or auto (default: this machine).")] = None
    workers: Annotated[int | None, _flag("Workers (default: one per GPU, or one per core).")] = None
    threads: Annotated[int | None, _flag("CPU threads of a worker (default: cores / workers).")] = None
    device: Annotated[str | None, _flag("auto, cpu, cuda or mps (default: auto).")] = None
    precision: Annotated[str | None, _flag("float32, bfloat16 or float64 (default: measured).")] = None
    unit_seconds: Annotated[float | None, _flag("Aimed length of a work unit (default: 60).")] = None
    retries: Annotated[int | None, _flag("Attempts after the first, for a unit that fails (default: 2).")] = None
    hang_seconds: Annotated[float | None, _flag("A worker without a step for so long is replaced (default: 600).")] = (
        None
    )
    config: Annotated[Path | None, _flag("TOML file with the same options; flags win over it.")] = None

    def resolve(self) -> RunConfig:
        flags = asdict(self)
        path, models = flags.pop("config"), flags.pop("model")
        return load_config(path, flags | {"models": models})


NO_FLAGS = RunFlags()


def plan(flags: RunFlags = NO_FLAGS, *, as_json: Annotated[bool, _flag("Print JSON.", "--json")] = False) -> int:
    """Say what a run would do and cost, without weights or network."""
    config = flags.resolve()
    from jobs.plan import make_plan, plan_as_dict
    from jobs.prepare import describe_all
    from pipeline.visualize.recipes import recipe_named

    recipe = recipe_named(config.recipe)
    machine = _machine_for_plan(config)
    made = plan_as_dict(make_plan(config, describe_all(config), recipe, machine), recipe.name)
    print(json.dumps(made, indent=1) if as_json else _plan_text(made))
    return 0


def _machine_for_plan(config: RunConfig) -> Machine:
    """GPUs that are asked for by name are taken at their word: `plan` answers anywhere, and asks no cluster."""
    from jobs.machine import local_machine
    from jobs.plan import Machine

    if config.device == "cuda":
        return Machine("cuda", config.workers or 1, config.threads or 1)
    return local_machine(config.model_copy(update={"address": None}))


def _plan_text(made: dict[str, Any]) -> str:
    lines = [f"{'model':44} {'family':8} {'FFN sites':>9} {'neurons':>8} {'planned':>8} {'heads':>6}"]
    lines += [
        f"{one['id']:44} {one['family']:8} {one['ffn_sites']:9} {one['neurons']:8,} "
        f"{one['planned_neurons']:8,} {one['heads']:6,}"
        for one in made["models"]
    ]
    hours = made["estimated_hours"]
    lines.append(
        f"{made['work_units']:,} work units, recipe {made['recipe']}, {made['estimated_flops']:.3g} FLOP, "
        f"about {made['estimated_bytes'] / 1e6:,.0f} MB"
    )
    lines.append(f"about {hours['clock_hours']:.2g} h on {hours['workers']} {hours['device']} worker(s)")
    return "\n".join(lines)


def run(
    flags: RunFlags = NO_FLAGS,
    *,
    as_json: Annotated[bool, _flag("Print the report as JSON.", "--json")] = False,
) -> int:
    """Compute what is missing of an atlas; run the same command again to resume."""
    config = flags.resolve()
    from jobs.driver import run as carry_out
    from jobs.driver import summary

    report = carry_out(config, command=_command(), say=_say)
    if as_json:
        print(json.dumps(asdict(report), indent=1))
    else:
        print("\n".join(summary(report)))
    return report.exit_code


def demo(
    *,
    out: Annotated[Path, _flag("Folder for atlas/ and site/.")] = Path("demo"),
    workers: Annotated[int | None, _flag("Workers (default: one per core).")] = None,
) -> int:
    """Run all stages on the zoo models and build the site: no network, no GPU, no account."""
    from jobs.driver import run as carry_out
    from jobs.driver import summary
    from pipeline.zoo import ZOO

    atlas, site = out / "atlas", out / "site"
    flags = {
        "models": [f"zoo/{name}" for name in ZOO],
        "out": str(atlas),
        "probe": "zoo:1000",
        "match_images": 256,
        "workers": workers,
        "device": "cpu",
    }
    report = carry_out(load_config(None, flags), command=_command(), say=_say)
    print("\n".join(summary(report)))
    if report.exit_code:
        return report.exit_code
    from site_builder.build import build_site

    _say("Building the site")
    build_site(str(atlas), str(site))
    print(
        f"Dataset: {atlas}\nSite:    {site}\n"
        f"Open it: neuron-atlas site serve {shlex.quote(str(site))}\n"
        f'Load it: datasets.load_dataset({str(atlas)!r}, "neurons")'
    )
    return 0


def _command() -> str:
    return shlex.join(["neuron-atlas", *sys.argv[1:]])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
