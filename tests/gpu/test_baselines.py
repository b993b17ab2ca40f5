"""Search by sampling, its evolution, DARTS on a Transformer, the Evolved Transformer: on a GPU."""

from random import Random

import pytest
import torch
from helpers.fairseq_commands import SAMPLING, SAMPLING_DARTS, prepare_data, start_server, train
from helpers.gpu_gradients import gradients_on_gpu, relative_difference
from helpers.models import build_darts, build_evolved, build_search

from fairseq_dartsformer.evolution.population import Space
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.search_space.sampling import chosen, draw

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

LEARNING = "conv_3,dynamic_conv_3,self_attention,glu,ffn"  # a zero may cut the rest off


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_a_sampled_architecture_equal_ordinary_autograd(seed):
    names = {"encoder_operations": LEARNING, "decoder_operations": LEARNING}
    model = build_search(hidden_dim=120, **names).cuda()
    with chosen(model, draw(model, Random(seed))):
        stored, found = (gradients_on_gpu(model, backprop) for backprop in ("store", "reconstruct"))
    assert found.keys() == stored.keys()
    assert relative_difference(found, stored) < 1e-4


@pytest.mark.parametrize("build", [build_darts, build_evolved])
@pytest.mark.parametrize("mode", ["half", "autocast"])
def test_half_precision_is_near_float32(build, mode):
    """Without dropout."""
    rates = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    rates |= {"weight_dropout": 0.0} if build is build_darts else {}
    torch.manual_seed(1)
    model = build(hidden_dim=120, **rates).cuda()
    exact = gradients_on_gpu(model, None)
    autocast = torch.float16 if mode == "autocast" else None
    found = gradients_on_gpu(model if autocast else model.half(), None, autocast)
    assert found.keys() == exact.keys()
    assert relative_difference(found, exact) < 0.03


@pytest.mark.parametrize("kind", [SAMPLING, SAMPLING_DARTS], ids=["dartsformer", "darts"])
def test_scores_are_those_of_a_cpu(tmp_path, kind):
    """Trained on the CPU; in half precision near them."""
    start_server()
    data = prepare_data(tmp_path)
    train(kind, data, tmp_path, "--max-update", "12", "--disable-validation")
    paths = str(tmp_path / "checkpoints" / "checkpoint_last.pt"), str(data)
    scorers = [
        Scorer(ScoreConfig(*paths, max_tokens=60, fp16=fp16), device)
        for device, fp16 in [("cpu", False), ("cuda", False), ("cuda", True)]
    ]
    space, generator = Space(*scorers[0].parameters()), Random(1)
    for _ in range(4):
        architecture = space.random(generator)
        exact, single, half = (scorer.score(architecture) for scorer in scorers)
        assert single == pytest.approx(exact, rel=1e-5)
        assert half == pytest.approx(exact, rel=1e-2)
