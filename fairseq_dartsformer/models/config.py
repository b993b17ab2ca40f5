"""Options of the supernets, of the derived models and of the baselines.

Options that fairseq's transformer also has keep their name and meaning. The dataclasses do not
subclass its ``TransformerConfig``, with which fairseq cannot build a model from the command line.
fairseq's parser calls the annotations, which therefore are neither strings nor ``X | None``.
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from ..operations import NORMS
from ..reversible import BACKPROPS, POOLINGS

POOLING_CHOICES = ChoiceEnum(list(POOLINGS))
BACKPROP_CHOICES = ChoiceEnum(list(BACKPROPS))
NORM_CHOICES = ChoiceEnum(list(NORMS))


def option(default, help: str, **metadata):
    """Make a dataclass field with its ``--help`` text."""
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class NetworkConfig(FairseqDataclass):
    """Options of all models, which all have a decoder."""

    hidden_dim: Optional[int] = option(
        None, "width d of the network, d/n for each of n splits (default: the architecture's)"
    )
    ffn_dim: Optional[int] = option(
        None, "inner width of an ffn (default: 16/3 of --hidden-dim; 4 times it without splits)"
    )
    decoder_layers: int = option(6, "number of decoder layers (not blocks)")
    attention_heads: Optional[int] = option(
        None, "heads of attention and of dynamic convolution (default: the architecture's)"
    )
    dropout: float = option(0.1, "dropout probability")
    attention_dropout: float = option(0.0, "dropout probability for attention weights")
    activation_dropout: float = option(
        0.0, "dropout probability after the activation of an ffn", argparse_alias="--relu-dropout"
    )
    share_decoder_input_output_embed: bool = option(
        False, "share decoder input and output embeddings"
    )
    decoder_learned_pos: bool = option(False, "use learned positional embeddings in the decoder")
    no_token_positional_embeddings: bool = option(False, "disable positional embeddings")
    no_scale_embedding: bool = option(
        False, "do not scale embeddings by the square root of their width"
    )
    layernorm_embedding: bool = option(False, "add layernorm to embedding")
    # ``None`` where the task does not have it.
    max_target_positions: Optional[int] = II("oc.select:task.max_target_positions,null")


@dataclass
class EncoderConfig(FairseqDataclass):
    """Options of an encoder, and of what it shares with the decoder."""

    encoder_layers: int = option(6, "number of encoder layers (not blocks)")
    share_all_embeddings: bool = option(
        False, "share encoder, decoder and output embeddings (requires a shared dictionary)"
    )
    encoder_embed_path: Optional[str] = option(None, "path to pre-trained encoder embedding")
    decoder_embed_path: Optional[str] = option(None, "path to pre-trained decoder embedding")
    encoder_learned_pos: bool = option(False, "use learned positional embeddings in the encoder")
    max_source_positions: Optional[int] = II("oc.select:task.max_source_positions,null")


@dataclass
class LanguageModelConfig(FairseqDataclass):
    """What a model without an encoder takes from its task."""

    tokens_per_sample: Optional[int] = II("oc.select:task.tokens_per_sample,null")
    add_bos_token: bool = II("oc.select:task.add_bos_token,false")


@dataclass
class SizeConfig(NetworkConfig):
    """Options of supernets and derived models."""

    embed_dim: Optional[int] = option(
        None, "width e of the factorised embedding, V×e, then e×d (default: the architecture's)"
    )
    weight_dropout: float = option(0.0, "dropout probability for dynamic convolution's kernels")


@dataclass
class CandidatesConfig(SizeConfig):
    """Options of supernets."""

    search_layers: int = option(2, "layers s of the searched block, which a stack repeats")
    decoder_operations: Optional[str] = option(
        None,
        "the decoder's candidates, comma-separated (default: all 14; without an encoder the 13 "
        "that are not cross attention)",
    )
    operation_norm: NORM_CHOICES = option(
        "post",
        "residual and norm of each operation o: "
        + ", ".join(f"{name}: {norm.formula}" for name, norm in NORMS.items()),
    )


@dataclass
class GenotypeConfig(SizeConfig):
    """Options of derived models."""

    genotype: Optional[str] = option(
        None, "a genotype: JSON file or built-in name; the checkpoint carries its text"
    )
    init_from_search: Optional[str] = option(
        None,
        "a search's checkpoint, from whose supernet a new training takes all its weights; resuming "
        "and generating do not read it",
    )
    search_layers: Optional[int] = option(None, "if given, must agree with the genotype's blocks")
    operation_norm: Optional[NORM_CHOICES] = option(None, "if given, must agree with the genotype")


@dataclass
class ReversibleConfig(SizeConfig):
    """Options of reversible models."""

    check_reconstruction: int = option(
        0,
        "every N updates, compare the reconstructed input of each stack with the true one, and log "
        "the relative error (0: never)",
    )


@dataclass
class ReversibleCandidatesConfig(CandidatesConfig, ReversibleConfig):
    """Options of reversible supernets."""

    pooling: POOLING_CHOICES = option("max", "pooling of the n - 1 inputs of a search node")
    backprop: BACKPROP_CHOICES = option(
        "reconstruct",
        "reconstruct activations while backpropagating, or store them (ordinary autograd)",
    )


@dataclass
class ReversibleGenotypeConfig(GenotypeConfig, ReversibleConfig):
    """Options of reversible derived models."""

    decoder_splits: Optional[int] = option(None, "if given, must agree with the genotype")
    pooling: Optional[POOLING_CHOICES] = option(None, "if given, must agree with the genotype")
    backprop: BACKPROP_CHOICES = option(
        "store", "store activations (ordinary autograd) or reconstruct them while backpropagating"
    )


@dataclass
class EncoderCandidatesConfig(EncoderConfig):
    """Options of supernets with an encoder."""

    encoder_operations: Optional[str] = option(
        None, "the encoder's candidates, comma-separated (default: all 13)"
    )


@dataclass
class SearchConfig(ReversibleCandidatesConfig, EncoderCandidatesConfig):
    """Options of ``dartsformer_search``."""

    encoder_splits: int = option(2, "splits n of an encoder layer, all searched")
    decoder_splits: Optional[int] = option(
        None,
        "splits of a decoder layer, of which the last is fixed as Cross Attention "
        "(default: one more than --encoder-splits)",
    )


@dataclass
class DerivedConfig(ReversibleGenotypeConfig, EncoderConfig):
    """Options of ``dartsformer``. The genotype decides splits, block, pooling and norm."""

    encoder_splits: Optional[int] = option(None, "if given, must agree with the genotype")


@dataclass
class SequentialSearchConfig(CandidatesConfig, EncoderCandidatesConfig):
    """Options of ``darts_transformer_search``."""


@dataclass
class SequentialDerivedConfig(GenotypeConfig, EncoderConfig):
    """Options of ``darts_transformer``."""


@dataclass
class LanguageModelSearchConfig(ReversibleCandidatesConfig, LanguageModelConfig):
    """Options of ``dartsformer_lm_search``."""

    decoder_splits: int = option(2, "splits n of a layer, all searched")


@dataclass
class LanguageModelDerivedConfig(ReversibleGenotypeConfig, LanguageModelConfig):
    """Options of ``dartsformer_lm``. The genotype decides splits, block, pooling and norm."""


@dataclass
class SequentialLanguageModelSearchConfig(CandidatesConfig, LanguageModelConfig):
    """Options of ``darts_transformer_lm_search``."""


@dataclass
class SequentialLanguageModelDerivedConfig(GenotypeConfig, LanguageModelConfig):
    """Options of ``darts_transformer_lm``."""


@dataclass
class EvolvedConfig(NetworkConfig, EncoderConfig):
    """Options of ``evolved_transformer``; rates are tensor2tensor's."""

    encoder_layers: int = option(6, "number of encoder layers, two of which make a cell")
    decoder_layers: int = option(8, "number of decoder layers, two of which make a cell")
    dropout: Optional[float] = option(None, "dropout probability (default: the architecture's)")
    attention_dropout: float = option(0.1, "dropout probability for attention weights")
    activation_dropout: Optional[float] = option(
        None,
        "dropout probability within the feed-forward networks and the branches of convolutions "
        "(default: --dropout)",
        argparse_alias="--relu-dropout",
    )
