"""How many of the images in front of the discriminator are augmented.

Karras et al. 2020 ("Training Generative Adversarial Networks with Limited Data") augment the more images
the surer D is about real ones. There it is to keep D from learning few images by heart, and begins with
none. Here it begins with all, since a new D is far ahead of a new G; later G draws level, and D is given
more images as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan.augment import amounts_needed, augment

IMAGES_TO_ALL = 50_000
"""In which the share can go from none to all: some five hundred steps of 96."""


class AdaptiveAugmentation:
    """Augments a share of the images.

    Args:
        policy: names from `POLICIES`.
        target: the mean of the sign of D's logits on real images, right less wrong answers, in [0, 1), that
            the share is to bring about; 0 leaves it at 1.
        device: where it is kept, so that nothing has to be read back.

    Attributes:
        share: float32 [] in [0, 1], always the same tensor.
        amounts: that `apply` needs for each image.
    """

    def __init__(self, policy: tuple[str, ...], target: float, device: torch.device) -> None:
        self.adaptive = bool(policy and target)
        self.amounts = amounts_needed(policy) + self.adaptive
        self._policy, self._target = policy, target
        self.share = torch.ones((), device=device)

    def update(self, accuracy: Tensor, images: int) -> None:
        """Go a step towards the target.

        Args:
            accuracy: the share of a batch's real images that D told as such, float32 [].
            images: their number.
        """
        if self.adaptive:
            ahead = torch.sign(2 * accuracy - 1 - self._target)
            self.share.add_(ahead * (images / IMAGES_TO_ALL)).clamp_(0, 1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """`augment` that share of the images, by amounts float32 [B, amounts] in [0, 1), drawn evenly."""
        if not self.adaptive:
            return augment(images, self._policy, amounts)
        chosen = (amounts[:, 0] < self.share)[:, None, None, None]
        return torch.where(chosen, augment(images, self._policy, amounts[:, 1:]), images)
