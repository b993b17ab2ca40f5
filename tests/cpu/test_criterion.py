"""The chunked criterion is fairseq's `label_smoothed_cross_entropy`, without the logits."""

import pytest
import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    label_smoothed_nll_loss,
)
from fairseq.models.transformer import TransformerConfig, TransformerModel
from helpers.models import (
    Task,
    batch,
    build_derived,
    build_evolved,
    build_search,
    every_operation_once,
)
from torch import nn

from fairseq_dartsformer.criterions import ChunkedLabelSmoothedCrossEntropyCriterion
from fairseq_dartsformer.criterions import linear_cross_entropy as output_layer
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.search_space.levels import LEVELS, gradients_for

CRITERIA = (LabelSmoothedCrossEntropyCriterion, ChunkedLabelSmoothedCrossEntropyCriterion)
SMOOTHING = 0.1


def build_transformer(tied: bool) -> TransformerModel:
    cfg = TransformerConfig()
    cfg.share_decoder_input_output_embed = tied
    cfg.dropout = 0.2
    for side in (cfg.encoder, cfg.decoder):
        side.embed_dim, side.ffn_embed_dim, side.layers, side.attention_heads = 16, 16, 1, 2
    cfg.decoder.input_dim = cfg.decoder.output_dim = 16
    return TransformerModel.build_model(cfg, Task())


BUILDERS = {
    "search": lambda tied: build_search(share_decoder_input_output_embed=tied),
    "derived": lambda tied: build_derived(
        every_operation_once(3, "max"), share_all_embeddings=tied
    ),
    "evolved": lambda tied: build_evolved(share_all_embeddings=tied),
    "transformer": build_transformer,
}


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    """Of 5 tokens."""
    monkeypatch.setattr(output_layer, "CHUNK", 5 * 34)


@pytest.fixture
def exact_fairseq(monkeypatch):
    """fairseq takes its softmax in float32 of whatever it gets."""
    monkeypatch.setattr(
        "fairseq.utils.log_softmax", lambda logits, dim, onnx_trace: F.log_softmax(logits, dim)
    )


def sample() -> dict:
    inputs = batch([7, 3, 5, 1])
    previous = inputs["prev_output_tokens"]
    target = torch.cat([previous[:, 1:], torch.ones_like(previous[:, :1])], dim=1)
    for row, length in zip(target, previous.ne(1).sum(1), strict=True):
        row[length - 1] = 2
    return {"net_input": inputs, "target": target, "ntokens": int(target.ne(1).sum())}


def criterion(kind: type, prefix: int = 0) -> LabelSmoothedCrossEntropyCriterion:
    return kind(Task(), False, SMOOTHING, ignore_prefix_size=prefix, report_accuracy=True)


def update(kind: type, model: nn.Module, **options) -> tuple[dict, dict[str, torch.Tensor]]:
    """The figures of one update and the gradients of all parameters that take any."""
    torch.manual_seed(1)
    model.zero_grad()
    loss, size, log = criterion(kind, **options)(model, sample())
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"backpropagated": loss.detach(), "size": size, **log}, grads


