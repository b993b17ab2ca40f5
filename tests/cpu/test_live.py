"""alpha and the genotype while a search runs: on the terminal, in TensorBoard and in W&B."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import progress_bar
from helpers.logs import lines, scalars, summaries
from helpers.running import DARTS, SAMPLING, SEARCH, train, train_workers, training
from helpers.searches import search_state

from fairseq_dartsformer.search.snapshot import SKIPS, Snapshot, derive, load_snapshot, snapshot_of
from fairseq_dartsformer.search.tensorboard import AlphaWriter
from fairseq_dartsformer.search.tensorboard import scalars as of_snapshot
from fairseq_dartsformer.search_space.alpha import entropy
from fairseq_dartsformer.search_space.genotype import Genotype

# A rate at which the genotype changes often; every snapshot has a checkpoint.
LOGGED = "--max-update 12 --log-interval 3 --save-interval-updates 3 --arch-lr 0.3".split()
LOGGED += "--log-format json --disable-validation --tensorboard-logdir".split()
LINE = re.compile(r"genotype after (\d+) updates: encoder ([\w /]+), decoder ([\w /]+)(?:; (.*))?")


def saved(folder, updates: int) -> Snapshot:
    (path,) = (folder / "checkpoints").glob(f"checkpoint_*_{updates}.pt")
    return load_snapshot(str(path))


def layers(block: str) -> list[list[str]]:
    return [layer.split() for layer in block.split(" / ")]


def differing(one: Genotype, two: Genotype) -> int:
    return sum(
        a != b
        for stack in ("encoder", "decoder")
        for x, y in zip(getattr(one, stack), getattr(two, stack), strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.fixture(scope="module", params=[SEARCH, DARTS], ids=["dartsformer", "darts"])
def searched(request, data, tmp_path_factory):
    """The folder of a search, and its output; it was resumed after six updates."""
    folder = tmp_path_factory.mktemp("live")
    arguments = [*LOGGED, str(folder / "tensorboard")]
    first = train(request.param, data, folder, *arguments, "--max-update", "6").stdout
    return folder, first + train(request.param, data, folder, *arguments).stdout


def test_terminal_shows_the_derived_genotype(searched):
    folder, stdout = searched
    found = LINE.findall(stdout)
    assert [int(updates) for updates, *_ in found] == [3, 6, 9, 12]
    changes, before = 0, None
    for updates, encoder, decoder, change in found:
        genotype = derive(saved(folder, int(updates)))
        assert [list(layer) for layer in genotype.encoder] == layers(encoder)
        assert [list(layer) for layer in genotype.decoder] == layers(decoder)
        if before is None:
            assert change == ""
        else:
            count = differing(genotype, before)
            assert change == f"{count} of 8 nodes changed since {int(updates) - 3}"
            changes += count
        before = genotype
    assert changes > 0
    shown = set().union(*lines(stdout))
    assert "alpha_entropy" in shown and not any("split" in name or "/" in name for name in shown)


def test_tensorboard_shows_alpha_by_node(searched):
    folder, _ = searched
    shown = scalars(folder / "tensorboard", "alpha")
    counts, changed, before = [], [], None
    for i, updates in enumerate((3, 6, 9, 12)):
        snapshot = saved(folder, updates)
        for node in snapshot.nodes():
            group = snapshot.name(node).replace(" ", "_")
            for operation, weight in snapshot.ranked(node):
                assert shown[f"{group}/{operation}"][i] == pytest.approx(weight, abs=1e-6)
            found = shown[f"entropy/{group}"][i]
            assert found == pytest.approx(float(entropy(snapshot.alpha_of(node))), abs=1e-5)
        genotype = derive(snapshot)
        counts.append(sum(snapshot.ranked(node)[0][0] in SKIPS for node in snapshot.nodes()))
        changed.append(0 if before is None else differing(genotype, before))
        before = genotype
    assert shown["genotype/skips"] == counts and shown["genotype/changed_nodes"] == changed
    for name, values in shown.items():
        assert len(values) == 4, name
    assert not shown.keys() & scalars(folder / "tensorboard").keys()


def test_tensorboard_shows_histograms_and_genotypes(searched):
    folder, _ = searched
    histograms, texts = {}, {}
    for updates, value in summaries(folder / "tensorboard", "alpha"):
        if value.WhichOneof("value") == "histo":
            histograms[updates, value.tag] = value.histo
        elif value.tag.startswith("genotype/text_summary"):
            texts[updates] = value.tensor.string_val[0].decode()
    before = None
    for updates in (3, 6, 9, 12):
        snapshot = saved(folder, updates)
        for stack, alpha in snapshot.alpha.items():
            histogram = histograms[updates, stack]
            assert histogram.num == alpha.numel()
            assert histogram.sum == pytest.approx(float(alpha.double().sum()), abs=1e-4)
        genotype = derive(snapshot)
        assert (updates in texts) == (genotype != before)
        if updates in texts:
            assert Genotype.from_json(texts[updates], "") == genotype
        before = genotype


def test_only_the_first_worker_logs(data, tmp_path):
    first, second = train_workers(SEARCH, data, tmp_path, *LOGGED, str(tmp_path / "tensorboard"))
    assert len(LINE.findall(first.stdout)) == 4 and not LINE.findall(second.stdout)
    assert len(scalars(tmp_path / "tensorboard", "alpha")["genotype/skips"]) == 4


def test_sampling_logs_no_alpha(data, tmp_path):
    options = [o for o in LOGGED if o not in ("--arch-lr", "0.3")]
    run = train(SAMPLING, data, tmp_path, *options, str(tmp_path / "tensorboard"))
    assert not LINE.findall(run.stdout)
    assert not (tmp_path / "tensorboard" / "alpha").exists()
    assert scalars(tmp_path / "tensorboard")["loss"]


class Wandb(SimpleNamespace):
    """Records what is logged."""

    def __init__(self):
        super().__init__(steps={}, Histogram=list, Image=lambda image: image)

    def log(self, values, step):
        self.steps.setdefault(step, {}).update(values)


def write(snapshot: Snapshot, new: bool, tensorboard: str | None, wandb: bool) -> None:
    AlphaWriter(tensorboard, wandb).write(snapshot, derive(snapshot), changed=1, new=new)


def test_weights_and_biases_gets_the_same_values(monkeypatch, tmp_path):
    monkeypatch.setattr(progress_bar, "wandb", wandb := Wandb())
    for seed in (0, 1):
        snapshot = snapshot_of(search_state(seed), "")
        write(snapshot, seed == 0, str(tmp_path), wandb=True)
        values = wandb.steps[10_000 * (seed + 1)]
        expected = {f"alpha/{name}": value for name, value in of_snapshot(snapshot, 1).items()}
        assert {name: values.pop(name) for name in expected} == expected
        for stack, alpha in snapshot.alpha.items():
            assert torch.equal(torch.tensor(values.pop(f"alpha/{stack}")), alpha.flatten())
        if seed == 0:
            assert values.pop("alpha/genotype") == derive(snapshot).to_json()
            assert values.pop("alpha/picture").shape[2:] == (3,)
        assert values == {}
    shown = list(summaries(tmp_path, "alpha"))
    images = [step for step, value in shown if value.WhichOneof("value") == "image"]
    assert images == [10_000]
    assert {name: values[1] for name, values in scalars(tmp_path, "alpha").items()} == {
        name: pytest.approx(value, abs=1e-6) for name, value in of_snapshot(snapshot, 1).items()
    }


def test_weights_and_biases_offline(data, tmp_path):
    """The real package takes all values, images included."""
    pytest.importorskip("wandb")
    given = [*LOGGED, str(tmp_path / "tensorboard"), "--wandb-project", "searches"]
    run = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.train", *training(SEARCH, data, tmp_path, *given)],
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (record,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    written = record.read_bytes()
    for name in ("alpha/genotype/skips", "alpha/entropy/encoder_layer_1_split_2", "alpha/genotype"):
        assert name.encode() in written
    shown = [value.tag for _, value in summaries(tmp_path / "tensorboard", "alpha")]
    pictures = list(record.parent.glob("files/media/images/alpha/picture_*.png"))
    assert len(pictures) == shown.count("genotype") > 0


def test_nothing_is_written_unless_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(progress_bar, "wandb", wandb := Wandb())
    monkeypatch.chdir(tmp_path)
    write(snapshot_of(search_state(), ""), new=True, tensorboard=None, wandb=False)
    assert wandb.steps == {} and not list(tmp_path.iterdir())
