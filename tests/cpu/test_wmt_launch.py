"""examples/wmt: how trainings are started, kept apart and requeued; `torchrun` is a stub."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.example_scripts import WMT, check_refused, done

from fairseq_dartsformer.search_space.genotype import Genotype

GENOTYPE = Genotype.load("paper_fig4_approx").to_json()


@pytest.fixture
def stubs(tmp_path) -> Path:
    """A folder with a `torchrun` that records its arguments and writes empty checkpoints."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    (folder / "torchrun").write_text(
        "#!/usr/bin/env bash\n"
        f"printf '%s\\n' \"$@\" '' >>{folder}/calls\n"
        'for word; do [[ $word != checkpoint.save_dir=* ]] || eval "folder=\\$${word#*=}"; done\n'
        'touch "$folder"/{checkpoint_last,average}.pt\n'
    )
    (folder / "torchrun").chmod(0o755)
    (tmp_path / "genotypes").mkdir()
    (tmp_path / "genotypes" / "max_s2.json").write_text(GENOTYPE)
    for data in ("wmt14.en-de", "wmt18.en-de"):
        log = tmp_path / "data" / data / "data-bin" / "preprocess.log"
        log.parent.mkdir(parents=True)
        log.touch()
    return folder


def calls(stubs: Path) -> list[list[str]]:
    """The arguments of every call."""
    return [call.splitlines() for call in (stubs / "calls").read_text().split("\n\n")[:-1]]


@pytest.mark.parametrize(
    ("command", "gpus", "accumulated", "folder"),
    [
        ("3-search.sh", 8, 1, "search/max_s2"),
        ("6-train.sh --config big", 8, 2, "models/wmt18.en-de.big.max_s2"),
        ("6-train.sh --config transformer_big", 2, 8, "models/wmt18.en-de.transformer_big"),
    ],
)
def test_any_number_of_gpus_gives_the_same_batch_size(
    tmp_path, stubs, command, gpus, accumulated, folder
):
    name, *arguments = command.split()
    work = ["--work", str(tmp_path), "--gpus", str(gpus)]
    done(WMT / name, *arguments, *work, "--", "common.seed=3", stubs=stubs)
    (call,) = calls(stubs)
    assert call[:3] == ["--standalone", "--nproc-per-node", str(gpus)]
    assert Path(call[3]).name == "fairseq-hydra-train" and call[-1] == "common.seed=3"
    assert f"distributed_training.distributed_world_size={gpus}" in call
    assert f"optimization.update_freq=[{accumulated}]" in call
    assert f"checkpoint.save_dir='{tmp_path / folder}'" in call
    assert any(word.startswith("model.genotype=") for word in call) == (
        name == "6-train.sh" and "transformer" not in command
    )
    assert (tmp_path / folder / "done").exists()


def test_models_of_two_genotypes_are_kept_apart(tmp_path, stubs):
    genotype = json.loads(GENOTYPE)
    for name, pooling in (("one", "max"), ("two", "avg")):
        (tmp_path / f"{name}.json").write_text(json.dumps(genotype | {"pooling": pooling}))
    work = ["--work", str(tmp_path)]
    for name in ("one", "two", "one"):
        done(WMT / "6-train.sh", *work, "--genotype", str(tmp_path / f"{name}.json"), stubs=stubs)
    first, second = calls(stubs)
    assert f"checkpoint.save_dir='{tmp_path}/models/wmt18.en-de.base.one'" in first
    assert f"checkpoint.save_dir='{tmp_path}/models/wmt18.en-de.base.two'" in second

    model = f"{tmp_path}/models/wmt18.en-de.base.one"
    one, two = (["--genotype", str(tmp_path / f"{name}.json")] for name in ("one", "two"))
    for result, arguments in [
        (model, two),
        (model, [*one, "--data", "wmt14.en-de"]),
        (f"{model}/average.pt", [*one, "--average", "3"]),
        (model, [*one, "--", "optimization.max_update=3"]),
    ]:
        given = [*work, "--model", model, *arguments]
        check_refused(result, WMT / "6-train.sh", *given, stubs=stubs)
    assert len(calls(stubs)) == 2


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1)


def test_slurm_job_requeues_itself_before_its_time_limit(tmp_path, stubs):
    """The step continues until Slurm ends it, and its status is the job's."""
    (stubs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/scontrol\n')
    (stubs / "scontrol").chmod(0o755)
    (tmp_path / "examples" / "wmt").mkdir(parents=True)
    (tmp_path / "examples" / "wmt" / "step.sh").write_text(
        f"echo $* >{tmp_path}/begun\n"
        f"for i in {{1..9999}}; do [[ ! -e {tmp_path}/scontrol ]] || exit 3; sleep 0.01; done\n"
    )
    settings = {"PATH": f"{stubs}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    environment = {**os.environ, **settings, "SLURM_SUBMIT_DIR": str(tmp_path)}
    command = ["bash", str(WMT / "slurm.sbatch"), "step.sh", "--search", "max_s1"]
    job = subprocess.Popen(command, env=environment)
    try:
        while not ((tmp_path / "begun").exists() and catches(job.pid, signal.SIGUSR1)):
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(240) == 3
    finally:
        job.kill()
    assert (tmp_path / "begun").read_text() == "--search max_s1\n"
    assert (tmp_path / "scontrol").read_text() == "requeue 17\n"
