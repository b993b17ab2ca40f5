"""Checkpoints of version 0.1 load, evaluate, generate, derive and resume as they did then."""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data.iterators import GroupedIterator
from fairseq.dataclass.configs import GenerationConfig
from fairseq.logging import metrics
from fairseq.tasks import setup_task
from fairseq.trainer import Trainer
from helpers.attempts import attempt
from omegaconf import OmegaConf
from torch import Tensor

FIXTURES = Path(__file__).parents[1] / "fixtures" / "version_0_1"
DATA = FIXTURES / "data-bin"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
SEARCHES = [kind for kind, expected in EXPECTED.items() if "genotype" in expected]

# fairseq's, of hydra and torch
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def checkpoint(kind: str, tmp_path: Path) -> str:
    """The unpacked checkpoint of a kind."""
    path = tmp_path / "checkpoint_last.pt"
    path.write_bytes(lzma.decompress((FIXTURES / f"{kind}.pt.xz").read_bytes()))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "name"), [("search", "dartsformer_search_tiny"), ("dartsformer", "dartsformer_small")]
)
def test_named_architecture_loads(kind, name, checkpoint):
    """For these, fairseq fills in no options that the checkpoint lacks."""
    state = torch.load(checkpoint, weights_only=False)
    state["cfg"]["model"]["_name"] = name
    torch.save(state, checkpoint)
    overrides = {"data": str(DATA)}
    (model,), *_ = checkpoint_utils.load_model_ensemble_and_task([checkpoint], overrides)
    found, expected = model.state_dict(), state["model"]
    assert all(
        torch.equal(found[name], tensor.to(found[name])) for name, tensor in expected.items()
    )


@pytest.mark.parametrize("kind", EXPECTED)
def test_evaluation_and_generation(kind, checkpoint):
    """The loss in float32, summed over the test split as one batch, and the best hypotheses."""
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [checkpoint], arg_overrides={"data": str(DATA)}
    )
    task.load_dataset("test")
    dataset = task.dataset("test")
    batch = dataset.collater([dataset[index] for index in range(len(dataset))])
    model.float().eval()
    with torch.no_grad():
        loss, _, _ = task.build_criterion(cfg.criterion).eval()(model, batch)
    assert loss.item() == pytest.approx(EXPECTED[kind]["evaluation_loss"], rel=1e-6)

    generation = OmegaConf.structured(GenerationConfig(beam=3, max_len_a=1, max_len_b=1))
    generator = task.build_generator([model], generation)
    prefix = batch["target"][:, :1]
    found = task.inference_step(generator, [model], batch, prefix_tokens=prefix)
    hypotheses = [task.target_dictionary.string(best["tokens"]) for best, *_ in found]
    assert [hypotheses[n] for n in batch["id"].argsort()] == EXPECTED[kind]["hypotheses"]


@pytest.mark.parametrize("kind", SEARCHES)
def test_derivation(kind, checkpoint, tmp_path):
    output = tmp_path / "genotype.json"
    assert attempt("derive", checkpoint, "-o", str(output)).status == 0
    assert json.loads(output.read_text()) == EXPECTED[kind]["genotype"]


def values(parameter: Tensor) -> bytes:
    """In float32, which half precision's copies share with the saved ones."""
    return parameter.detach().float().flatten().numpy().tobytes()


@pytest.mark.parametrize("kind", EXPECTED)
def test_resuming(kind, checkpoint, tmp_path):
    """Moments, batches, their levels and the learning rate carry on.

    Values identify the parameters, as names and order may change; several may have the same, such
    as biases that are still zero. A search by sampling is compared for one update: whether
    operations that were not drawn move is not a property of the checkpoint.
    """
    expected = EXPECTED[kind]
    weights = torch.load(checkpoint, weights_only=False)["model"]  # before any conversion
    cfg = checkpoint_utils.load_checkpoint_to_cpu(checkpoint, {"data": str(DATA)})["cfg"]
    cfg.model.dropout = cfg.model.activation_dropout = 0.0
    cfg.checkpoint.save_dir, cfg.checkpoint.restore_file = str(tmp_path), checkpoint
    cfg.checkpoint.reset_meters = True
    task = setup_task(cfg.task)
    trainer = Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))
    _, batches = checkpoint_utils.load_checkpoint(cfg.checkpoint, trainer)

    moments = defaultdict(list)
    for name, pair in expected["moments"].items():
        moments[values(weights[name])].append(pair)
    found = defaultdict(list)
    for parameter, state in trainer.optimizer.optimizer.state.items():
        sums = [state[name].double().sum().item() for name in ("exp_avg", "exp_avg_sq")]
        found[values(parameter)].append(sums)
    assert found.keys() == moments.keys()
    for key, pairs in moments.items():
        for pair, other in zip(sorted(pairs), sorted(found[key]), strict=True):
            assert pair == pytest.approx(other, rel=1e-9, abs=1e-15)

    metrics.reset()
    groups, losses = GroupedIterator(batches.next_epoch_itr(), 1), []
    trainer.begin_epoch(batches.epoch)
    with metrics.aggregate("train"):
        for _ in range(2):
            trainer.train_step(next(groups))
            losses.append(float(metrics.get_meter("train", "loss").avg))
    assert trainer.get_num_updates() == expected["updates"] + 2
    count, tolerance = 1 if kind == "sampling" else 2, 1e-3 if "fp16" in kind else 1e-5
    assert losses[:count] == pytest.approx(expected["resumed_losses"][:count], rel=tolerance)
