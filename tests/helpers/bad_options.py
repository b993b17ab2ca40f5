"""Strategies for command lines: good ones with some options that may not be."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fairseq_dartsformer.operations import DECODER_OPERATIONS
from helpers.running import DARTS_GENOTYPE

# Numbers are good ones for most options, odd ones for all, and none; huge ones must be refused
# without being tried.
WHOLE = "0 1 2 3 4 6 12 24 25 48 -1 1000000000000 99999999999999999999999 x 1.5 1e3 ١ 0x10".split()
REAL = "0 0.1 0.5 0.999 1 1.5 -1 -0.1 nan inf -inf 1e-320 1e400 x 0,5 True None".split()
TUPLES = [
    "(0.9, 0.98)",
    "(0, 0)",
    "(0.9, 1)",
    "(0.9,",
    "0.9",
    "[0.9, 0.98, 0.99]",
    "('a', 'b')",
    "()",
]


def _values(*values: str) -> SearchStrategy[str]:
    return st.sampled_from(values)


OPERATIONS = st.lists(
    st.sampled_from([*DECODER_OPERATIONS, "conv_4", "", " ffn", "FFN"]), min_size=1, max_size=3
).map(",".join)
GENOTYPES = _values(
    "paper_fig4_approx", " ".join(DARTS_GENOTYPE.to_json().split()), "no_such", "{}", ""
)

MODEL = {
    **dict.fromkeys(
        "hidden-dim ffn-dim embed-dim attention-heads encoder-layers decoder-layers encoder-splits "
        "decoder-splits search-layers check-reconstruction".split(),
        _values(*WHOLE),
    ),
    **dict.fromkeys(
        "dropout attention-dropout activation-dropout weight-dropout".split(), _values(*REAL)
    ),
    "encoder-operations": OPERATIONS,
    "decoder-operations": OPERATIONS,
    "genotype": GENOTYPES,
    "pooling": _values("max", "avg", "min", ""),
    "backprop": _values("store", "reconstruct", "no"),
}
PLAIN = ["share-all-embeddings", "share-decoder-input-output-embed", "encoder-learned-pos"]
PLAIN += ["no-token-positional-embeddings", "layernorm-embedding", "no-scale-embedding"]
TRAINING = {
    **MODEL,
    **dict.fromkeys(
        "max-source-positions max-target-positions max-tokens batch-size stop-skips stop-unchanged "
        "required-batch-size-multiple log-interval save-interval-updates max-update seed "
        "num-workers".split(),
        _values(*(n for n in WHOLE if n not in ("12", "24", "25", "48"))),
    ),
    **dict.fromkeys(
        "label-smoothing arch-lr arch-weight-decay weight-decay adam-eps arch-fraction clip-norm "
        "warn-skip-share stop-entropy".split(),
        _values(*REAL),
    ),
    "lr": _values("0.1", "abc", "1e-3,1e-4", "nan", "()", "open(1)"),
    "adam-betas": _values(*TUPLES),
    "arch-adam-betas": _values(*TUPLES),
    "update-freq": _values("1", "2", "0", "-1", "1,2", "50", "0.5", "1000000000000"),
    "arch-subset": _values("test", "test1", "valid", "train", "no_such", ""),
    "valid-subset": _values("valid", "test", "test1", "no_such", "valid,test", ""),
    "train-subset": _values("train", "valid", "no_such", "test1"),
    "arch": _values(
        *("dartsformer_search", "dartsformer_search_tiny", "darts_transformer_search"),
        *("dartsformer", "darts_transformer", "evolved_transformer", "transformer_iwslt_de_en"),
    ),
    "task": _values("translation", "translation_search", "language_modeling"),
    "criterion": _values(
        *("label_smoothed_cross_entropy", "cross_entropy", "ctc"),
        "chunked_label_smoothed_cross_entropy",
    ),
    "optimizer": _values("adam", "bilevel_adam", "sgd", "adafactor"),
    "lr-scheduler": _values("inverse_sqrt", "fixed", "cosine", "polynomial_decay"),
    "search-strategy": _values("darts", "uniform_sampling", "random"),
    "ddp-backend": _values("legacy_ddp", "pytorch_ddp", "slowmo"),
}
PLAIN_TRAINING = [*PLAIN, "fp16", "amp", "bf16", "memory-efficient-fp16", "memory-efficient-bf16"]
PLAIN_TRAINING += ["skip-remainder-batch", "grouped-shuffling", "eval-bleu", "sentence-avg"]
PLAIN_TRAINING += ["report-accuracy", "fp16-no-flatten-grads", "use-old-adam", "no-save"]

EVOLUTION = {
    **dict.fromkeys(
        "max-tokens beam workers generations population parents mutations crossovers seed".split(),
        _values(*(n for n in WHOLE if n != "48")),
    ),
    "mutation-probability": _values(*REAL),
    "lenpen": _values(*REAL),
    "max-parameters": _values(*WHOLE, "1M", "10K", "infM", "nanK", "M", "1e400G"),
    "score": _values("loss", "bleu", "ter"),
    "valid-subset": _values("valid", "test", "test1", "no_such", "../valid", ""),
    "detok": _values("space", "moses", "no"),
    "remove-bpe": _values("@@ ", "sentencepiece", ""),
}
MEMORY = {
    **MODEL,
    **dict.fromkeys("max-tokens length vocabulary".split(), _values(*WHOLE)),
    "gpu": _values("T4", "H100", "2", "1.0001", "nan", "inf", "-1", "1e300", "GTX 1", ""),
    "hidden-dims": _values("24", "0", "x"),
    "criterion": TRAINING["criterion"],
    "optimizer": TRAINING["optimizer"],
    "search-strategy": TRAINING["search-strategy"],
}
PLAIN_MEMORY = [*PLAIN, "fp16", "amp", "bf16", "memory-efficient-fp16"]
OTHERS = {
    "derive": {"exclude": OPERATIONS, "top": _values(*WHOLE)},
    "average": {"last": _values(*WHOLE)},
    "plot": {"kind": _values("genotype", "alpha", "heat", "certainty", "choices", "pie")},
    "report": {"log": _values("no_such"), "retrained": _values("no_such")},
    "parameters": {"vocabulary": _values(*WHOLE), "genotype": GENOTYPES},
}


@st.composite
def options(draw, valued: dict[str, SearchStrategy[str]], plain: list[str] = (), most: int = 3):
    """Up to so many options, with values or without."""
    found = []
    names = st.sampled_from([*valued, *plain, *plain[: len(valued)]])
    for name in draw(st.lists(names, min_size=1, max_size=most, unique=True)):
        found.append(f"--{name}={draw(valued[name])}" if name in valued else f"--{name}")
    return found


def small_memory(folder: Path) -> SearchStrategy[list[str]]:
    """Good options of ``dartsformer-memory``, of which a plan takes a second."""
    layers = "--encoder-layers 2 --decoder-layers 2"
    sizes = f"--hidden-dim 24 --embed-dim 8 --attention-heads 2 {layers}"
    few = "--encoder-operations ffn,zero --decoder-operations ffn,conv_3"
    rest = "--vocabulary 20 --max-tokens 20 --length 5"
    return st.sampled_from(
        [
            f"--arch dartsformer_search {sizes} {few} {rest}".split(),
            f"--arch dartsformer {sizes} --genotype paper_fig4_approx {rest}".split(),
            f"--arch evolved_transformer {sizes.replace('--embed-dim 8', '')} {rest}".split(),
            f"--figure {folder}/x.svg --hidden-dims 24 {layers} {few} {rest}".split(),
            [],
        ]
    )
