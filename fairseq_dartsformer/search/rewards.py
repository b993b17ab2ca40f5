"""Rewards of translations that the supernet makes while it is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sacrebleu
import torch
from fairseq import utils
from fairseq.search import Sampling
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

# Score in [0, 1] of a sentence against its reference, both words separated by spaces.
Reward = Callable[[str, str], float]

REWARDS: dict[str, Reward] = {
    "bleu": lambda found, wanted: sacrebleu.sentence_bleu(found, [wanted]).score / 100,
    "chrf": lambda found, wanted: sacrebleu.sentence_chrf(found, [wanted]).score / 100,
}
MAX_LENGTH = (1.0, 10)  # longest translation: a · source length + b


@torch.no_grad()
def translate(
    task: FairseqTask, module: nn.Module, sample: Mapping[str, Any], sampled: bool
) -> list[Tensor]:
    """Translate a batch greedily, or by sampling from the model.

    Returns:
        For each sentence its symbols, the last one being the end of the sentence.
    """
    dictionary = task.target_dictionary
    a, b = MAX_LENGTH
    generator = SequenceGenerator(
        [module],
        dictionary,
        beam_size=1,
        max_len_a=a,
        max_len_b=b,
        search_strategy=Sampling(dictionary) if sampled else None,
    )
    training = module.training
    module.eval()
    found = generator.generate([module], sample)
    module.train(training)
    return [hypotheses[0]["tokens"] for hypotheses in found]


def rewards(
    task: FairseqTask, sample: Mapping[str, Any], translations: Sequence[Tensor], reward: Reward
) -> Tensor:
    """Return the reward of each sentence's translation, without its subword marks."""
    dictionary, pad = task.target_dictionary, task.target_dictionary.pad()

    def text(tokens: Tensor) -> str:
        return dictionary.string(utils.strip_pad(tokens, pad).int().cpu(), "subword_nmt")

    pairs = zip(translations, sample["target"], strict=True)
    return torch.tensor([reward(text(found), text(wanted)) for found, wanted in pairs])


def reward_of(
    task: FairseqTask, reward: Reward
) -> Callable[[nn.Module, Mapping[str, Any]], tuple[Tensor, int]]:
    """Return a function that sums the rewards of sampled translations of a batch."""

    def total(module: nn.Module, sample: Mapping[str, Any]) -> tuple[Tensor, int]:
        found = rewards(task, sample, translate(task, module, sample, True), reward)
        return found.sum().to(sample["target"].device), len(found)

    return total
