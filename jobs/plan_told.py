"""What a plan says, as data: models, stages, hours, bytes, requests, memory; and whether memory may run out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobs.memory import BASE, UNLIMITED, in_gigabytes
from jobs.plan import ModelPlan, Plan
from jobs.schedule import clock_seconds, longest_chain


def plan_as_dict(plan: Plan, recipe_name: str) -> dict[str, Any]:
    """What `neuron-atlas plan --json` prints."""
    machine = plan.machine
    unit = "gpu_hours" if machine.device == "cuda" else "cpu_hours"
    counts = sorted({1, 2, 4, 8, 16, 32, 64, machine.workers})
    return {
        "models": [_model_as_dict(model) for model in plan.models],
        "stages": list(_stages_as_dicts(plan)),
        "recipe": recipe_name,
        "work_units": plan.units,
        "planned_neurons": sum(model.neurons for model in plan.models),
        "estimated_flops": round(plan.flops),
        "estimated_bytes": plan.bytes,
        "estimated_bytes_kept": plan.kept,
        "memory_of_a_worker": _memory_as_dict(plan),
        "estimated_requests": plan.requests,
        "estimated_hours": {
            "device": machine.device,
            "workers": machine.workers,
            "worker_hours": plan.seconds / 3600,
            unit: plan.seconds / 3600 * (machine.threads if machine.device == "cpu" else 1),
            "clock_hours": clock_seconds(plan, machine.workers) / 3600,
            "longest_chain_hours": longest_chain(plan) / 3600,
            "clock_hours_by_workers": {str(count): clock_seconds(plan, count) / 3600 for count in counts},
        },
    }


def _memory_as_dict(plan: Plan) -> dict[str, Any]:
    """What a worker takes at most, what there is for it, and with batches of one image."""
    machine = plan.machine
    return {
        "peak_bytes": round(plan.peak),
        "device_peak_bytes": round(plan.need()) if machine.device == "cuda" else None,
        "least_bytes": round(BASE[machine.device] + plan.need(0 if machine.device == "cuda" else 1)),
        "given_bytes": machine.memory if machine.memory < UNLIMITED else None,
    }


def _stages_as_dicts(plan: Plan) -> Iterator[dict[str, Any]]:
    """Units and estimates of each stage, over all models."""
    for stage in dict.fromkeys(job.stage for job in plan.jobs):
        jobs = [job for job in plan.jobs if job.stage is stage]
        flops = sum(job.total for job in jobs)
        yield {
            "stage": stage.name,
            "does": stage.does,
            "work_units": sum(len(job.cuts) for job in jobs),
            "along": stage.cut,
            "count": sum(job.size for job in jobs),
            "estimated_flops": round(flops),
            "worker_hours": sum(map(plan.seconds_of, jobs)) / 3600,
            "estimated_bytes": round(sum(job.bytes for job in jobs)),
            "estimated_bytes_kept": round(sum(job.kept for job in jobs)),
            "least_batch": min(job.batch(plan.machine) for job in jobs),
            "peak_bytes": round(max(job.needs.get(job.batch(plan.machine), 0.0) for job in jobs)),
        }


def _model_as_dict(model: ModelPlan) -> dict[str, Any]:
    description = model.description
    head_dims = sorted({site.head_dim for site in description.attention_sites})
    return {
        "id": description.id,
        "slug": description.slug,
        "family": description.family,
        "ffn_sites": len(description.ffn_sites),
        "neurons": description.neurons,
        "attention_sites": len(description.attention_sites),
        "heads": description.heads,
        "head_dim": head_dims[0] if len(head_dims) == 1 else head_dims,
        "representation_dim": description.representation_dim,
        "parameters": description.parameters,
        "arguments": dict(description.arguments),
        "planned_neurons": model.neurons,
    }


def memory_lines(plan: Plan) -> list[str]:
    """What a user should know of memory before hours are spent: where there is less than the workers take."""
    machine = plan.machine
    if plan.peak <= machine.memory:
        return []
    has = f"{in_gigabytes(machine.workers * machine.memory)} free for {machine.workers} worker(s)"
    return [
        f"Memory may run out: a worker needs about {in_gigabytes(plan.peak)}, and there are {has}. "
        "Units for which it does are done alone at the end; fewer --workers leave more to each."
    ]
