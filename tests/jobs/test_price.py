"""What a run costs: on the clock, in requests and in money; and how its units make up what is left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atlas_schema.errors import BadConfig
from atlas_schema.units import Identity, Images, Neurons, Pair, Whole
from benchmarks import price as bench
from jobs import cli
from jobs.forecast import Forecast, seconds_left
from jobs.graph import Graph
from jobs.graph import Job as HeldJob
from jobs.plan import Job, Machine, Plan
from jobs.plan_told import plan_as_dict
from jobs.prices import price_of_hours, read_prices
from jobs.schedule import clock_seconds, longest_chain
from jobs.stages import Sizes, stage_named
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import RECIPES

OWN = Identity("f", "s")
SPEED = Machine().speed


def job(name: str, seconds: dict, slug: str = "zoo-vit") -> Job:
    """A stage of a model, with the seconds of each cut."""
    return Job(stage_named(name), slug, tuple(seconds), tuple(one * SPEED for one in seconds.values()), 1e6)


def plan_of(*jobs: Job, workers: int = 1) -> Plan:
    return Plan((), jobs, Machine("cpu", workers), {})


PICTURES = {Neurons(0, start, start + 16): 10.0 for start in range(0, 64, 16)}
PASS = {Images(0, 64): 3.0, Images(64, 128): 3.0}
EVIDENCE = {Neurons(0, 0, 64): 2.0}


def test_the_clock_is_the_work_shared_or_the_longest_chain():
    plan = plan_of(job("visualize", PICTURES), job("probe", PASS), job("evidence", EVIDENCE), job("judge", EVIDENCE))
    assert plan.seconds == pytest.approx(40 + 6 + 2 + 2)
    assert longest_chain(plan) == pytest.approx(10 + 2), "judge waits for a picture's unit, and for a slice of 3 s"
    assert clock_seconds(plan, 1) == pytest.approx(50)
    assert clock_seconds(plan, 2) == pytest.approx(25)
    assert clock_seconds(plan, 1000) == pytest.approx(12)


def test_a_stage_waits_for_the_embedder_of_all_models():
    texts, label = {Whole(): 100.0}, {Neurons(0, 0, 64): 1.0}
    plan = plan_of(job("texts", texts, "zoo-clip"), job("label", label))
    assert longest_chain(plan) == pytest.approx(101)


def test_requests_count_every_part_and_shard():
    told = plan_of(job("visualize", PICTURES), job("probe", PASS)).requests
    assert told["put"] == 4 + 2 + 1, "six parts, and one shard of neurons"
    assert told["get"] == 4 * (1 + 3) + 2 * 1 + 3
    more = plan_of(job("visualize", PICTURES), job("probe", PASS), job("evidence", EVIDENCE)).requests
    assert more["put"] == told["put"] + 1 + 1, "a part more, and the shard of pictures before there is evidence"
    assert more["get"] == told["get"] + (1 + 3 * 2) + (4 * 3 + 3), "its four parts of pictures are read once more"


def test_a_measured_plan_has_the_same_units():
    plan = plan_of(job("visualize", PICTURES), job("probe", PASS), job("evidence", EVIDENCE))
    measured = replace(plan, paces={"visualize": 4.0, "probe": 1.0})
    assert measured.flops == plan.flops
    assert [measured.seconds_of(one) for one in measured.jobs] == pytest.approx([160, 6, 4]), "evidence: mean pace, 2"
    assert measured.seconds == pytest.approx(170)
    assert longest_chain(measured) == pytest.approx(40), "a unit of pictures"


def test_money_is_workers_as_long_as_the_run_and_the_store(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(
        'currency = "EUR"\nput_per_1000 = 5\nget_per_1000 = 0.5\ngb_month = 20\n[worker_hour]\ncpu = 3600\n'
    )
    plan = plan_of(job("visualize", PICTURES), workers=4)
    told = read_prices(file).cost(plan_as_dict(plan, "fast"))
    assert told["currency"] == "EUR"
    assert told["workers"] == pytest.approx(4 * 10), "ten seconds of four workers at 1 a second"
    assert told["requests"] == pytest.approx(5 * 5 / 1000 + (16 + 3) * 0.5 / 1000)
    assert told["total"] == pytest.approx(told["workers"] + told["requests"])
    assert told["storage_a_month"] == pytest.approx(1e6 / 1e9 * 20)
    assert price_of_hours(7200, "cpu").cost(plan_as_dict(plan, "fast"))["total"] == pytest.approx(80)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("currency = EUR", "no TOML"),
        ("put_per_100 = 5", "nearest: put_per_1000"),
        ('gb_month = "much"', "gb_month: Input should be a valid number"),
        ("[worker_hour]\ntpu = 1", "worker_hour.tpu = 1; expected prices, not below 0, of cpu, cuda, mps"),
        ("[worker_hour]\ncpu = -1", "worker_hour.cpu = -1"),
    ],
)
def test_what_is_no_price_is_named(tmp_path, text, said):
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(BadConfig) as error:
        read_prices(file)
    assert said in str(error.value)
    assert "prices.toml" in str(error.value)


def test_a_device_without_a_price_is_named():
    with pytest.raises(BadConfig, match=r"none for a worker-hour on cpu.*prices for cuda"):
        price_of_hours(1.0, "cuda").cost(plan_as_dict(plan_of(job("visualize", PICTURES)), "fast"))
    with pytest.raises(BadConfig, match="--price -1"):
        price_of_hours(-1.0, "cpu")


def test_plan_prints_money_and_the_bounds_of_the_clock(tmp_path, capsys):
    asked = ["plan", "--model", "zoo/vit", "--device", "cpu", "--workers", "2", "--threads", "1"]
    assert cli.call([*asked, "--price", "2.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    hours = told["estimated_hours"]
    assert hours["cpu_hours"] == pytest.approx(hours["worker_hours"])
    by_workers = hours["clock_hours_by_workers"]
    assert by_workers["1"] == pytest.approx(hours["worker_hours"])
    assert by_workers["64"] >= hours["longest_chain_hours"] > 0
    assert told["price"]["total"] == pytest.approx(2 * 2.5 * hours["clock_hours"])
    assert cli.call([*asked, "--price", "2.5"]) == 0
    said = capsys.readouterr().out
    assert "CPU-hours" in said
    assert "never less than" in said
    assert "writes and" in said
    assert cli.call([*asked, "--price", "1", "--prices", str(tmp_path / "none.toml")]) == 2
    assert "exclude each other" in capsys.readouterr().err


def graph_of(plan: Plan) -> Graph:
    return Graph(HeldJob(one.stage, one.slug, OWN, one.cuts) for one in plan.jobs)


def test_a_forecast_weighs_layers_by_their_own_costs():
    """Early layers are cheap: an average neuron would make the rest look as cheap as them."""
    deep = {Neurons(layer, 0, 16): float(layer + 1) for layer in range(4)}
    plan = plan_of(job("visualize", deep))
    forecast = Forecast(plan, graph_of(plan))
    forecast.committed(OWN.unit("visualize", "zoo-vit", Neurons(0, 0, 16)), 2.0)
    assert forecast.work() == (2.0, pytest.approx(2 * (2 + 3 + 4)))


def test_few_units_of_a_stage_do_not_speak_for_all_of_it():
    """The first unit of a pass decodes every image; all others of all stages take what they should."""
    cuts = {Images(start, start + 32): 1.0 for start in range(0, 3200, 32)}
    plan = plan_of(job("visualize", PICTURES), job("probe", cuts))
    forecast = Forecast(plan, graph_of(plan))
    for start in (0, 16, 32):
        forecast.committed(OWN.unit("visualize", "zoo-vit", Neurons(0, start, start + 16)), 10.0)
    forecast.committed(OWN.unit("probe", "zoo-vit", Images(0, 32)), 10.0)
    assert 1.0 < forecast.pace("probe") < 3.0
    for start in range(32, 3200, 32):
        forecast.committed(OWN.unit("probe", "zoo-vit", Images(start, start + 32)), 1.0)
    assert forecast.pace("probe") == pytest.approx(109 / 100), "at its end a stage is what it took"
    forecast.committed(OWN.unit("probe", "zoo-vit", Images(0, 3200)), 0.5, counts=False)
    assert forecast.work()[1] == pytest.approx(10 * forecast.pace("visualize"))


def test_seconds_left_go_by_how_many_were_at_work():
    assert seconds_left(100.0, 50.0, 50.0) == 25.0
    assert seconds_left(0.0, 50.0, 50.0) == 0.0


def test_the_bench_replays_a_log_as_the_line_would_have_told():
    """Two workers, units twice as slow as planned: after the first the line knows."""
    plan = replace(plan_of(job("visualize", PICTURES)), machine=Machine("cpu", 2))
    graph = bench.graph_of(plan)
    names = [str(unit) for unit in graph.ready()]
    assert [bench.unit_named(name) for name in names] == graph.missing()
    events = [{"event": "start", "at": 0.0}]
    for start, pair in ((0.0, names[:2]), (20.0, names[2:])):
        events += [{"event": "started", "unit": name, "at": start} for name in pair]
        events += [{"event": "committed", "unit": name, "seconds": 20.0, "at": start + 20.0} for name in pair]
    events.append({"event": "end", "at": 40.0})
    told = {one["of_the_time"]: one for one in bench.replayed(plan, graph, events)}
    assert told[0.5]["true"] == 20.0
    assert told[0.75]["told"] == pytest.approx(told[0.75]["true"], rel=0.01)
    assert min(told) > 0.49, "nothing is told before a unit was seen"
    stages = bench.by_stage(plan, [{**one, "cpu_seconds": 15.0} for one in events])
    assert stages["visualize"] == {"planned": pytest.approx(40.0), "seconds": 80.0, "cpu_seconds": 60.0}
    laid = bench.by_cpu([{**one, "cpu_seconds": 15.0} for one in events])
    assert [one["at"] for one in laid if one["event"] == "committed"] == [15.0, 30.0, 45.0, 60.0]


@pytest.mark.parametrize(
    "unit",
    [
        OWN.unit("probe", "zoo-vit", Images(0, 1000)),
        OWN.unit("visualize", "zoo-vit", Neurons(3, 16, 48)),
        OWN.unit("heads", "zoo-vit", Whole()),
        OWN.unit("pairs", "zoo-deit", Pair("zoo-vit", "0" * 16)),
    ],
)
def test_the_bench_knows_units_by_their_names(unit):
    found = bench.unit_named(str(unit))
    assert (found.stage, found.slug, found.cut) == (unit.stage, unit.slug, unit.cut)
    assert bench.unit_named("assemble neurons/zoo-vit layer 3") is None


@pytest.mark.slow
def test_measured_hours_are_what_units_took_here(capsys):
    """The stages of the run alone, in a folder that goes; FLOPs and units stay the plan's."""
    asked = ["plan", "--model", "zoo/vit", "--stages", "visualize", "--units", "0:4", "--device", "cpu", "--json"]
    asked += ["--workers", "1", "--threads", "1"]
    assert cli.call(asked) == 0
    before = json.loads(capsys.readouterr().out)
    assert cli.call([*asked, "--measure"]) == 0
    told = capsys.readouterr()
    after = json.loads(told.out)
    assert after["measured"].keys() == {"visualize"}
    assert "Measuring a unit of each stage on zoo/vit" in told.err
    measured = after["measured"]["visualize"]
    assert measured["pace"] == pytest.approx(measured["seconds"] / measured["estimated"])
    (one,), (other,) = before["stages"], after["stages"]
    assert other["worker_hours"] == pytest.approx(one["worker_hours"] * measured["pace"])
    assert (other["estimated_flops"], other["work_units"]) == (one["estimated_flops"], one["work_units"])


def test_maps_of_a_large_model_whose_heads_have_no_path_cost_about_what_was_measured() -> None:
    """CoaT-Small, 100 photographs, seconds of one core: decompose 435, project 338, maps 257, reads 993
    (docs/benchmarks/real_size.json). Told once: 82 times as much for maps, so that a run said hours for minutes.
    """
    sizes = Sizes(
        describe(ModelRequest("timm/coat_small", random_weights=True)), RECIPES["fast"], images=100, panel=100
    )
    told = {name: stage_named(name).cost(sizes).each for name in ("decompose", "project", "maps", "reads")}
    passes = 100 * told["decompose"]
    assert 0.3 < 100 * told["maps"] / passes / (257 / 435) < 3
    assert 0.3 < told["reads"] / passes / (993 / 435) < 3
