"""`sequence_reward`: both levels by a reward of sampled translations.

After RL-DARTS (Miao et al. 2021, arXiv:2106.02229), which searches by the loss of reinforcement
learning alone; the self-critical baseline is that of Rennie et al. (2017, arXiv:1612.00563).
"""

import torch
from fairseq.data import data_utils

from ..search_space.levels import LEVELS, WEIGHTS
from .alpha_strategy import JointStrategy, abandoning, parameters_of, without_wrappers
from .options import one_of, read_option
from .rewards import REWARDS, rewards, translate


class SequenceReward(JointStrategy):
    """Every update moves both levels by `(1 - λ) CE + λ RL` on one batch.

    `RL = (r(greedy) - r(sampled)) · log p(sampled)`, which makes a sampled translation likelier
    if it beats the greedy one; r is the sentence's BLEU or chrF, λ is ``--reward-weight``. Both
    means are per token. An update generates two translations of its batch.
    """

    name = "sequence_reward"
    generates = True
    float32_only = True
    options = (*JointStrategy.options, "reward", "reward_weight")

    def check(self) -> None:
        """Read the reward."""
        super().check()
        cfg = self.cfg
        self.reward = one_of(cfg, "reward", tuple(REWARDS))
        self.weight = read_option(
            cfg, "reward_weight", 0.5, lambda weight: 0 <= weight <= 1, "lie in [0, 1]"
        )
        self.samples = []

    def batches(self, task, dataset, make, **arguments):
        """Remember the task, which knows the symbols."""
        self.task = task
        return super().batches(task, dataset, make, **arguments)

    def train_step(self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad):
        """Compute the cross entropy, and keep the batch."""
        self.samples.append((sample, ignore_grad))
        with abandoning(self.samples):
            return super().train_step(
                train_step, sample, model, criterion, optimizer, update_num, ignore_grad
            )

    def policy_loss(self, module, batch):
        """Return RL of a batch, summed over its tokens, and their number."""
        sample, dummy = batch
        greedy, sampled = (translate(self.task, module, sample, s) for s in (False, True))
        scores = [rewards(self.task, sample, t, REWARDS[self.reward]) for t in (greedy, sampled)]
        advantage = (scores[1] - scores[0]).to(sample["target"].device)
        pad, eos = self.task.target_dictionary.pad(), self.task.target_dictionary.eos()
        target = data_utils.collate_tokens(sampled, pad)
        previous = data_utils.collate_tokens(sampled, pad, eos, move_eos_to_beginning=True)
        net_input = {**sample["net_input"], "prev_output_tokens": previous}
        output = module(**net_input)
        log_probs = module.get_normalized_probs(output, log_probs=True)
        chosen = (
            log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1).masked_fill(target.eq(pad), 0)
        )
        loss = -(advantage.unsqueeze(-1) * chosen).sum()
        count = int(target.ne(pad).sum())
        return (0 * loss, 0) if dummy else (loss, count)

    def before_optimizer_step(self, model, optimizer, update_num) -> None:
        """Mix in the gradients of the policy."""
        levels = LEVELS if update_num >= self.arch_start else (WEIGHTS,)
        module = without_wrappers(model)
        if self.weight:
            _, grads = self.mean_loss(
                module, self.samples, levels, update_num, loss=self.policy_loss
            )
            for parameter, grad in zip(parameters_of(module, levels), grads, strict=True):
                own = torch.zeros_like(grad) if parameter.grad is None else parameter.grad
                parameter.grad = (1 - self.weight) * own + self.weight * grad
        self.samples = []
        super().before_optimizer_step(model, optimizer, update_num)
