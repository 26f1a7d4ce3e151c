"""The cluster files are valid, offline: Ray's own schema for one, the documented fields of RayJob for the other."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from jobs.commands.work import RunFlags
from jobs.config import CLOSING_SECONDS, RunConfig

FOLDER = Path(__file__).parents[2] / "jobs" / "cluster"
CLUSTER = yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
CLUSTER_SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object that may have these fields and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def many(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITY = {"type": "string", "pattern": r"^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}

# Kubernetes pods, the fields of the v1 API that such files use (kubernetes.io/docs/reference, Pod v1).
CONTAINER = fields(
    ("name", "image", "resources"),
    name=TEXT,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    command=many(TEXT),
    args=many(TEXT),
    env=many(fields(("name",), name=TEXT, value=TEXT, valueFrom={"type": "object"})),
    envFrom=many(fields(secretRef=fields(("name",), name=TEXT), configMapRef=fields(("name",), name=TEXT))),
    resources=fields(("limits",), requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=many(fields(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
POD = fields(
    ("spec",),
    metadata=fields(labels=TEXTS, annotations=TEXTS),
    spec=fields(
        ("containers",),
        containers=many(CONTAINER),
        volumes=many({"type": "object"}),
        nodeSelector=TEXTS,
        tolerations=many({"type": "object"}),
        serviceAccountName=TEXT,
        imagePullSecrets=many(fields(("name",), name=TEXT)),
        terminationGracePeriodSeconds=WHOLE,
    ),
)
# RayJob v1, the fields that KubeRay documents (docs.ray.io, "RayJob Quickstart", and the API reference).
JOB_SCHEMA = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=fields(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        runtimeEnvYAML=TEXT,
        jobId=TEXT,
        metadata=TEXTS,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterConfig=fields(backoffLimit=WHOLE),
        submitterPodTemplate=POD,
        entrypointNumCpus={"type": "number"},
        entrypointNumGpus={"type": "number"},
        entrypointResources=TEXT,
        backoffLimit=WHOLE,
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=WHOLE,
        suspend=FLAG,
        managedBy=TEXT,
        rayClusterSpec=fields(
            ("rayVersion", "headGroupSpec"),
            rayVersion=TEXT,
            enableInTreeAutoscaling=FLAG,
            autoscalerOptions=fields(
                idleTimeoutSeconds=WHOLE,
                upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
                version={"enum": ["v1", "v2"]},
                image=TEXT,
                resources=fields(requests=QUANTITIES, limits=QUANTITIES),
            ),
            authOptions=fields(("mode",), mode={"enum": ["disabled", "token"]}),
            headGroupSpec=fields(("template",), rayStartParams=TEXTS, serviceType=TEXT, template=POD),
            workerGroupSpecs=many(
                fields(
                    ("groupName", "template"),
                    groupName=TEXT,
                    replicas=WHOLE,
                    minReplicas=WHOLE,
                    maxReplicas=WHOLE,
                    idleTimeoutSeconds=WHOLE,
                    numOfHosts=WHOLE,
                    rayStartParams=TEXTS,
                    template=POD,
                )
            ),
        ),
    ),
)


def test_the_cluster_file_fits_rays_own_schema():
    jsonschema.validate(CLUSTER, CLUSTER_SCHEMA)


@pytest.mark.parametrize("change", [{"max_worker": 3}, {"max_workers": "many"}, {"docker": {"imagee": "x"}}])
def test_rays_schema_finds_a_mistake(change: dict[str, Any]):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**CLUSTER, **change}, CLUSTER_SCHEMA)


def test_the_cluster_grows_from_no_gpu_and_keeps_the_head_for_the_driver():
    nodes = CLUSTER["available_node_types"]
    assert nodes["gpu"]["min_workers"] == 0
    assert nodes[CLUSTER["head_node_type"]]["resources"] == {"CPU": 0}
    assert CLUSTER["max_workers"] >= nodes["gpu"]["max_workers"]


def test_the_job_fits_the_documented_fields():
    jsonschema.validate(JOB, JOB_SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "shutdownAfterJobFinishs"], True),
        (["spec", "backoffLimit"], "3"),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplica"], 0),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "container"], []),
    ],
)
def test_the_jobs_schema_finds_a_mistake(path: list[Any], value: Any):
    broken = copy.deepcopy(JOB)
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, JOB_SCHEMA)


def test_gpu_workers_state_their_gpu_as_a_limit():
    """Without a limit the autoscaler does not know that the group has GPUs."""
    for group in JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_pods_are_given_longer_to_end_than_the_driver_gives_its_units():
    spec = JOB["spec"]["rayClusterSpec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    draining = 30  # Ray's own, on SIGTERM
    for pod in pods:
        assert pod["template"]["spec"]["terminationGracePeriodSeconds"] > jobs_config().drain_seconds + draining


def test_a_job_that_is_stopped_has_time_to_drain():
    (head,) = JOB["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in head["env"]}
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= jobs_config().drain_seconds + CLOSING_SECONDS
    (start,) = [line for line in CLUSTER["head_start_ray_commands"] if "--head" in line]
    assert "RAY_JOB_STOP_WAIT_TIME_S=75 " in start


def jobs_config() -> RunConfig:
    """What the job's command line asks for, parsed as the real one is."""
    from jobs.cli import make_app

    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:2] == ["neuron-atlas", "run"]
    _, bound, _ = make_app().parse_args(words[1:], exit_on_error=False)
    (flags,) = bound.args or (bound.arguments["flags"],)
    assert isinstance(flags, RunFlags)
    return flags.resolve()


def test_the_jobs_command_line_is_ours():
    config = jobs_config()
    groups = JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert config.workers == sum(group["maxReplicas"] for group in groups)
    assert (config.address, config.device) == ("auto", "cuda")


def test_the_files_name_the_ray_that_is_installed():
    assert JOB["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert f"ray:{ray.__version__}-" in CLUSTER["docker"]["image"]
    assert f"ray:{ray.__version__}-" in (FOLDER / "Dockerfile").read_text()
