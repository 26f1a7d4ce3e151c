"""submit: plan, run or status as a job of a Ray cluster that is elsewhere, by the address of its dashboard."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from atlas_schema.errors import BadConfig, WorkFailed

if TYPE_CHECKING:
    from jobs.submission import Submission

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the same
POLL_SECONDS = 1.0
START_SECONDS = 60.0  # that a head may take until it accepts jobs
STOPPED = 143  # as a run that was ended by SIGTERM, which is how a job is stopped
NEEDS = "submit needs Ray with its client for jobs: pip install 'neuron-atlas[submit]'"


def submit(
    *words: Annotated[str, Parameter(help="plan, run or status with its options, behind `--`.", show=True)],
    address: Annotated[
        str | None, Parameter(help=f"The cluster's dashboard, http://HEAD:8265 (default: {ADDRESS}).")
    ] = None,
    wait: Annotated[
        bool, Parameter(help="Return when the job has ended, with its exit code (plan, status: always).", negative="")
    ] = False,
    follow: Annotated[bool, Parameter(help="... and print what it says as it says it.", negative="")] = False,
    mounted: Annotated[
        list[str] | None,
        Parameter(help="A folder that every node mounts at the same path; repeatable.", negative=""),
    ] = None,
) -> int:
    """Carry out plan, run or status on a cluster from outside, as a Ray job."""
    from jobs.submission import submission_of

    made = submission_of(words, _parsed, mounted or ())
    address = _dashboard(address)
    client = _client(address)
    job = f"atlas-{made.command}-{datetime.datetime.now(datetime.UTC):%Y%m%dt%H%M%Sz}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="atlas-submit-") as folder:
        environment = _environment(made, Path(folder))
        _hand_in(client, made, job, environment)
    _say(_told(made, job, address))
    if not (wait or follow or made.command != "run"):
        return 0
    try:
        if follow:
            asyncio.run(_followed(client, job))
        return _ended(client, job, quiet=follow)
    except KeyboardInterrupt:
        _say(f"The job goes on. To stop it: ray job stop {job} --address {address}")
        raise


def _parsed(words: Sequence[str]) -> Mapping[str, Any]:
    """What the command line on the cluster will make of the words: an error of the user's is told before it is sent."""
    from cyclopts import CycloptsError

    from jobs.cli import make_app
    from jobs.commands.work import NO_FLAGS

    try:
        _, bound, _ = make_app().parse_args(list(words), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise BadConfig(f"{words[0]}: {error}") from error
    return {"flags": NO_FLAGS, **bound.arguments}


def _dashboard(address: str | None) -> str:
    address = address or os.environ.get(ADDRESS)
    if not address:
        raise BadConfig(f"submit: no cluster. Give --address http://HEAD:8265, its dashboard's, or set {ADDRESS}.")
    if not address.startswith(("http://", "https://")):
        raise BadConfig(
            f"--address {address}: expected the dashboard's URL, http://HEAD:8265. (HOST:6379 is what `run --address` "
            "takes, within the cluster's network.)"
        )
    return address


def _client(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise BadConfig(f"{NEEDS} ({error})") from error
    try:
        client = JobSubmissionClient(address)
        logging.getLogger("ray").setLevel(logging.WARNING)  # it tells each package that it sends
        return client
    except ConnectionError as error:
        raise BadConfig(
            f"--address {address}: no dashboard answers there. Expected http://HEAD:8265 of a head that was started "
            "with `ray[default]` installed (--dashboard-host 0.0.0.0 where this machine is another); from outside of "
            "its network by a tunnel: ray dashboard CLUSTER.yaml, or kubectl port-forward service/HEAD 8265."
        ) from error
    except RuntimeError as error:
        if "ray[default]" in str(error):
            raise BadConfig(NEEDS) from error
        raise BadConfig(f"--address {address}: {error}") from error


def _environment(made: Submission, folder: Path) -> dict[str, Any]:
    """What Ray is told of the job: our variables, how long it may take to end, and the files that go with it."""
    own = {name: value for name, value in os.environ.items() if name.startswith("ATLAS_")}
    found: dict[str, Any] = {"env_vars": {**own, "RAY_JOB_STOP_WAIT_TIME_S": str(made.patience)}}
    for path, file in made.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / path)
    return found | ({"working_dir": str(folder)} if made.files else {})


def _hand_in(client: Any, made: Submission, job: str, environment: Mapping[str, Any]) -> None:
    """Submit the job. WorkFailed, with what the cluster says, where it takes none."""
    began = time.monotonic()
    while True:
        try:
            client.submit_job(
                entrypoint=made.entrypoint,
                submission_id=job,
                runtime_env=dict(environment),
                metadata={"atlas": made.atlas},
            )
        except RuntimeError as error:
            starting = "No available agent" in str(error)  # the head answers, and its own agent does not yet
            if not starting or time.monotonic() - began > START_SECONDS:
                hint = (
                    " The agent of the head does not run: its dashboard_agent.log says why. (Two heads on one machine "
                    "need ports of their own: ray start --dashboard-agent-listen-port.)"
                )
                raise WorkFailed(f"the cluster took no job: {error}{hint if starting else ''}") from error
        else:
            return
        time.sleep(POLL_SECONDS)


def _told(made: Submission, job: str, address: str) -> str:
    """What a user does next."""
    lines = [
        f"Job {job}: {made.entrypoint}",
        f"  how it stands  ray job status {job} --address {address}",
        f"  what it says   ray job logs {job} --address {address} --follow",
        f"  stop it        ray job stop {job} --address {address}",
    ]
    if made.command == "run":
        lines[3] += f"   (units at work may end: up to {made.patience} s)"
        lines.append(f"  the atlas      neuron-atlas status {made.atlas}")
    return "\n".join(lines)


async def _followed(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _ended(client: Any, job: str, *, quiet: bool) -> int:
    """Wait for the end of a job, print what it said unless that was done, and give its exit code."""
    while not client.get_job_status(job).is_terminal():
        time.sleep(POLL_SECONDS)
    told = client.get_job_info(job)
    if not quiet:
        print(client.get_job_logs(job), end="", flush=True)
    if told.status == "STOPPED":
        _say(f"Job {job} was stopped.")
        return STOPPED
    if told.status == "FAILED" and told.driver_exit_code is None:  # it did not begin
        raise WorkFailed(f"job {job} did not start: {told.message}")
    return int(told.driver_exit_code or 0)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
