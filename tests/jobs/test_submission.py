"""What `submit` sends to a cluster: a command line that means the same there, with the files it names; or a refusal."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from atlas_schema.errors import BadConfig
from jobs.cli import call
from jobs.commands.submit import _environment, _parsed
from jobs.submission import MOST_BYTES, Submission, submission_of

RUN = "run --model zoo/vit --out s3://bucket/atlas"


def made(line: str, *mounted: str) -> Submission:
    return submission_of(shlex.split(line), _parsed, mounted)


def test_a_run_joins_the_cluster_that_it_is_sent_to_and_has_time_to_drain():
    one = made(f"{RUN} --drain-seconds 45")
    assert one.entrypoint == f"neuron-atlas {RUN} --drain-seconds 45 --address auto"
    assert (one.command, one.atlas, one.patience, one.files) == ("run", "s3://bucket/atlas", 60, {})
    assert made(f"{RUN} --address auto").words.count("--address") == 1


@pytest.mark.parametrize("line", ["plan --model zoo/vit --json", "status s3://bucket/atlas", "status --json gs://b/a"])
def test_plan_and_status_are_sent_as_they_are(line: str):
    assert made(line).entrypoint == f"neuron-atlas {line}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "expected plan, run or status with its options behind `--`, found nothing"),
        ("demo", "found `demo`"),
        ("run --modle zoo/vit", "Did you mean --model?"),
        ("run --model zoo/vit --device gpu --out s3://b/a", "device: 'gpu', expected"),
        ("run --model zoo/vit", "--out atlas: a relative path"),
        ("run --model zoo/vit --out here/atlas", "--out here/atlas: a relative path"),
        ("run --model zoo/vit --out file:here", "--out file:here: a relative path"),
        ("run --model zoo/vit --out /data/atlas", "--out /data/atlas: a path on this machine, .* --mounted /data"),
        ("run --model zoo/vit --out memory://atlas", "--out memory://atlas: the memory of one process"),
        (f"{RUN} --weights w.pth --as mine", "--weights w.pth: a relative path"),
        (f"{RUN} --probe /data/photos#label=x", "--probe /data/photos: a path on this machine"),
        (f"{RUN} --address 10.0.0.1:6379", "--address 10.0.0.1:6379 behind `--`: the job runs on the cluster"),
        (f"{RUN} --concepts no-such.txt", "--concepts no-such.txt: no such file here"),
        (f"{RUN} --config no.toml", "no.toml: cannot be read"),
        ("status", "the atlas atlas: a relative path"),
        ("status /data/atlas", "the atlas /data/atlas: a path on this machine"),
    ],
    ids=lambda value: value[:50],
)
def test_what_cannot_work_there_is_refused_by_name(line: str, said: str):
    with pytest.raises(BadConfig, match=said):
        made(line)


def test_all_places_that_the_cluster_does_not_see_are_named_at_once():
    with pytest.raises(BadConfig) as raised:
        made("run --model zoo/vit --out atlas --weights w.pth --as mine --probe photos")
    assert [line.split()[0] for line in str(raised.value).splitlines()[1:]] == ["--out", "--weights", "--probe"]


def test_a_folder_that_all_nodes_mount_is_taken_at_its_word():
    line = "run --model zoo/vit --out /shared/a/atlas --probe /shared/photos --concepts /shared/texts.txt"
    assert made(line, "/other", "/shared").entrypoint == f"neuron-atlas {line} --address auto"
    with pytest.raises(BadConfig, match="--out /shared-not/atlas"):
        made("run --model zoo/vit --out /shared-not/atlas", "/shared")


def test_small_files_go_with_the_job_and_the_options_name_them_there(tmp_path: Path):
    texts, names, config = tmp_path / "my texts.txt", tmp_path / "names.json", tmp_path / "run.toml"
    texts.write_text("a cat\n")
    names.write_text('["a", "b"]')
    config.write_text(f'models = ["zoo/vit"]\nout = "s3://b/a"\ntexts = "{texts}"\nconcepts = "general"\n')
    one = made(f"run --config={config} --class-names {names}")
    assert one.words == (
        *("run", "--config=submitted/config.toml", "--class-names", "submitted/class_names.json"),
        *("--address", "auto", "--texts", "submitted/texts.txt"),
    )
    assert one.files["submitted/texts.txt"] == texts
    sent = _environment(one, tmp_path / "job")
    folder = Path(sent["working_dir"])
    assert {path: (folder / path).read_text() for path in one.files} == {
        "submitted/texts.txt": "a cat\n",
        "submitted/class_names.json": names.read_text(),
        "submitted/config.toml": config.read_text(),
    }
    assert sent["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == str(one.patience)


def test_a_large_file_is_not_sent(tmp_path: Path):
    (tmp_path / "texts.txt").write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(BadConfig, match=r"5,242,881 bytes, and at most 5,242,880 are sent along"):
        made(f"{RUN} --texts {tmp_path}/texts.txt")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ((), "no cluster. Give --address http://HEAD:8265"),
        (("--address", "head:6379"), "expected the dashboard's URL, http://HEAD:8265"),
        (("--address", "http://127.0.0.1:1"), "no dashboard answers there"),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_told(
    address: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert call(["submit", *address, "--", *RUN.split()]) == 2
    assert said in capsys.readouterr().err
