"""`unas`: alpha by reinforcement and by gradients (Vahdat et al. 2020, arXiv:1912.07651)."""

import torch

from ..reversible.coupling import take_apart
from ..search_space.levels import ALPHA
from ..search_space.relaxation import logits, straight_through
from ..search_space.sampling import searched_stacks
from .options import one_of
from .own_gradients import OnDemandStrategy
from .rewards import REWARDS, reward_of
from .sampling_mixins import GumbelSample

GAP = 0.5  # weight of the generalization gap


class UNAS(GumbelSample, OnDemandStrategy):
    """alpha's loss is `E[log q(d) · stop(L(d) - L(ζ))] + L(ζ)`.

    ζ is a Gumbel-softmax sample and d its largest candidates; `L = L_train + ½ |L_val - L_train|`.
    The weights move by ζ. With ``--unas-reward bleu`` or ``chrf``, the difference in the first term
    is that of sampled translations' scores, negative. Differences from the authors' code: one
    architecture for a batch instead of one for each example, and no correction of the bias that ζ
    brings to the first term. FLOPs and parameters are penalties (``--arch-penalty``).
    """

    name = "unas"
    options = (*OnDemandStrategy.options, "arch_temperature", "unas_reward")
    temperatures = (0.4, 0.4)

    def check(self) -> None:
        """Read the reward."""
        super().check()
        self.reward = one_of(self.cfg, "unas_reward", ("loss", *REWARDS))
        self.generates = self.reward != "loss"

    def alpha_gradients(self, module, train, valid, update_num):
        """Return the gradients of alpha's loss."""
        train_loss, of_train = self.mean_loss(module, train, (ALPHA,), update_num)
        valid_loss, of_valid = self.mean_loss(module, valid, (ALPHA,), update_num)
        share = GAP * torch.sign(valid_loss - train_loss)
        soft = [(1 - share) * t + share * v for t, v in zip(of_train, of_valid, strict=True)]

        coders = searched_stacks(module)
        with torch.no_grad():
            zeta = self.mixtures(module, (ALPHA,), update_num)
            hard = {stack: straight_through(take_apart(z)[0]) for stack, z in zeta.items()}
        if self.reward == "loss":
            of_hard = [self.mean_loss(module, b, (), update_num, hard)[0] for b in (train, valid)]
            difference = _loss(*of_hard) - _loss(train_loss, valid_loss)
        else:
            reward = reward_of(self.task, REWARDS[self.reward])
            of_soft, of_hard = (
                self.mean_loss(module, valid, (), update_num, mixtures, reward)[0]
                for mixtures in (zeta, hard)
            )
            difference = of_soft - of_hard
        with torch.enable_grad():
            probability = sum(
                (
                    logits(coder.alpha, coder.mask).masked_fill(~coder.remaining, 0)
                    * hard[stack].weights
                ).sum()
                for stack, coder in coders.items()
            )
            score = torch.autograd.grad(probability, [coder.alpha for coder in coders.values()])
        return [s + difference * g for s, g in zip(soft, score, strict=True)]


def _loss(train, valid):
    return train + GAP * (valid - train).abs()
