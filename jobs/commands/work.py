"""plan, run: the commands that decide on work and do it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from cyclopts import Parameter
from pydantic.fields import FieldInfo

from atlas_schema.errors import BadConfig
from jobs.config import ModelEntry, RunConfig, load_config

if TYPE_CHECKING:
    from jobs.plan import Machine


def _flag(text: str, name: str | None = None) -> Parameter:
    return Parameter(name=name, help=text, negative="")


_OTHER_NAMES = {"name": "--as"}
_REPEATED = ("classes",)  # a name may hold a comma, so that each is given by itself
_WORDS = {int, float, bool}  # what a flag may be but a text


def _flags_of(fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, Any, Any]]:
    """Each option as a field of a dataclass: its name, its type with its help, and None: not given."""
    for name, info in fields.items():
        parts = [part for part in get_args(info.annotation) or (info.annotation,) if part is not type(None)]
        kinds = parts if len(parts) == 1 and parts[0] in _WORDS else []
        kinds = [list[str]] if get_origin(info.annotation) is dict or name in _REPEATED else kinds
        text = info.description or ""
        given = info.get_default(call_default_factory=True)
        if given not in (None, {}, ()) and not isinstance(given, bool) and "(default:" not in text:
            text = f"{text.removesuffix('.')} (default: {given})."
        yield name, Annotated[(kinds or [str])[0] | None, _flag(text, _OTHER_NAMES.get(name))], None


def _run_flags() -> Any:
    """A dataclass with every option of `RunConfig` and of its models as a flag."""
    of_model = dict(ModelEntry.model_fields)
    model = ("model", Annotated[list[str] | None, _flag(of_model.pop("model").description or "", "--model")], None)
    of_run = {name: info for name, info in RunConfig.model_fields.items() if name != "models"}
    file = ("config", Annotated[Path | None, _flag("TOML file with the same options; flags win over it.")], None)
    fields = [model, *_flags_of(of_model), *_flags_of(of_run), file]
    made = make_dataclass("RunFlags", fields, frozen=True, kw_only=True, namespace={"resolve": _resolve})
    made.__module__ = __name__
    return Parameter(name="*")(made)


def _resolve(flags: Any) -> RunConfig:
    """The config of a command line; what was not given, the file's or the default value holds."""
    given = asdict(flags)
    path, models = given.pop("config"), given.pop("model")
    return load_config(path, given | {"models": models})


if TYPE_CHECKING:

    class RunFlags:
        """What `_run_flags` makes."""

        def resolve(self) -> RunConfig: ...

else:
    RunFlags = _run_flags()

NO_FLAGS = RunFlags()


def plan(
    flags: RunFlags = NO_FLAGS,
    *,
    measure: Annotated[bool, _flag("Measure a unit of each stage on this machine first; loads weights.")] = False,
    prices: Annotated[Path | None, _flag("TOML file of prices: what the run costs in money.")] = None,
    price: Annotated[float | None, _flag("Price of an hour of a worker, where that is all that costs.")] = None,
    as_json: Annotated[bool, _flag("Print JSON.", "--json")] = False,
) -> int:
    """Say what a run would do and cost, without weights or network."""
    config = flags.resolve()
    if prices is not None and price is not None:
        raise BadConfig("--prices and --price exclude each other; give one")
    from jobs.opening import counts_of
    from jobs.plan import Machine, make_plan
    from jobs.plan_told import plan_as_dict
    from jobs.prepare import describe_all
    from jobs.prices import price_of_hours, read_prices
    from jobs.stages import stages_of
    from jobs.targets import guessed, guessed_readers, prompts_of
    from pipeline.models import ModelRequest, describe
    from pipeline.visualize.recipes import recipe_named

    recipe, stages = (
        recipe_named(config.recipe),
        stages_of(config.stages, config.also, config.inverting, config.picturing_heads),
    )
    described = describe_all(config)
    embeds = any(stage.owner == "embedder" for stage in stages)
    embedder = describe(ModelRequest(config.embedder)) if embeds else None
    counts = counts_of(config, stages, say)
    prompts = prompts_of(config).texts
    targets = {one.slug: guessed(config, prompts, one) for _, one in described}
    readers = guessed_readers(targets, [description for _, description in described])
    draft = make_plan(config, described, stages, recipe, counts, Machine(), embedder, targets=targets, readers=readers)
    machine = _machine_for_plan(config, draft.at_ease)
    priced = read_prices(prices) if prices else price_of_hours(price, machine.device) if price is not None else None
    planned = make_plan(config, described, stages, recipe, counts, machine, embedder, targets=targets, readers=readers)
    measured = None
    if measure:
        from jobs.measure import measured_paces

        measured = measured_paces(config, planned, say)
        planned = replace(planned, paces={name: one.pace for name, one in measured.items()})
    made = plan_as_dict(planned, recipe.name)
    if measured is not None:
        made["measured"] = {name: asdict(one) | {"pace": one.pace} for name, one in measured.items()}
    if priced is not None:
        made["price"] = priced.cost(made)
    print(json.dumps(made, indent=1) if as_json else _plan_text(made))
    return 0