def worst(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The largest difference, in the largest gradient of any tensor of its model."""
    assert found.keys() == wanted.keys()
    scale = max(g.abs().max() for g in wanted.values())
    return max(float((found[name] - g).abs().max() / scale) for name, g in wanted.items())


@pytest.mark.parametrize(
    ("dtype", "prefix", "tied"),
    [(torch.float64, 0, False), (torch.float64, 2, True), (torch.float32, 0, True)],
)
@pytest.mark.parametrize("kind", BUILDERS)
def test_equals_fairseq(request, kind, tied, dtype, prefix):
    if dtype == torch.float64:
        request.getfixturevalue("exact_fairseq")
    model, tolerance = BUILDERS[kind](tied).to(dtype), 1e-12 if dtype == torch.float64 else 1e-6
    (wanted, grads), (found, chunked) = (update(c, model, prefix=prefix) for c in CRITERIA)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value), rel=tolerance), name
    assert worst(chunked, grads) < tolerance


@pytest.mark.usefixtures("exact_fairseq")
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_takes_its_gradients_alone(level):
    model = build_search().double()
    with gradients_for(model, [level]):
        (_, grads), (_, chunked) = (update(c, model) for c in CRITERIA)
    assert any("alpha" in name for name in chunked) == (level == "alpha")
    assert worst(chunked, grads) < 1e-12


@pytest.mark.parametrize("kind", BUILDERS)
def test_validation(kind):
    model = BUILDERS[kind](True).eval()
    with torch.no_grad():
        wanted, found = (criterion(c)(model, sample()) for c in CRITERIA)
        reduced = (criterion(c)(model, sample(), reduce=False)[0] for c in CRITERIA)
    assert not found[0].requires_grad
    for name, value in wanted[2].items():
        assert float(found[2][name]) == pytest.approx(float(value), rel=1e-6), name
    assert torch.equal(*reduced)


@pytest.mark.parametrize(("bias", "smoothing"), [(True, 0.0), (False, 0.1), (True, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_output_layer(dtype, smoothing, bias):
    """Loss and gradients, no farther from exact ones than those of fairseq's way by half."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias_ = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((33, 16), (50, 16), (50,))
    )
    target = torch.randint(50, (33,), generator=generator)
    real = target.ne(7)

    def chunked(x, weight, bias):
        return output_layer.smoothed_cross_entropy(x, weight, bias, target, smoothing, 7)[0]

    def whole(x, weight, bias):
        logits = F.linear(x[real], weight, bias)
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        nll = -log_p.gather(1, target[real][:, None]).sum()
        share = smoothing / (len(weight) - 1)
        return (1 - smoothing - share) * nll - share * log_p.sum()

    def results(loss, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in (x, weight, bias_)]
        value = loss(*inputs[:2], inputs[2] if bias else None)
        (128 * value).backward()
        return [value.detach(), *(t.grad / 128 for t in inputs[: 2 + bias])]

    exact = results(whole, torch.float64)
    for found, plain, wanted in zip(
        results(chunked, dtype), results(whole, dtype), exact, strict=True
    ):
        error, allowed = ((t.double() - wanted).abs().max() for t in (found, plain))
        sums = torch.finfo(torch.promote_types(dtype, torch.float32))
        assert error <= 1.5 * allowed + 8 * sums.eps * wanted.abs().max()


def test_half_precision_does_not_overflow():
    """The gradient of a frequent symbol's row is a large sum, whatever the loss scale."""
    x = torch.full((3000, 8), 30.0, dtype=torch.float16)
    weight = torch.zeros(100, 8, dtype=torch.float16).requires_grad_()
    target = torch.full((3000,), 5)
    loss, _ = output_layer.smoothed_cross_entropy(x, weight, None, target, 0.0)
    (loss / 4).backward()  # that the gradient itself fits
    assert weight.grad[5].float() == pytest.approx([-0.99 * 30 * 3000 / 4] * 8, rel=2e-3)


def test_memory(monkeypatch):
    """A tenth of what whole logits take."""
    monkeypatch.setattr(output_layer, "CHUNK", 2**18)
    torch.manual_seed(0)
    x, weight = torch.randn(1200, 16), torch.randn(4096, 16) / 8
    target = torch.randint(len(weight), (len(x),))

    def step(loss) -> None:
        inputs = [t.clone().requires_grad_() for t in (x, weight)]
        loss(*inputs).backward()

    def whole(x, weight):
        log_p = F.linear(x, weight).float().log_softmax(-1).unsqueeze(1)
        return label_smoothed_nll_loss(log_p, target[:, None, None], SMOOTHING)[0]

    def chunked(x, weight):
        return output_layer.smoothed_cross_entropy(x, weight, None, target, SMOOTHING)[0]

    assert 10 * measured_peak(lambda: step(chunked)) < measured_peak(lambda: step(whole))


@pytest.mark.parametrize("name", ["projects itself", "no decoder"])
def test_other_output_layers_are_refused(name):
    model = build_search()
    if name == "no decoder":
        model.decoder = None
    else:
        forward = model.decoder.forward
        model.decoder.forward = lambda *a, **k: forward(*a, **k, features_only=True)
    with pytest.raises(
        InputError, match=r"--criterion chunked\S+ needs a decoder that calls output_layer"
    ):
        criterion(CRITERIA[1])(model, sample())
