"""The folder of an exported model."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from argparse import Namespace
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import safetensors.torch
from fairseq import checkpoint_utils, tasks
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from fairseq.tasks.translation import TranslationConfig
from omegaconf import OmegaConf, open_dict
from sentencepiece import SentencePieceProcessor
from subword_nmt.apply_bpe import BPE

from ..errors import InputError
from ..fairseq_patches.reading import load_checkpoint, reading
from ..models.checkpoint_checks import DEFINING
from ..search_space.genotype import Genotype
from .graphs import OPSET, write_graphs

FORMAT = 1
MODELS = ("dartsformer", "darts_transformer", "evolved_transformer", "transformer")
PROGRAM = Path(__file__).with_name("translate.py")


@dataclass(frozen=True)
class ExportConfig:
    """What is exported.

    Attributes:
        checkpoint: of a trained model.
        data: a folder with its dictionaries; by default the training's.
        codes: BPE codes of subword-nmt or a SentencePiece model, with which the training's text was
            split, if any.
        moses: whether that text was tokenised by Moses' rules.
        int8: whether to quantise the weights of matrix products.
    """

    checkpoint: str
    data: str | None = None
    codes: str | None = None
    moses: bool = False
    int8: bool = False


def export(cfg: ExportConfig, output: Path) -> None:
    """Write the complete folder ``output``, or nothing.

    Raises:
        InputError: the folder exists, or an input is missing, damaged or of another model.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"-o {output}: exists and is not an empty folder")
    if not output.absolute().parent.is_dir():
        raise InputError(f"-o {output}: there is no folder {output.absolute().parent}")
    bpe = None if cfg.codes is None else bpe_of(cfg.codes)
    if bpe == "sentencepiece" and cfg.moses:
        raise InputError(
            f"--moses is given, and --codes {cfg.codes} is a SentencePiece model, which splits "
            "text that was not tokenised: leave one of them out"
        )
    model, task, options = load_model(cfg.checkpoint, cfg.data)
    temporary = output.absolute().with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        caches = write_graphs(model, temporary, cfg.int8)
        weights = {n: p.detach().float().contiguous() for n, p in model.named_parameters()}
        (temporary / "model.safetensors").write_bytes(safetensors.torch.save(weights))
        languages = {"source_lang": task.cfg.source_lang, "target_lang": task.cfg.target_lang}
        for coder, language in zip((model.encoder, model.decoder), languages.values(), strict=True):
            coder.dictionary.save(str(temporary / f"dict.{language}.txt"))
        checksum = None
        if cfg.codes is not None:
            shutil.copyfile(cfg.codes, temporary / "codes")
            checksum = zlib.crc32((temporary / "codes").read_bytes())
        shutil.copyfile(PROGRAM, temporary / PROGRAM.name)
        config = {
            "format": FORMAT,
            **options,
            **languages,
            "max_source_positions": model.encoder.max_positions(),
            "max_target_positions": model.decoder.max_positions(),
            "symbols": [len(coder.dictionary) for coder in (model.encoder, model.decoder)],
            "bpe": bpe,
            "codes_crc32": checksum,
            "moses": cfg.moses,
            "int8": cfg.int8,
            "opset": OPSET,
            "caches": [{"name": cache.name, "shape": cache.shape} for cache in caches],
        }
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (temporary / "config.json").write_text(text + "\n", encoding="utf-8")
        if output.is_dir():
            output.rmdir()
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model(path: str, data: str | None) -> tuple[Any, tasks.FairseqTask, dict[str, Any]]:
    """Load a model, its translation task, and what config.json says of it.

    Raises:
        InputError: the checkpoint cannot be read or is of another kind, or the dictionaries are
            missing.
    """
    state = load_checkpoint(path)
    with reading(path):
        options = state["cfg"]["model"]
        options = dict(vars(options) if isinstance(options, Namespace) else options)
        name = str(options.get("_name") or options.get("arch"))
        base = ARCH_MODEL_NAME_REGISTRY.get(name, name)
        if base not in MODELS:
            raise InputError(f"{path}: is a checkpoint of {name}, expected {' or '.join(MODELS)}")
        saved = state["cfg"].task
        with open_dict(saved):
            saved._name, saved.eval_bleu = "translation", False
            saved.data = saved.data if data is None else data
        known = [name for name in saved if name in TranslationConfig.__dataclass_fields__]
        try:
            task = tasks.setup_task(OmegaConf.masked_copy(saved, [*known, "_name"]))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"--data is {saved.data}: {error.filename}: {error.strerror}: expected a folder "
                "with the dictionaries of the training"
            ) from None
        (model,), _ = checkpoint_utils.load_model_ensemble([path], task=task, state=state)
    return model, task, {"architecture": name, **_description(options)}


def _description(options: Mapping[str, Any]) -> dict[str, Any]:
    """The genotype, and the options that decide a model's shape."""
    text = options.get("genotype")
    found: dict[str, Any] = {}
    if text is not None:
        found["genotype"] = json.loads(Genotype.load(str(text)).to_json())
    sizes = ("_dim", "_layers", "_heads", "_splits", "normalize_before", "activation_fn")
    shape = {
        name: value if isinstance(value, bool | int) else str(value)
        for name, value in sorted(options.items())
        if (name in DEFINING or name.endswith(sizes)) and name != "genotype" and value is not None
    }
    return {**found, "options": shape}


def bpe_of(path: str) -> str:
    """What a file of codes belongs to, by its content: `subword_nmt` or `sentencepiece`.

    Raises:
        InputError: it cannot be read or is neither.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"--codes is {path}: {error.strerror}") from None
    # subword-nmt prints an error and exits at a line that is no merge.
    with suppress(ValueError, IndexError, SystemExit), redirect_stderr(StringIO()):
        BPE(StringIO(content.decode("utf-8")))
        return "subword_nmt"
    with suppress(RuntimeError):
        SentencePieceProcessor(model_proto=content or b"\0")  # of nothing it prints warnings
        return "sentencepiece"
    raise InputError(
        f"--codes is {path}: neither BPE codes of subword-nmt nor a SentencePiece model"
    )