def _machine_for_plan(config: RunConfig, needs: Callable[[str], float]) -> Machine:
    """GPUs that are asked for by name are taken at their word: `plan` answers anywhere, and asks no cluster."""
    from jobs.machine import local_machine
    from jobs.plan import Machine

    if config.device == "cuda":
        return Machine("cuda", config.workers or 1, config.threads or 1)
    return local_machine(config.model_copy(update={"address": None}), needs)


def _plan_text(made: dict[str, Any]) -> str:
    lines = [f"{'model':44} {'family':8} {'FFN sites':>9} {'neurons':>8} {'planned':>8} {'heads':>6}"]
    lines += [
        f"{one['id']:44} {one['family']:8} {one['ffn_sites']:9} {one['neurons']:8,} "
        f"{one['planned_neurons']:8,} {one['heads']:6,}"
        for one in made["models"]
    ]
    lines += ["", f"{'stage':10} {'units':>7} {'of':>14} {'FLOP':>9} {'hours':>8} {'MB':>7}"]
    lines += [
        f"{one['stage']:10} {one['work_units']:7,} {one['count']:7,} {one['along']:6} {one['estimated_flops']:9.2g} "
        f"{one['worker_hours']:8.2g} {(one['estimated_bytes'] + one['estimated_bytes_kept']) / 1e6:7,.1f}"
        for one in made["stages"]
    ]
    requests = made["estimated_requests"]
    lines.append(
        f"{made['work_units']:,} work units, recipe {made['recipe']}, {made['estimated_flops']:.3g} FLOP, about "
        f"{made['estimated_bytes'] / 1e6:,.0f} MB of tables, {made['estimated_bytes_kept'] / 1e6:,.0f} MB kept; on an "
        f"object store about {requests['put']:,} writes and {requests['get']:,} reads"
    )
    lines += _hours_text(made["estimated_hours"])
    if "measured" in made:
        lines.append(f"hours as {len(made['measured'])} stages took that were measured here")
    lines.append(_memory_text(made["memory_of_a_worker"]))
    lines += [_price_text(made["price"])] if "price" in made else []
    return "\n".join(lines)


def _hours_text(hours: dict[str, Any]) -> list[str]:
    """The time on the clock, of this machine's workers and of more, and what bounds it."""
    work = f"{hours['gpu_hours']:.2g} GPU-hours" if "gpu_hours" in hours else f"{hours['cpu_hours']:.2g} CPU-hours"
    by_workers = hours["clock_hours_by_workers"]
    chain = hours["longest_chain_hours"]
    others = ", ".join(f"{by_workers[count]:.2g} h with {count}" for count in ("1", "4", "16", "64"))
    return [
        f"about {hours['clock_hours']:.2g} h on {hours['workers']} {hours['device']} worker(s), {work}",
        f"with other numbers of workers: {others}; never less than {chain:.2g} h, which units wait for one another",
    ]


def _price_text(price: dict[str, Any]) -> str:
    currency = f" {price['currency']}" if price["currency"] else ""
    return (
        f"about {price['total']:,.2f}{currency}: workers {price['workers']:,.2f}, requests {price['requests']:,.2f}; "
        f"storage {price['storage_a_month']:,.2f} a month"
    )


def _memory_text(memory: dict[str, Any]) -> str:
    peak, least, given = (memory[name] for name in ("peak_bytes", "least_bytes", "given_bytes"))
    text = f"a worker takes up to {peak / 1e9:.1f} GB of memory"
    if memory["device_peak_bytes"] is not None:
        return f"{text} and, with the largest batch, {memory['device_peak_bytes'] / 1e9:.1f} GB of its GPU's"
    if given is None:
        return text
    if least > given:
        return f"{text}, with one image at a time: more than the {given / 1e9:.1f} GB that it has here"
    return f"{text}, with batches that fit the {given / 1e9:.1f} GB it has here"


def run(
    flags: RunFlags = NO_FLAGS,
    *,
    as_json: Annotated[bool, _flag("Print the report as JSON.", "--json")] = False,
) -> int:
    """Compute what is missing of an atlas; run the same command again to resume."""
    config = flags.resolve()
    from jobs.driver import run as carry_out
    from jobs.report import summary

    report = carry_out(config, command=command_line(), say=say)
    if as_json:
        print(json.dumps(asdict(report), indent=1))
    else:
        print("\n".join(summary(report)))
    return report.exit_code


def command_line() -> str:
    """The command that this process was given, as one types it."""
    return shlex.join(["neuron-atlas", *sys.argv[1:]])


def say(text: str) -> None:
    """Tell people, beside what is printed as data."""
    print(text, file=sys.stderr, flush=True)
