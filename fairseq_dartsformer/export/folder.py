"""The folder of an exported model."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import safetensors.torch
from fairseq import checkpoint_utils, tasks
from fairseq.data import Dictionary
from fairseq.data.data_utils import infer_language_pair
from fairseq.dataclass import FairseqDataclass
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from fairseq.tasks.language_modeling import LanguageModelingConfig
from fairseq.tasks.translation import TranslationConfig
from fairseq.utils import split_paths
from omegaconf import OmegaConf, open_dict
from sentencepiece import SentencePieceProcessor
from subword_nmt.apply_bpe import BPE

from ..errors import InputError, flag
from ..fairseq_patches.reading import load_checkpoint, reading
from ..models.checkpoint_checks import DEFINING, options_of
from ..search_space.families import STACKS
from ..search_space.genotype import Genotype
from .graphs import OPSET, write_graphs

FORMAT = 3
SHARED = ("decoding.py", "loading.py")  # what the programs import


@dataclass(frozen=True)
class Kind:
    """What models are used for.

    Attributes:
        task: fairseq's name of the task.
        options: the task's.
        models: fairseq's names of the models that can be exported.
        program: the file that runs them, in the folder beside this module.
    """

    task: str
    options: type[FairseqDataclass]
    models: tuple[str, ...]
    program: str


TRANSLATION = Kind(
    "translation",
    TranslationConfig,
    ("dartsformer", "darts_transformer", "evolved_transformer", "transformer"),
    "translate.py",
)
LANGUAGE_MODELING = Kind(
    "language_modeling",
    LanguageModelingConfig,
    ("dartsformer_lm", "darts_transformer_lm", "transformer_lm"),
    "continue.py",
)
KINDS = {name: kind for kind in (TRANSLATION, LANGUAGE_MODELING) for name in kind.models}


@dataclass(frozen=True)
class ExportConfig:
    """What is exported.

    Attributes:
        checkpoint: of a trained model.
        data: a folder with its dictionaries; by default the training's.
        codes: BPE codes of subword-nmt or a SentencePiece model, with which the training's text was
            split, if any.
        moses: whether that text was tokenised by Moses' rules.
        normalise: whether punctuation was normalised before.
        lower_case: whether the tokens were lower-cased.
        lang: language of the text of a language model, for Moses' rules.
        int8: whether to quantise the weights of matrix products.
    """

    checkpoint: str
    data: str | None = None
    codes: str | None = None
    moses: bool = False
    normalise: bool = True
    lower_case: bool = False
    lang: str | None = None
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
    for name, usual in (("normalise", True), ("lower_case", False)):
        if getattr(cfg, name) != usual and not cfg.moses:
            raise InputError(f"{flag(name)} is given: it needs --moses")
    model, task, kind, options = load_model(cfg.checkpoint, cfg.data)
    languages, dictionaries = _languages(cfg, task, kind), _dictionaries(task, kind)
    temporary = output.absolute().with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        caches = write_graphs(model, temporary, cfg.int8)
        weights = {n: p.detach().float().contiguous() for n, p in model.named_parameters()}
        (temporary / "model.safetensors").write_bytes(safetensors.torch.save(weights))
        for name, dictionary in dictionaries.items():
            dictionary.save(str(temporary / name))
        if cfg.codes is not None:
            shutil.copyfile(cfg.codes, temporary / "codes")
        checksums = {path.name: zlib.crc32(path.read_bytes()) for path in temporary.iterdir()}
        for name in (kind.program, *SHARED):
            shutil.copyfile(Path(__file__).with_name(name), temporary / name)
        stacks = [getattr(model, name) for name in STACKS if hasattr(model, name)]
        begins = kind is LANGUAGE_MODELING and task.args.add_bos_token
        config = {
            "format": FORMAT,
            **options,
            "languages": languages,
            "dictionaries": [*dictionaries],
            "max_positions": [stack.max_positions() for stack in stacks],
            "start": model.decoder.dictionary.bos() if begins else model.decoder.dictionary.eos(),
            "bpe": bpe,
            "moses": {"normalise": cfg.normalise, "lower_case": cfg.lower_case}
            if cfg.moses
            else None,
            "int8": cfg.int8,
            "opset": OPSET,
            "caches": [{"name": cache.name, "shape": cache.shape} for cache in caches],
        }
        checksums["config.json"] = zlib.crc32(json.dumps(config).encode())
        config["crc32"] = dict(sorted(checksums.items()))
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (temporary / "config.json").write_text(text + "\n", encoding="utf-8")
        if output.is_dir():
            output.rmdir()
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _languages(cfg: ExportConfig, task: tasks.FairseqTask, kind: Kind) -> list[str | None]:
    """The languages of input and output, or that of a language model's text."""
    if kind is LANGUAGE_MODELING:
        if cfg.moses and cfg.lang is None:
            raise InputError(
                "--lang is missing: the checkpoint of a language model does not name the language "
                "that --moses needs"
            )
        return [cfg.lang]
    if cfg.lang is not None:
        raise InputError(
            f"--lang is {cfg.lang}, it must be left out: the checkpoint names two languages"
        )
    return [task.cfg.source_lang, task.cfg.target_lang]


