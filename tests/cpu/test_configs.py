"""The whole runs in `configs/`, through `fairseq-hydra-train`, made small by overrides."""

from pathlib import Path

import pytest
from running import checkpoint, start

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml"))
SMALL = (
    "common.fp16=false common.cpu=true dataset.num_workers=0 dataset.disable_validation=true "
    "distributed_training.distributed_world_size=1 optimization.max_update=2 "
    "model.embed_dim=8 model.hidden_dim=24 model.ffn_dim=16 model.encoder_layers=2 "
    "model.decoder_layers=2 model.attention_heads=2"
).split()


def run(config: Path, data: Path, folder: Path, *overrides: str):
    arguments = ["--config-dir", str(config.parent), "--config-name", config.stem]
    plugin = Path(__file__).parents[2] / "fairseq_dartsformer"
    paths = [
        f"task.data={data}",
        f"common.user_dir={plugin}",
        f"checkpoint.save_dir={folder}/checkpoints",
        f"hydra.run.dir={folder}/hydra",
        f"common.tensorboard_logdir={folder}/tensorboard",
    ]
    return start("hydra_train", [*arguments, *paths, *SMALL, *overrides], folder).wait()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_whole_run(data, tmp_path, config):
    derived = config.parent.name == "train"
    genotype = ["model.genotype=paper_fig4_approx"] if derived else []
    ended = run(config, data, tmp_path, *genotype)
    assert ended.status == 0, ended.stderr
    state = checkpoint(tmp_path)
    assert state["optimizer_history"][-1]["num_updates"] == 2
    model = state["cfg"]["model"]
    assert ("genotype" in model) == derived
    if not derived:
        pooling, layers = config.stem.split("_s")
        assert (str(model["pooling"]), model["search_layers"]) == (pooling, int(layers))


def test_baseline(data, tmp_path):
    """The Evolved Transformer in the place of a derived model."""
    (config,) = (path for path in CONFIGS if path.stem == "base")
    baseline = ["model._name=evolved_transformer", "~model.embed_dim"]
    baseline += ["model.genotype=none", "~model.genotype"]  # hydra deletes nothing that is missing
    ended = run(config, data, tmp_path, *baseline)
    assert ended.status == 0, ended.stderr
    model = checkpoint(tmp_path)["cfg"]["model"]
    assert (model["_name"], model["activation_dropout"]) == ("evolved_transformer", 0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "--genotype is missing"),
        (["model.genotype=no_such"], "genotype no_such: neither a file nor"),
        (["model.genotype=paper_fig4_approx", "model.attention_heads=5"], "--attention-heads is 5"),
    ],
)
def test_bad_input_is_one_line(data, tmp_path, overrides, message):
    (config,) = (path for path in CONFIGS if path.stem == "base")
    ended = run(config, data, tmp_path, *overrides)
    assert ended.status == 1
    assert any(line.startswith(message) for line in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr
