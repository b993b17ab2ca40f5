"""examples/wmt: how trainings are launched, kept apart and requeued; nothing is trained."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.steps import WMT, check_refused, done, step
from hydra.core.override_parser.overrides_parser import OverridesParser

from fairseq_dartsformer.search_space.genotype import Genotype

GENOTYPE = Genotype.load("paper_fig4_approx").to_json()


@pytest.fixture
def stubs(tmp_path) -> Path:
    """A folder with a `torchrun` that notes its arguments, and leaves what a training leaves."""
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
        ("3-search.sh --search sampling_max_s2", 2, 4, "search/sampling_max_s2"),
        ("6-train.sh --config big", 8, 2, "models/wmt18.en-de.big.max_s2"),
        ("6-train.sh --config transformer_big", 4, 4, "models/wmt18.en-de.transformer_big"),
        (
            "6-train.sh --genotype paper_fig4_approx --data wmt14.en-de",
            *(4, 2, "models/wmt14.en-de.base.paper_fig4_approx"),
        ),
    ],
)
def test_any_number_of_gpus_makes_the_same_updates(
    tmp_path, stubs, command, gpus, accumulated, folder
):
    name, *arguments = command.split()
    work = ["--work", str(tmp_path), "--gpus", str(gpus)]
    done(name, *arguments, *work, "--", "common.seed=3", stubs=stubs)
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


def test_folders_may_have_any_name(tmp_path, stubs):
    (work := tmp_path / "my 'odd' wörk=1,2 & more").mkdir()
    for name in ("data", "genotypes"):
        (tmp_path / name).rename(work / name)
    done("3-search.sh", "--work", str(work), stubs=stubs)
    done("6-train.sh", "--work", str(work), "--model", str(work / "'model'"), stubs=stubs)
    words = [word for call in calls(stubs) for word in call if "'" in word]
    read = [OverridesParser.create().parse_override(word) for word in words]
    paths = [override.value() for override in read if override.key_or_group != "common.user_dir"]
    expected = ["data/wmt14.en-de/data-bin", "search/max_s2", "data/wmt18.en-de/data-bin"]
    expected += ["'model'", "genotypes/max_s2.json"]
    assert [path for path in paths if path.startswith(str(work))] == [
        f"{work}/{name}" for name in expected
    ]
    assert all((work / name).exists() for name in expected)


def test_models_of_two_genotypes_are_kept_apart(tmp_path, stubs):
    genotype = json.loads(GENOTYPE)
    other = {**genotype, "pooling": "avg"}
    contents = {"one.json": genotype, "two.json": other, "again/one.json": other}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    work = ["--work", str(tmp_path)]
    for name in ("one", "two", "one"):
        done("6-train.sh", *work, "--genotype", str(tmp_path / f"{name}.json"), stubs=stubs)
    first, second = calls(stubs)
    assert f"checkpoint.save_dir='{tmp_path}/models/wmt18.en-de.base.one'" in first
    assert f"checkpoint.save_dir='{tmp_path}/models/wmt18.en-de.base.two'" in second

    model = str(tmp_path / "models" / "wmt18.en-de.base.one")

    def refused(*arguments: str, result: str = model) -> None:
        check_refused(result, "6-train.sh", *work, "--model", model, *arguments, stubs=stubs)

    one = ["--genotype", str(tmp_path / "one.json")]
    refused("--genotype", str(tmp_path / "again" / "one.json"))
    refused(*one, "--data", "wmt14.en-de")
    refused(*one, "--config", "big")
    refused(*one, "--average", "3", result=f"{model}/average.pt")
    refused(*one, "--", "optimization.max_update=3")
    assert len(calls(stubs)) == 2


def test_a_training_that_left_nothing_may_have_other_options(tmp_path, stubs):
    torchrun = stubs / "torchrun"
    works = torchrun.read_text()
    torchrun.write_text("#!/bin/sh\nexit 3\n")
    work = ["--work", str(tmp_path)]
    failed = step("3-search.sh", *work, "--", "no.such=1", stubs=stubs)
    assert failed.returncode == 1 and "the training failed; its log: " in failed.stderr
    torchrun.write_text(works)
    done("3-search.sh", *work, stubs=stubs)


def test_an_average_of_too_many_does_not_spoil_the_training(tmp_path, stubs):
    torchrun = stubs / "torchrun"
    torchrun.write_text(
        torchrun.read_text().replace("{checkpoint_last,average}", "checkpoint_last")
    )
    for number, line in {"9": "exit 1", "2": 'touch "${@: -1}"'}.items():
        (stubs / "python").write_text(f"#!/usr/bin/env bash\n{line}\n")  # dartsformer-average
        (stubs / "python").chmod(0o755)
        command = ["--config", "transformer", "--work", str(tmp_path), "--average", number]
        ended = step("6-train.sh", *command, stubs=stubs)
        assert ended.returncode == (number == "9"), ended.stderr
    assert (tmp_path / "models" / "wmt18.en-de.transformer" / "average.pt").exists()
    assert len(calls(stubs)) == 1


def test_until_text_is_tokenised_its_preparation_may_have_other_options(tmp_path, stubs):
    """A wrong number costs no extraction, which is the same by any."""
    (stubs / "python").write_text("#!/bin/sh\nexit 3\n")
    (stubs / "python").chmod(0o755)
    out = tmp_path / "data" / "wmt14.en-de"
    (out / "extracted").touch()
    (out / "text").mkdir()
    (out / "text" / "train.en").write_text("a\n" * 3301)  # more than are held out
    for merges in ("300", "320"):
        command = ["--work", str(tmp_path), "--merges", merges]
        assert step("2-prepare.sh", *command, stubs=stubs).returncode == 3
        assert f"--merges {merges} " in (out / "options").read_text()
    (out / "tok.done").touch()
    check_refused(str(out), "2-prepare.sh", "--work", str(tmp_path), stubs=stubs)


def test_slurm_job_requeues_itself_before_its_time_limit(tmp_path, stubs):
    """A step that is under way goes on until Slurm ends it, and its status is the job's."""
    (stubs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/scontrol\n')
    (stubs / "scontrol").chmod(0o755)
    (tmp_path / "examples" / "wmt").mkdir(parents=True)
    (tmp_path / "examples" / "wmt" / "step.sh").write_text(
        f"echo $* >{tmp_path}/begun\n"
        f"for i in {{1..1000}}; do [[ ! -e {tmp_path}/scontrol ]] || exit 3; sleep 0.01; done\n"
    )
    settings = {"PATH": f"{stubs}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    environment = {**os.environ, **settings, "SLURM_SUBMIT_DIR": str(tmp_path)}
    command = ["bash", str(WMT / "slurm.sbatch"), "step.sh", "--search", "max_s1"]
    job = subprocess.Popen(command, env=environment)
    try:
        while not (tmp_path / "begun").exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == 3
    finally:
        job.kill()
    assert (tmp_path / "begun").read_text() == "--search max_s1\n"
    assert (tmp_path / "scontrol").read_text() == "requeue 17\n"
    limits = (WMT / "slurm.sbatch").read_text()
    assert "\n#SBATCH --signal=B:USR1@" in limits and "\n#SBATCH --requeue\n" in limits