def _dictionaries(task: tasks.FairseqTask, kind: Kind) -> dict[str, Dictionary]:
    """The dictionaries by the names of their files: the source's and the target's, or one."""
    source, target = task.source_dictionary, task.target_dictionary
    if kind is LANGUAGE_MODELING:
        if len(source) != len(target):
            raise InputError(
                f"--output-dictionary-size is {len(target)}, of {len(source)} symbols: a language "
                "model that predicts only some of its symbols cannot be exported"
            )
        return {"dict.txt": source}
    languages = task.cfg.source_lang, task.cfg.target_lang
    return dict(zip((f"dict.{name}.txt" for name in languages), (source, target), strict=True))


def load_model(path: str, data: str | None) -> tuple[Any, tasks.FairseqTask, Kind, dict[str, Any]]:
    """Load a model, its task, what it is used for, and what config.json says of it.

    Raises:
        InputError: the checkpoint cannot be read or is of another kind, or the dictionaries are
            missing.
    """
    state = load_checkpoint(path)
    with reading(path):
        options = options_of(state["cfg"]["model"])
        name = str(options.get("_name") or options.get("arch"))
        kind = KINDS.get(ARCH_MODEL_NAME_REGISTRY.get(name, name))
        if kind is None:
            raise InputError(f"{path}: is a checkpoint of {name}, expected {' or '.join(KINDS)}")
        saved = state["cfg"].task
        with open_dict(saved):
            saved._name, saved.eval_bleu = kind.task, False
            saved.data = saved.data if data is None else data
        known = [name for name in saved if name in kind.options.__dataclass_fields__]
        try:
            if kind is TRANSLATION and None in (saved.source_lang, saved.target_lang):
                _check_languages(split_paths(saved.data)[0])
            task = tasks.setup_task(OmegaConf.masked_copy(saved, [*known, "_name"]))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"--data is {saved.data}: {error.filename}: {error.strerror}: expected a folder "
                "with the dictionaries of the training"
            ) from None
        (model,), _ = checkpoint_utils.load_model_ensemble([path], task=task, state=state)
    return model, task, kind, {"architecture": name, **_description(options)}


def _check_languages(folder: str) -> None:
    if None in infer_language_pair(folder):
        raise InputError(
            f"--data is {folder}: expected the folder of the binarised text, as the checkpoint "
            "does not name its languages"
        )


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
    # subword-nmt prints an error and exits at a line that is no merge. It takes a dictionary, a
    # symbol and its number a line, for merges.
    with suppress(ValueError, IndexError, SystemExit), redirect_stderr(StringIO()):
        text = content.decode("utf-8")
        BPE(StringIO(text))
        if not all(line.split()[-1].isdecimal() for line in text.splitlines()):
            return "subword_nmt"
    with suppress(RuntimeError):
        SentencePieceProcessor(model_proto=content or b"\0")  # of nothing it prints warnings
        return "sentencepiece"
    raise InputError(
        f"--codes is {path}: neither BPE codes of subword-nmt nor a SentencePiece model"
    )
