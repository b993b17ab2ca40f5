"""Small models and batches for the tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fairseq_dartsformer  # noqa: F401
from fairseq_dartsformer.models.warm_start import SupernetNames
from fairseq_dartsformer.operations import DECODER_OPERATIONS as DECODER
from fairseq_dartsformer.operations import ENCODER_OPERATIONS as ENCODER
from fairseq_dartsformer.operations import OPERATIONS_BY_STACK
from fairseq_dartsformer.search.snapshot import Snapshot
from fairseq_dartsformer.search_space.families import STACKS
from fairseq_dartsformer.search_space.genotype import Genotype

RATES = ("dropout", "attention_dropout", "activation_dropout", "weight_dropout")
SIZES = {
    "embed_dim": 8,
    "hidden_dim": 24,
    "ffn_dim": 20,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "attention_heads": 2,
    **dict.fromkeys(RATES, 0.2),
    "max_source_positions": 64,
    "max_target_positions": 64,
}


class Task:
    """The dictionaries that a model reads from its task."""

    def __init__(self, symbols: int = 30, same: bool = True):
        self.source_dictionary = self._dictionary(symbols)
        self.target_dictionary = self._dictionary(symbols if same else symbols + 3)

    @staticmethod
    def _dictionary(symbols: int) -> Dictionary:
        dictionary = Dictionary()
        for i in range(symbols):
            dictionary.add_symbol(f"w{i}")
        return dictionary


def build_model(name: str, task: Task | None = None, **options: Any) -> Any:
    """A small model; options replace those of SIZES."""
    config = MODEL_DATACLASS_REGISTRY[name]
    sizes = SIZES | {"tokens_per_sample": SIZES["max_target_positions"]}
    sizes = {k: size for k, size in sizes.items() if k in config.__dataclass_fields__}
    cfg = OmegaConf.structured(config(**sizes | options))
    return ARCH_MODEL_REGISTRY[name].build_model(cfg, task or Task())


build_search = partial(build_model, "dartsformer_search")
build_darts = partial(build_model, "darts_transformer_search")
build_lm = partial(build_model, "dartsformer_lm_search")
build_darts_lm = partial(build_model, "darts_transformer_lm_search")
build_evolved = partial(build_model, "evolved_transformer")


def build_derived(genotype: Genotype, task: Task | None = None, **options: Any) -> Any:
    """A small derived model of the genotype's family, by default of one block a stack."""
    layers = {f"{stack}_layers": len(block) for stack, block in genotype.blocks.items()}
    given = {"genotype": genotype.to_json(), **layers, **options}
    return build_model(genotype.family, task, **given)


def coders(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Encoder and decoder, or the decoder of a language model."""
    return [getattr(model, stack) for stack in STACKS if hasattr(model, stack)]


def logits(model: torch.nn.Module, net: dict[str, Tensor]) -> Tensor:
    """Logits `B × T × V` of a batch; the text of a language model is the target's side."""
    if hasattr(model, "encoder"):
        return model(**net)[0]
    return model(net["prev_output_tokens"])[0]


def inheriting(
    supernet: torch.nn.Module,
    result: Snapshot,
    genotype: Genotype,
    task: Task | None = None,
    **options: Any,
) -> Any:
    """The derived model of ``genotype``, built with ``options``, with weights of the supernet.

    ``result`` is the supernet's snapshot.
    """
    derived = build_derived(genotype, task, **options)
    tensors, names = supernet.state_dict(), SupernetNames(result.family, result.candidates)
    state = {name: tensors[names.of(name, genotype)] for name in derived.state_dict()}
    derived.to(supernet.decoder.alpha.dtype).load_state_dict(state)
    return derived.eval()


def uniform_genotype(operation: str, splits: int, pooling: str) -> Genotype:
    """A genotype of one operation; the encoder has `ffn` where it cannot have the operation."""
    in_encoder = operation if operation in OPERATIONS_BY_STACK["encoder"] else "ffn"
    return Genotype(
        encoder=((in_encoder,) * splits,),
        decoder=((operation,) * (splits - 1) + ("cross_attention",),),
        pooling=pooling,
    )


def every_operation_once(splits: int, pooling: str | None, text: bool = False) -> Genotype:
    """A genotype that has each operation at least once, over several layers.

    Without a pooling, it belongs to the family `darts_transformer`; for a text, to a family of
    language models.
    """
    if text:
        family = "darts_transformer_lm" if pooling is None else "dartsformer_lm"
        return Genotype(None, _rows(ENCODER, max(splits, 2)), pooling, family)
    if pooling is None:
        decoder = [(a, "cross_attention", b) for a, b in _rows(DECODER, 2)]
        return Genotype(_rows(ENCODER, 2), decoder, None, "darts_transformer")
    decoder = tuple((*row, "cross_attention") for row in _rows(DECODER, splits - 1))
    return Genotype(encoder=_rows(ENCODER, splits), decoder=decoder, pooling=pooling)


def _rows(names: tuple[str, ...], width: int) -> tuple[tuple[str, ...], ...]:
    padded = names + names[: -len(names) % width]
    return tuple(padded[i : i + width] for i in range(0, len(padded), width))


def sentence(length: int, seed: int, symbols: int = 30) -> Tensor:
    """Random token indices and EOS, shape `T`."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(4, 4 + symbols, (length - 1,), generator=generator)
    return torch.cat([words, torch.tensor([2])])


def pad(sentences: list[Tensor], left: bool = False, extra: int = 0) -> Tensor:
    """A batch `B × T`, padded on one side, by ``extra`` positions more than necessary."""
    width = max(map(len, sentences)) + extra
    batch = torch.full((len(sentences), width), 1)
    for row, tokens in zip(batch, sentences, strict=True):
        start = width - len(tokens) if left else 0
        row[start : start + len(tokens)] = tokens
    return batch


def shift(sentences: list[Tensor]) -> list[Tensor]:
    """Decoder inputs of target sentences: EOS moves from the end to the front."""
    return [torch.cat([s[-1:], s[:-1]]) for s in sentences]


def batch(lengths: list[int], seed: int = 0) -> dict[str, Tensor]:
    """A padded batch of sentence pairs, as fairseq's collater makes it."""
    sources = [sentence(length, seed + i) for i, length in enumerate(lengths)]
    targets = [sentence(length, seed + 50 + i) for i, length in enumerate(reversed(lengths))]
    return {
        "src_tokens": pad(sources, left=True),
        "src_lengths": torch.tensor(lengths),
        "prev_output_tokens": pad(shift(targets)),
    }


def step_by_step(model, src_tokens: Tensor, prev_output_tokens: Tensor) -> Tensor:
    """Logits `B × T × V` of incremental decoding; a language model does not read the source."""
    encoder_out = model.encoder(src_tokens) if hasattr(model, "encoder") else None
    state: dict = {}
    steps = [
        model.decoder(prev_output_tokens[:, : i + 1], encoder_out, incremental_state=state)[0]
        for i in range(prev_output_tokens.size(1))
    ]
    return torch.cat(steps, dim=1)


class _Products(TorchDispatchMode):
    """Counts the multiplications in matrix products.

    torch's ``FlopCounterMode`` fails where a backward pass computes gradients of its own, as
    reconstruction does.
    """

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "addmm_", "baddbmm"):
            self.count += out.numel() * args[-1].size(-2)
        return out


def multiplications(step: Callable[[], Any]) -> int:
    """The multiplications of ``step`` in matrix products, without those in fused attention."""
    with _Products() as products:
        step()
    return products.count
