"""``--init-from-search``: a training begins with the weights of the supernet, once."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.fairseq_commands import (
    DERIVED,
    PLUGIN,
    SIZES,
    checkpoint,
    refused,
    start,
    train,
    train_workers,
)
from helpers.models import Task, build_derived
from torch import Tensor

from fairseq_dartsformer.models.warm_start import SupernetNames
from fairseq_dartsformer.search.snapshot import snapshot_of
from fairseq_dartsformer.search_space.families import FAMILIES
from fairseq_dartsformer.search_space.genotype import Genotype

GENOTYPE = Genotype(
    encoder=[["conv_3", "ffn"], ["self_attention", "identity"]],
    decoder=[["glu", "self_attention", "cross_attention"]],
)


@pytest.fixture
def search(logged_search) -> str:
    return str(logged_search / "checkpoints" / "checkpoint_last.pt")


@pytest.fixture
def kind(search) -> list[str]:
    return [*DERIVED, "--genotype", GENOTYPE.to_json(), "--init-from-search", search]


def expected(search: str) -> dict[str, Tensor]:
    """The parameters of the derived model in the checkpoint of the search."""
    state = torch.load(search)
    candidates = snapshot_of(state, search).candidates
    names = SupernetNames(FAMILIES["dartsformer"], candidates)
    sizes = {"hidden_dim": 24, "ffn_dim": 16}
    task = SimpleNamespace(source_dictionary=Task().source_dictionary)
    task.target_dictionary = task.source_dictionary
    derived = build_derived(GENOTYPE, task, encoder_layers=2, decoder_layers=2, **sizes)
    return {n: state["model"][names.of(n, GENOTYPE)] for n, _ in derived.named_parameters()}


@pytest.mark.parametrize("options", ["", "--fp16", "--bf16", "--amp"])
def test_training_begins_with_the_weights(data, tmp_path, search, kind, options):
    """In the optimizer's copies, too."""
    run = train(kind, data, tmp_path, "--max-update", "1", *options.split(), record=True)
    weights = torch.cat([p.flatten() for p in expected(search).values()])
    dtype = {"--fp16": torch.float16, "--bf16": torch.bfloat16}.get(options, torch.float32)
    state = run.steps[0].state["weights"]
    assert torch.equal(state["value"], weights.to(dtype))
    assert torch.equal(state["master"], weights.to(dtype).float())


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_every_worker_begins_with_the_weights(data, tmp_path, search, kind, backend):
    options = ["--max-update", "1", "--ddp-backend", backend]
    weights = torch.cat([p.flatten() for p in expected(search).values()])
    for run in train_workers(kind, data, tmp_path, *options, record=True):
        assert torch.equal(run.steps[0].state["weights"]["value"], weights)


def test_once_and_the_file_is_needed_only_then(data, tmp_path, search, kind):
    """A resumed training ends with the bits of an uninterrupted one, without the search's file."""
    copy = tmp_path / "search (1).pt"
    copy.write_bytes(Path(search).read_bytes())
    kind = [*kind[:-1], str(copy)]
    train(kind, data, tmp_path / "whole", "--max-update", "4")
    train(kind, data, tmp_path / "parts", "--max-update", "2")
    copy.unlink()
    train(kind, data, tmp_path / "parts", "--max-update", "4")
    whole, parts = (checkpoint(tmp_path / name)["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    path = str(tmp_path / "parts" / "checkpoints" / "checkpoint_last.pt")
    arguments = [str(data), "--user-dir", PLUGIN, "--path", path, "--cpu", "--gen-subset", "valid"]
    assert start("generate", arguments, tmp_path / "generate").wait().status == 0
    pattern = r"--init-from-search is .*search \(1\).pt: checkpoint .* cannot be read: No such file"
    other = ["--save-dir", str(tmp_path / "other")]
    refused(kind, data, tmp_path, *other, pattern=pattern)


def test_from_a_file_of_options(data, tmp_path, search):
    configs = Path(PLUGIN).parent / "configs" / "train"
    sizes = dict(zip(SIZES[::2], SIZES[1::2], strict=True))
    sizes |= {"--embed-dim": "8", "--encoder-layers": "2"}
    options = [f"model.{name[2:].replace('-', '_')}={value}" for name, value in sizes.items()]
    (tmp_path / "genotype.json").write_text(GENOTYPE.to_json())
    arguments = [
        *("--config-dir", str(configs), "--config-name", "base", *options),
        *(f"task.data={data}", f"common.user_dir={PLUGIN}", f"hydra.run.dir={tmp_path}/hydra"),
        *(f"checkpoint.save_dir={tmp_path}/checkpoints", "common.tensorboard_logdir=null"),
        *(f"model.genotype={tmp_path}/genotype.json", f"+model.init_from_search={search}"),
        *("model.share_all_embeddings=false", "optimization.lr=[0]", "optimization.max_update=1"),
        *("common.fp16=false", "common.cpu=true", "dataset.num_workers=0"),
        "distributed_training.distributed_world_size=1",
    ]
    run = start("hydra_train", arguments, tmp_path).wait()
    assert run.status == 0, run.stderr
    model = checkpoint(tmp_path)["model"]
    assert all(torch.equal(model[name], value) for name, value in expected(search).items())


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ("--decoder-layers 4", "--decoder-layers is 4, it must be 2 as in the search"),
        ("--arch evolved_transformer", "unrecognized arguments"),
        ("--finetune-from-model {search}", "and --finetune-from-model is .*: give one of them"),
        ("--genotype paper_fig4_approx", "--genotype has ffn in decoder.0..0., the candidates"),
    ],
)
def test_bad_input_is_one_line(data, tmp_path, search, kind, options, pattern):
    options = options.format(search=search).split()
    if "evolved" in options[-1]:
        run = start("train", [*kind, *options], tmp_path).wait()
        assert run.status == 2 and pattern in run.stderr
        return
    refused(kind, data, tmp_path, *options, pattern=pattern)
