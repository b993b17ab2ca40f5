"""An update that fairseq abandons for lack of memory leaves nothing behind in a strategy."""

import pytest
import torch
from fairseq.trainer import Trainer

from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search_space.levels import WEIGHTS

CASES = [
    "idarts --arch-interval 1",
    "unas",
    "sequence_reward",
    "prune_then_search --prune-at 6 --then-strategy single_level",
]
UPDATES = 3


def end_of_search(strategy: str, fails: bool) -> tuple[dict, dict]:
    """Tensors and the strategy's state after some updates of two batches; before one of them,
    another attempt fails in its second batch."""
    options = "--encoder-operations conv_3,zero --decoder-operations glu,zero --cpu --dropout 0.2 "
    options += "--encoder-layers 2 --decoder-layers 2 --max-tokens 100 --max-update 9 "
    cfg = training_config("dartsformer_search_tiny", [*options.split(), *strategy.split()])
    torch.manual_seed(1)
    training = Training(cfg, 50)
    training.task.strategy.task = training.task
    model = training.task.build_model(cfg.model)
    trainer = Trainer(cfg, training.task, model, training.criterion)
    compute, calls = training.criterion.forward, []

    def forward(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA out of memory")
        return compute(*arguments, **options)

    for update in range(UPDATES):
        torch.manual_seed(update)
        batches = [training.batch(WEIGHTS, 3, 6) for _ in range(2)]
        if fails and update == 1:
            training.criterion.forward = forward
            assert trainer.train_step(batches) is None and len(calls) == 2
        training.criterion.forward = compute
        trainer.train_step(batches)
    assert trainer.get_num_updates() == UPDATES
    return model.state_dict(), training.task.strategy.state_dict()


@pytest.mark.parametrize("strategy", CASES)
def test_next_update_has_its_own_batches(strategy):
    """The search ends with the bits of one that did not fail."""
    (tensors, state), (expected, expected_state) = (
        end_of_search(f"--search-strategy {strategy}", fails) for fails in (True, False)
    )
    assert state == expected_state
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name
