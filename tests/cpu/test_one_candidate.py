"""Strategies that run one candidate validate the architecture that is derived."""

import pytest
import torch

from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search.pruning import keep_best
from fairseq_dartsformer.search.snapshot import take_snapshot
from fairseq_dartsformer.search_space.sampling import searched_stacks

ENCODER = "conv_3,ffn,zero,identity"


@pytest.mark.parametrize(
    "exclude", ["", "zero,identity", "conv_3, ffn,glu", "conv_3,zero,identity"]
)
@pytest.mark.parametrize("strategy", ["dsnas", "gdas"])
def test_validation_runs_the_derived_architecture(strategy, exclude):
    """Without the operations that are not derived; where only those remain, the best of them."""
    options = f"--encoder-operations {ENCODER} --decoder-operations glu,zero,ffn --max-update 9"
    options += " --encoder-layers 2 --decoder-layers 2 --max-tokens 100 --cpu --search-strategy"
    arguments = [*options.split(), strategy, "--derive-exclude", exclude]
    training = Training(training_config("dartsformer_search_tiny", arguments), 50)
    torch.manual_seed(1)
    cfg, coders = training.cfg, searched_stacks(training.model)
    for coder in coders.values():
        torch.nn.init.normal_(coder.alpha)

    def valid_step(sample, model, criterion):
        return {stack: coder.mixtures for stack, coder in searched_stacks(model).items()}

    for pruned in (False, True):
        for coder in coders.values() if pruned else ():
            keep_best(coder, 0.5)
        state = training.model.state_dict()
        snapshot = take_snapshot(cfg.model, cfg.task, state, 0, "the supernet")
        choice = training.task.strategy.valid_step(valid_step, {}, training.model, None)
        for node in snapshot.nodes():
            index = choice[node.stack][node.layer][node.row]
            assert snapshot.candidates[node.stack][index] == snapshot.best[snapshot.name(node)]
