"""alpha and the genotype while a search runs: on the terminal, in TensorBoard and in W&B."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import progress_bar
from helpers.fairseq_commands import DARTS, SAMPLING, SEARCH, train, train_workers
from helpers.logs import lines, scalars, summaries
from helpers.snapshots import search_state

from fairseq_dartsformer.search.snapshot import SKIPS, Snapshot, derive, load_snapshot, snapshot_of
from fairseq_dartsformer.search.tensorboard import AlphaWriter
from fairseq_dartsformer.search.tensorboard import scalars as of_snapshot
from fairseq_dartsformer.search_space.alpha import entropy
from fairseq_dartsformer.search_space.genotype import Genotype

# A rate at which the genotype changes often; every snapshot has a checkpoint.
LOGGED = "--max-update 12 --log-interval 3 --save-interval-updates 3 --arch-lr 0.3".split()
LOGGED += "--log-format json --disable-validation --tensorboard-logdir".split()
LINE = re.compile(r"genotype after (\d+) updates: encoder ([\w /]+), decoder ([\w /]+)(?:; (.*))?")


@dataclass
class Search:
    """A finished search: what it wrote, and its checkpoints and their genotypes by updates."""

    stdout: str
    tensorboard: Path
    snapshots: dict[int, Snapshot]
    genotypes: dict[int, Genotype]

    def differing(self, updates: int) -> int:
        """In how many nodes a genotype differs from the one before."""
        now, before = self.genotypes[updates], self.genotypes.get(updates - 3)
        pairs = zip(rows(now), rows(before or now), strict=True)
        return sum(a != b for one, other in pairs for a, b in zip(one, other, strict=True))


def rows(genotype: Genotype) -> list[list[str]]:
    return [list(layer) for layer in (*genotype.encoder, *genotype.decoder)]


@pytest.fixture(scope="module", params=[SEARCH, DARTS], ids=["dartsformer", "darts"])
def searched(request, data, tmp_path_factory) -> Search:
    """It was resumed after six updates."""
    folder = tmp_path_factory.mktemp("live")
    arguments = [*LOGGED, str(folder / "tensorboard")]
    stdout = train(request.param, data, folder, *arguments, "--max-update", "6").stdout
    stdout += train(request.param, data, folder, *arguments).stdout
    snapshots = {}
    for updates in (3, 6, 9, 12):
        (path,) = (folder / "checkpoints").glob(f"checkpoint_*_{updates}.pt")
        snapshots[updates] = load_snapshot(str(path))
    genotypes = {updates: derive(snapshot) for updates, snapshot in snapshots.items()}
    return Search(stdout, folder / "tensorboard", snapshots, genotypes)


def test_terminal_shows_the_derived_genotype(searched):
    found = LINE.findall(searched.stdout)
    assert [int(updates) for updates, *_ in found] == [3, 6, 9, 12]
    for (updates, genotype), (_, *blocks, change) in zip(
        searched.genotypes.items(), found, strict=True
    ):
        shown = [layer.split() for block in blocks for layer in block.split(" / ")]
        assert rows(genotype) == shown
        count = searched.differing(updates)
        known = f"{count} of 8 nodes changed since {updates - 3}"
        assert change == ("" if updates == 3 else known)
    assert any(map(searched.differing, searched.genotypes))
    shown = set().union(*lines(searched.stdout))
    assert "alpha_entropy" in shown and not any("split" in name or "/" in name for name in shown)


def test_tensorboard_shows_alpha_by_node(searched):
    shown = scalars(searched.tensorboard, "alpha")
    skips = []
    for i, snapshot in enumerate(searched.snapshots.values()):
        for node in snapshot.nodes():
            group = snapshot.name(node).replace(" ", "_")
            for operation, weight in snapshot.ranked(node):
                assert shown[f"{group}/{operation}"][i] == pytest.approx(weight, abs=1e-6)
            found = shown[f"entropy/{group}"][i]
            assert found == pytest.approx(float(entropy(snapshot.weights_of(node))), abs=1e-5)
        skips.append(sum(snapshot.ranked(node)[0][0] in SKIPS for node in snapshot.nodes()))
    assert shown["genotype/skips"] == skips
    assert shown["genotype/changed_nodes"] == list(map(searched.differing, searched.genotypes))
    assert {len(values) for values in shown.values()} == {4}
    assert not shown.keys() & scalars(searched.tensorboard).keys()


def test_tensorboard_shows_histograms_and_genotypes(searched):
    histograms, texts = {}, {}
    for updates, value in summaries(searched.tensorboard, "alpha"):
        if value.WhichOneof("value") == "histo":
            histograms[updates, value.tag] = value.histo
        elif value.tag.startswith("genotype/text_summary"):
            texts[updates] = Genotype.from_json(value.tensor.string_val[0].decode(), "")
    for updates, snapshot in searched.snapshots.items():
        for stack, alpha in snapshot.alpha.items():
            histogram = histograms[updates, stack]
            assert histogram.num == alpha.numel()
            assert histogram.sum == pytest.approx(float(alpha.double().sum()), abs=1e-4)
        assert (updates in texts) == (updates == 3 or searched.differing(updates) > 0)
        assert texts.get(updates) in (None, searched.genotypes[updates])


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
    progress_bar._close_writers()  # whose threads have written by then; a flush does not wait
    shown = list(summaries(tmp_path, "alpha"))
    images = [step for step, value in shown if value.WhichOneof("value") == "image"]
    assert images == [10_000]
    assert {name: values[1] for name, values in scalars(tmp_path, "alpha").items()} == {
        name: pytest.approx(value, abs=1e-6) for name, value in of_snapshot(snapshot, 1).items()
    }
