"""The Evolved Transformer: its cells by a plain statement of them, its size, and its options."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.models import Task, build_evolved
from omegaconf import OmegaConf
from torch import Tensor, nn

from fairseq_dartsformer.models import EvolvedTransformerModel
from fairseq_dartsformer.models.config import EvolvedConfig
from fairseq_dartsformer.models.evolved_cells import DecoderCell, EncoderCell
from fairseq_dartsformer.operations import OperationConfig
from fairseq_dartsformer.operations.base import Dropout

CHANNELS, STEPS, SOURCE_STEPS, BATCH = 48, 6, 5, 3


class Plain:
    """What cells are made of, upon tensors `T × B × C`, with the weights of a real one."""

    def __init__(self, cell: nn.Module, dropout: float, activation_dropout: float):
        self.weights = cell.state_dict()
        self.dropouts = {"added": Dropout(dropout), "within": Dropout(activation_dropout)}

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[f"sublayers.{name}"]

    def drop(self, x: Tensor, which: str) -> Tensor:
        return self.dropouts[which](x)

    def norm(self, x: Tensor, name: str) -> Tensor:
        where = f"{name}.layer_norm"
        return F.layer_norm(x, x.shape[-1:], self[f"{where}.weight"], self[f"{where}.bias"], 1e-6)

    def dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self[f"{name}.weight"], self.weights.get(f"sublayers.{name}.bias"))

    def separable(self, x: Tensor, name: str, left: int, right: int) -> Tensor:
        x = F.pad(x.permute(1, 2, 0), (left, right))
        x = F.conv1d(x, self[f"{name}.weight"], groups=x.size(1))
        return self.dense(x.permute(2, 0, 1), f"{name}.pointwise")

    def attention(self, x: Tensor, of: Tensor, seen: Tensor, name: str, heads: int) -> Tensor:
        """``seen`` (`B × T × S`) is true where a query may look."""
        q, k, v = (
            self.dense(y, f"{name}.{p}_proj").unflatten(-1, (heads, -1))
            for y, p in ((x, "q"), (of, "k"), (of, "v"))
        )
        scores = torch.einsum("tbhc,sbhc->bhts", q, k) / q.size(-1) ** 0.5
        weights = scores.masked_fill(~seen.unsqueeze(1), -torch.inf).softmax(-1)
        return self.dense(
            torch.einsum("bhts,sbhc->tbhc", weights, v).flatten(-2), f"{name}.out_proj"
        )


def plain_encoder(plain: Plain, heads: int, x: Tensor, real: Tensor) -> Tensor:
    """``real`` is `B × T`, true where there is no padding."""
    d, mask = x.size(-1), real.t().unsqueeze(-1)
    values, gates = plain.dense(plain.norm(x, "0"), "0.operation.linear").chunk(2, -1)
    x = x + plain.drop(values * gates.sigmoid(), "added")

    h = plain.norm(x, "1") * mask
    left = plain.drop(plain.dense(h, "1.operation.dense").relu(), "within")
    kernel, bias = (plain[f"1.operation.conv.{name}"] for name in ("weight", "bias"))
    right = F.conv1d(h.permute(1, 2, 0), kernel.permute(2, 1, 0), bias, padding=1)
    right = plain.drop(right.permute(2, 0, 1).contiguous().relu(), "within")
    assert (left.size(-1), right.size(-1)) == (4 * d, d // 2)
    h = torch.cat([left[..., : d // 2] + right, left[..., d // 2 :]], -1)
    h = plain.separable(plain.norm(h, "1.operation") * mask, "1.operation.separable_conv", 4, 4)
    x = x + plain.drop(torch.cat([h, torch.zeros_like(h)], -1), "added")

    h, seen = plain.norm(x, "2"), real.unsqueeze(1)
    x = x + plain.drop(plain.attention(h, h, seen, "2.operation", heads), "added")

    h = plain.dense(plain.norm(x, "3"), "3.operation.fc1").relu()
    return x + plain.drop(plain.dense(plain.drop(h, "within"), "3.operation.fc2"), "added")


def plain_decoder(plain: Plain, heads: int, x: Tensor, real: Tensor, source: Tensor) -> Tensor:
    """``real`` is `B × S`, true where the source ``source`` (`S × B × d`) has no padding."""
    d, seen = x.size(-1), real.unsqueeze(1)
    past = torch.ones(1, len(x), len(x), dtype=torch.bool).tril()

    h, name = plain.norm(x, "0"), "0.operation"
    many = {2: 4, 12: 16, 24: 24}[heads]
    left = plain.drop(plain.attention(h, h, past, f"{name}.self_attention", many), "added")
    right = plain.attention(h, source, seen, f"{name}.cross_attention", heads)
    x = x + left + plain.drop(right, "added")

    h, name = plain.norm(x, "1"), "1.operation"
    left = plain.separable(h, f"{name}.wide_conv", 10, 0).relu()
    right = plain.separable(h, f"{name}.narrow_conv", 6, 0)
    assert (left.size(-1), right.size(-1)) == (2 * d, d // 2)
    left, right = plain.drop(left, "within"), plain.drop(right, "within")
    h = torch.cat([left[..., : d // 2] + right, left[..., d // 2 :]], -1)
    h = plain.separable(plain.norm(h, name), f"{name}.last_conv", 6, 0)
    x = x + plain.drop(h, "added")

    h = plain.norm(x, "2")
    x = x + plain.drop(plain.attention(h, h, past, "2.operation", heads), "added")
    h = plain.attention(plain.norm(x, "3"), source, seen, "3.operation", heads)
    x = x + plain.drop(h, "added")

    h = plain.dense(plain.norm(x, "4"), "4.operation.fc1")
    h = plain.norm(plain.drop(h * h.sigmoid(), "within"), "4.operation")
    return x + plain.drop(plain.dense(h, "4.operation.fc2"), "added")


@torch.no_grad()
@pytest.mark.parametrize("heads", [2, 12, 24])
@pytest.mark.parametrize(
    ("kind", "statement"), [(EncoderCell, plain_encoder), (DecoderCell, plain_decoder)]
)
def test_cell(kind: type[nn.Module], statement: Callable[..., Tensor], heads):
    """With dropout: the same masks fall where the statement has them."""
    torch.manual_seed(heads)
    rates = {"dropout": 0.3, "activation_dropout": 0.2}
    sizes = {"channels": CHANNELS, "encoder_dim": CHANNELS, "ffn_dim": 20, "attention_heads": heads}
    causal = kind is DecoderCell
    cell = kind(OperationConfig(**sizes, causal=causal, **rates, attention_bias=False)).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.3)
    source = torch.randn(SOURCE_STEPS, BATCH, CHANNELS).double()
    padding = torch.arange(SOURCE_STEPS) < torch.arange(BATCH).unsqueeze(1)
    inputs = [source]
    if kind is DecoderCell:
        inputs.insert(0, torch.randn(STEPS, BATCH, CHANNELS).double())
    torch.manual_seed(1)
    found = cell(*inputs, encoder_padding_mask=padding)
    found = found[0] if kind is DecoderCell else found
    torch.manual_seed(1)
    stated = statement(Plain(cell, **rates), heads, inputs[0], ~padding, *inputs[1:])
    torch.testing.assert_close(found, stated, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "parameters", "rates"),
    [
        ("evolved_transformer", 63_798_272, (0.1, 0.1, 0.1)),
        ("evolved_transformer_big", 221_181_952, (0.3, 0.3, 0.1)),
    ],
)
def test_sizes(name, parameters, rates):
    """By the name alone. The paper's Table 1 has 64.1M, for a vocabulary of about as many words."""
    positions = dict.fromkeys(("max_source_positions", "max_target_positions"), 64)
    cfg = OmegaConf.structured(EvolvedConfig(_name=name, share_all_embeddings=True, **positions))
    with torch.device("meta"):
        model = EvolvedTransformerModel.build_model(cfg, Task(32_768 - 4))
    assert sum(p.numel() for p in model.parameters()) == parameters
    if name == "evolved_transformer":
        assert parameters == pytest.approx(64.1e6, rel=0.02)
    cfg = model.cfg
    assert (cfg.dropout, cfg.activation_dropout, cfg.attention_dropout) == rates
    assert (len(model.encoder.layers), len(model.decoder.layers)) == (3, 4)


def test_rates():
    """What is left open follows what is given."""
    rates = {"dropout": 0.25, "activation_dropout": None}
    assert build_evolved(**rates).cfg.activation_dropout == 0.25
    assert build_evolved(**{**rates, "activation_dropout": 0.0}).cfg.activation_dropout == 0.0
