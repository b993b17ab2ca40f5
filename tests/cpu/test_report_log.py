"""Reports read what fairseq logs, in each of its formats, and nothing else."""

import shutil

import pytest

from fairseq_dartsformer.report.log import read_log
from fairseq_dartsformer.report.run import read_search

# Recorded; shortened.
INNER = (
    "epoch 001:      4 / 276 loss=13.092, nll_loss=13.084, loss_weights=13.145, loss_alpha=13.038, "
    "ppl=8685.05, wps=2351.1, num_updates=4, lr=2.49e-07, gnorm=0.66, train_wall=0, wall=10"
)
VALID = "epoch 001 | valid on 'valid' subset | loss 13.604 | ppl 12450.8 | wps 7000 | num_updates 4"
JSON = (
    '{"epoch": 1, "update": 0.014, "loss": "13.092", "loss_alpha": "13.038", "wps": "2351.1", '
    '"num_updates": "4", "lr": "2.49e-07", "train_wall": "0", "wall": "10", "gb_free": null}'
)
JSON_VALID = '{"epoch": 1, "valid_loss": "13.604", "valid_wps": "7000", "valid_num_updates": "4"}'
FORMS = {
    "output of fairseq-train": "2026-11-28 15:58:21 | INFO | TAG | ",
    "hydra_train.log": "[2026-11-28 15:56:49,588][TAG][INFO] - ",
    "--log-file": "",
}


@pytest.mark.parametrize("prefix", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("lines", [(INNER, VALID), (JSON, JSON_VALID)], ids=["simple", "json"])
def test_recorded_lines(tmp_path, prefix, lines):
    path = tmp_path / "log"
    tags = ("train_inner", "valid")
    path.write_text(
        "".join(f"{prefix.format(tag)}{line}\n" for tag, line in zip(tags, lines, strict=True))
    )
    log = read_log(path)
    assert log.curve("train_inner", "loss_alpha") == [(4, 13.038)]
    assert log.curve("train_inner", "wps") == [(4, 2351.1)]
    assert log.curve("train_inner", "lr") == [(4, 2.49e-07)]
    assert log.curve("valid", "loss") == [(4, 13.604)]
    assert log.updates == 4 and not log.done


def test_log_and_checkpoints_agree(logged_search):
    log = read_log(logged_search / "stdout")
    run = read_search(logged_search / "checkpoints")
    assert log.done and log.updates == 8
    for name in ("loss_weights", "loss_alpha"):
        logged = log.curve("train_inner", name)
        assert [updates for updates, _ in logged] == [2, 4, 6, 8]
        assert run.interval_means(name) == [(u, pytest.approx(v, abs=2e-3)) for u, v in logged]
    valid = log.curve("valid", "loss")
    assert valid == [(s.updates, pytest.approx(s.validation, abs=1e-3)) for s in run.checkpoints]


def test_log_of_a_resumed_search(logged_search, tmp_path):
    """It ends where the last of its trainings ends."""
    first, log = (logged_search / "stdout").read_text(), tmp_path / "log"
    second = first.splitlines(keepends=True)
    (start,) = (i for i, line in enumerate(second) if "begin training epoch 1" in line)
    (end,) = (i for i, line in enumerate(second) if "done training" in line)
    for count, done in ((0, True), (start + 1, False), (end, False), (end + 1, True)):
        log.write_text(first + "".join(second[:count]))
        assert read_log(log).done is done


def test_hydras_log_without_statistics_is_passed_over(logged_search, tmp_path):
    folder = shutil.copytree(logged_search / "checkpoints", tmp_path / "run")
    (folder / "hydra_train.log").write_text("[2026-11-28 15:56:49,588][fairseq][INFO] - begins\n")
    assert any(read_search(folder).losses().values())


def test_other_lines_are_passed_over(logged_search, tmp_path):
    log = tmp_path / "log"
    log.write_text((logged_search / "stdout").read_text())
    known = read_log(log).values
    with log.open("a") as file:
        for text in ("", "{", '{"epoch"', '{"epoch": 1}', '{"epoch": {"num_updates": [1]}}'):
            file.write(f"2020-02-20 | INFO | train_inner | {text}\n")
        file.write('{"epoch": 1, "num_updates": [1]}\n' + '{"epoch":' * 100_000)
    assert read_log(log).values == known
