"""The files in `configs/`, run by `fairseq-hydra-train` with small sizes."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import ARCH_CONFIG_REGISTRY, MODEL_DATACLASS_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from helpers.fairseq_commands import DARTS_GENOTYPE, TEXT_GENOTYPE, checkpoint, start
from omegaconf import DictConfig, OmegaConf

from fairseq_dartsformer.models.architectures import FFN_RATIOS, SIZES
from fairseq_dartsformer.search.registry import STRATEGIES
from fairseq_dartsformer.search_space.genotype import BUILTIN

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml"))
GENOTYPES = {
    "dartsformer": BUILTIN["paper_fig4_approx"],
    "darts_transformer": DARTS_GENOTYPE,
    "dartsformer_lm": TEXT_GENOTYPE,
}
SMALL = (
    "common.fp16=false common.cpu=true dataset.num_workers=0 dataset.disable_validation=true "
    "distributed_training.distributed_world_size=1 optimization.max_update=2 "
    "model.decoder_layers=2"
).split()


def small_sizes(model: str) -> dict[str, int]:
    """Small values for a model's options of width."""
    if model == "transformer":
        sizes = {"embed_dim": 8, "ffn_embed_dim": 16, "attention_heads": 2}
        return {f"{side}_{k}": n for side in ("encoder", "decoder") for k, n in sizes.items()}
    sizes = {"hidden_dim": 24, "ffn_dim": 16, "attention_heads": 2}
    return sizes if model == "evolved_transformer" else {"embed_dim": 8, **sizes}


def load(config: Path) -> DictConfig:
    """A file with those that it includes."""
    cfg = OmegaConf.load(config)
    parts = [part for part in cfg.pop("defaults") if part != "_self_"]
    return OmegaConf.merge(cfg, *(OmegaConf.load(config.parent / f"{p}.yaml") for p in parts))


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
    name = load(config).model._name
    small = SMALL + [f"model.{option}={size}" for option, size in small_sizes(name).items()]
    small.append("task.tokens_per_sample=8" if "_lm" in name else "model.encoder_layers=2")
    return start("hydra_train", [*arguments, *paths, *small, *overrides], folder).wait()


each_config = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


@each_config
def test_fairseq_takes_every_option(config):
    """It knows the option, and the value has its type."""
    cfg = load(config)
    schemas = {"model": MODEL_DATACLASS_REGISTRY, "task": TASK_DATACLASS_REGISTRY}
    schemas |= {group: registry["dataclass_registry"] for group, registry in REGISTRIES.items()}
    for group in cfg.keys() - {"hydra"}:
        if group not in schemas:
            OmegaConf.merge(OmegaConf.structured(FairseqConfig)[group], cfg[group])
        elif schema := schemas[group].get(cfg[group]._name):  # the transformer has none
            OmegaConf.merge(OmegaConf.structured(schema), cfg[group])


@pytest.mark.parametrize(
    "name",
    [
        *("search/sampling_avg_s2", "search/darts_transformer", "search/idarts_avg_s2"),
        *("train/base", "train/evolved_transformer", "search/lm_max_s2", "train/lm"),
    ],
)
def test_run(data, tmp_path, name):
    """The run ends with a checkpoint that has the settings of the file and those it includes."""
    (config,) = (path for path in CONFIGS if path.match(f"{name}.yaml"))
    cfg, genotype = load(config), []
    if OmegaConf.is_missing(cfg.model, "genotype"):
        path = tmp_path / "genotype.json"
        path.write_text(GENOTYPES[cfg.model._name].to_json())
        genotype.append(f"model.genotype={path}")
    ended = run(config, data, tmp_path, *genotype)
    assert ended.status == 0, ended.stderr
    state = checkpoint(tmp_path)
    assert state["optimizer_history"][-1]["num_updates"] == 2
    saved = OmegaConf.create(state["cfg"])
    changed = {part.split(".")[1].split("=")[0] for part in SMALL} | {"user_dir", "save_dir"}
    changed |= {
        "data",
        "genotype",
        "tensorboard_logdir",
        "encoder_layers",
        "tokens_per_sample",
        *small_sizes(cfg.model._name),
    }
    for group in cfg.keys() - {"hydra"}:
        for option in cfg[group].keys() - changed:
            assert str(saved[group][option]) == str(cfg[group][option]), (group, option)


@each_config
def test_sizes_are_the_architectures(config):
    """The sizes and the dropout of `--arch`; DARTSformer's for IWSLT'14 are no architecture's."""
    model, size = load(config).model, config.stem.rpartition("_")[2]
    expected: dict[str, Any] = {}
    if model._name in SIZES and "iwslt14" in config.stem:
        expected = {"ffn_dim": model.hidden_dim * FFN_RATIOS[model._name]}
    elif model._name in SIZES:
        sizes = SIZES[model._name]
        expected = sizes.get(f"_{size}", sizes[""])
        expected = expected | {"ffn_dim": model.hidden_dim * FFN_RATIOS[model._name]}
    elif size in ("small", "medium"):  # Section 4.3
        width = {"small": 128, "medium": 256}[size]
        expected = {"encoder_embed_dim": width, "decoder_embed_dim": width}
    else:
        archs = {"big": "transformer_vaswani_wmt_en_de_big", "iwslt14": "transformer_iwslt_de_en"}
        arch = archs.get(size, "transformer")
        args = Namespace()
        ARCH_CONFIG_REGISTRY[arch](args)
        names = [*small_sizes("transformer"), *(["dropout"] if size != "iwslt14" else [])]
        expected = {name: getattr(args, name) for name in names}
    assert {name: model[name] for name in expected} == expected
    if config.parent.name == "search" and "pooling" in model:
        *_, pooling, layers = config.stem.split("_")
        assert (model.pooling, f"s{model.search_layers}") == (pooling, layers)


def test_every_strategy_has_a_search():
    """In a precision that it takes."""
    found = {}
    for config in (path for path in CONFIGS if path.parent.name == "search"):
        cfg = load(config)
        found[cfg.task.get("search_strategy", "darts")] = cfg.common.fp16
    assert found.keys() == STRATEGIES.keys()
    assert not any(found[n] for n, s in STRATEGIES.items() if getattr(s, "float32_only", False))


def test_bad_input_is_one_line(data, tmp_path):
    (config,) = (path for path in CONFIGS if path.stem == "base")
    ended = run(config, data, tmp_path)
    assert ended.status == 1
    assert any(line.startswith("--genotype is missing") for line in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr
