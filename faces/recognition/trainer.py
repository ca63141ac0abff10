"""Trains a classifier: its step, its scores, and a picture of its training images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.device import exact_float32
from engine.errors import UserError
from engine.settings import to_json
from faces.loop import SupervisedTrainer
from faces.recognition.augment import augment, central_input, crop_and_colour, shift_and_zoom
from faces.recognition.folder import LabelledImages
from faces.recognition.freezing import FrozenFeatures, unfreeze
from faces.recognition.networks import Classifier, EmbeddingNetwork, FinetuneNetwork
from faces.recognition.optimizers import LearningRate, make_classifier_optimizer
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognition.settings import TASK_NAME, ClassifierSettings
from faces.updater import Updater
from images.sampler import batch_indices, step_seed
from images.tiles import GRID_COLUMNS, tile, to_uint8

PICTURE_IMAGES = 32
SCORING_BATCH_SIZE = 128
SPARSE_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish)
"""Activations with zeros among their outputs, whose sparsity is logged."""


class ClassifierTrainer(SupervisedTrainer):
    """Trains a classifier.

    Args:
        settings: of the run, resolved.
        data: images and classes.
        network: with its initial weights; a layer that stays frozen for the whole run is frozen already.
        device: where to compute.
    """

    ranked_by = "score/error"

    def __init__(
        self, settings: ClassifierSettings, data: LabelledImages, network: Classifier, device: torch.device
    ) -> None:
        assert settings.image_size is not None, "settings are resolved"
        self.settings = settings
        self._data, self._size, self._device = data, settings.image_size, device
        self._images = torch.from_numpy(data.images)
        self._labels = torch.from_numpy(data.labels)
        self._class_indices = [
            np.flatnonzero(~data.held_out & (data.labels == label)) for label in range(len(data.classes))
        ]
        self._random = torch.Generator(device)
        mirror = bool(settings.mirror)
        self._augmentation = (
            crop_and_colour(mirror) if settings.method == "scratch" else shift_and_zoom(mirror)
        )
        network = network.to(device, memory_format=torch.channels_last)
        self._rate = LearningRate(settings)
        optimizer = make_classifier_optimizer(network, settings)
        self.updater = Updater(network, optimizer, self._rate, settings.ema_half_life or 0.0)
        self._stage, self._stage_best = 0, float("inf")
        self._stage_weights: dict[str, Tensor] | None = None
        self._unfreeze()
        self._frozen_features: FrozenFeatures | None = None
        if settings.once:
            assert isinstance(network, FinetuneNetwork), "other methods have no frozen layers"
            assert settings.freeze is not None, "settings are resolved"
            self._frozen_features = FrozenFeatures(network.backbone, settings.freeze, data.images)
        self._sparsity: dict[str, float] = {}
        self._gradients: dict[str, Tensor] = {}

    @property
    def network(self) -> Classifier:
        """The trained network."""
        network = self.updater.network
        assert isinstance(network, Classifier), "__init__ was given one"
        return network

    @property
    def outlook(self) -> str:
        """See `SupervisedTrainer`."""
        chance = 1 - 1 / len(self._data.classes)
        return (
            f"what to expect: an error (1 - balanced accuracy) of {chance:.2g} at the start (chance) and "
            "0.05 after 600 steps of 32 images from scratch on 80 images of each of five people "
            "(docs/recognition.md)"
        )

    def step(self) -> None:
        """Update the network on one batch, with balanced classes if the settings say so."""
        self._enter_stage()
        network, seed = self.network, step_seed(self.settings.seed, self.step_count)
        rows = self._batch()
        labels = self._labels[rows].to(self._device)
        network.train()
        devices = [self._device] if self._device.type == "cuda" else []
        with self._hooks(self.step_count + 1), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)  # of dropout
            logits = network.logits(self._training_features(rows, seed), labels)
            correct = (logits.detach().argmax(1) == labels).float().mean()
            self.updater.update(F.cross_entropy(logits, labels), len(rows), accuracy__training=correct)

    def statistics(self) -> dict[str, float]:
        """Loss, accuracy, gradient norm and learning rate; and the share of zeros in each activation.

        The accuracy is that on augmented batches and, under ArcFace, with the margin.
        """
        return super().statistics() | self._sparsity

    def scores(self) -> dict[str, float]:
        """Scores on the held-out images, without augmentation.

        - `score/accuracy`: share of images classified correctly.
        - `score/balanced_accuracy`: that share averaged over the classes; `score/error` is 1 minus it.
        - `score/loss`: mean cross-entropy, without a margin [nats].
        """
        rows = self._data.held_out_indices
        logits, labels = self._logits(rows), self._labels[rows]
        confusion = confusion_matrix(labels, logits.argmax(1), len(self._data.classes))
        loss = float(F.cross_entropy(logits, labels))
        error = 1 - balanced_accuracy(confusion)
        self._rate.record_score(loss)
        if self.settings.stages != 1 and error < self._stage_best:
            self._stage_best, self._stage_weights = error, copy.deepcopy(self.network.state_dict())
        return {
            "score/accuracy": accuracy(confusion),
            "score/balanced_accuracy": 1 - error,
            "score/error": error,
            "score/loss": loss,
        }

    def picture(self) -> NDArray[np.uint8]:
        """Augmented training images, tiled: uint8 [3, H, W]."""
        rows = self._batch()[:PICTURE_IMAGES]
        images = self._augmented(rows, step_seed(self.settings.seed, self.step_count))
        return tile(to_uint8(images.cpu()).numpy(), GRID_COLUMNS)

    def networks(self) -> Mapping[str, nn.Module | Mapping[str, Tensor]]:
        """The network, and the last step's gradients, if it is a step of histograms."""
        return {"classifier": self.network, "gradient": self._gradients}

    def state(self) -> dict[str, Any]:
        """Everything needed to resume from here, and to classify without the run's folder."""
        return {
            "kind": TASK_NAME,
            "settings": to_json(self.settings),
            "classes": list(self._data.classes),
            "rate": self._rate.state(),
            "stage": {"number": self._stage, "best": self._stage_best, "kept": self._stage_weights},
            **self.updater.state([]),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned after the step `state["step"]`.

        Raises:
            UserError: it has other classes.
        """
        saved, current = {*state["classes"]}, {*self._data.classes}
        if saved != current:
            raise UserError(
                f"the run was trained on {len(saved)} classes, and the data have {len(current)} now; "
                f"{min(saved ^ current)} is not in both: restore the folder, or start a new run with "
                "--init-from"
            )
        self.updater.load_state(state)
        self._rate.load_state(state["rate"])
        stage = state["stage"]
        self._stage, self._stage_best, self._stage_weights = stage["number"], stage["best"], stage["kept"]
        self._unfreeze()

    def _enter_stage(self) -> None:
        """At a stage's first step, load the best weights of the previous stage and unfreeze more layers."""
        stages, steps = self.settings.stages or 1, self.settings.steps
        assert steps is not None, "settings are resolved"
        stage = min(self.step_count * stages // steps, stages - 1)
        if stage == self._stage:
            return
        if self._stage_weights is not None:
            self.network.load_state_dict(self._stage_weights)
        self._stage, self._stage_best, self._stage_weights = stage, float("inf"), None
        self._rate.reset_best()
        self._unfreeze()

    def _unfreeze(self) -> None:
        if isinstance(self.network, EmbeddingNetwork):
            unfreeze(self.network.backbone, self._stage, self.settings.stages or 1)

    def _batch(self) -> NDArray[np.int64]:
        """The rows of this step's images."""
        size, step, seed = self.settings.batch_size, self.step_count, self.settings.seed
        if self.settings.balance:
            return balanced_batch(self._class_indices, size, step, seed)
        indices = self._data.training_indices
        return indices[batch_indices(len(indices), size, step, seed)]

    def _augmented(self, rows: NDArray[np.int64], seed: int) -> Tensor:
        self._random.manual_seed(seed)
        images = self._images[torch.from_numpy(rows)].to(self._device)
        if self.settings.once:
            return central_input(images, self._size)
        return augment(images, self._size, self._augmentation, self._random)

    def _training_features(self, rows: NDArray[np.int64], seed: int) -> Tensor:
        if self._frozen_features is None:
            images = self._augmented(rows, seed).contiguous(memory_format=torch.channels_last)
            return self.network.features(images)
        self._random.manual_seed(seed)
        uniform = torch.rand(len(rows), generator=self._random, device=self._device)
        return self._features_from_frozen(self.network, rows, uniform < (0.5 if self.settings.mirror else 0))

    def _features_from_frozen(self, network: nn.Module, rows: NDArray[np.int64], mirrored: Tensor) -> Tensor:
        frozen = self._frozen_features
        assert frozen is not None
        assert isinstance(network, FinetuneNetwork), "other methods have no frozen layers"
        return network.features_from_map(frozen.remaining_layers(frozen(rows, mirrored).to(self._device)))

    @torch.no_grad()
    def _logits(self, rows: NDArray[np.int64]) -> Tensor:
        """Logits of images without augmentation, float32 [N, C], on the CPU."""
        network = self.updater.evaluation_network([])
        assert isinstance(network, Classifier), "an average has the class of its network"
        logits = []
        for start in range(0, len(rows), SCORING_BATCH_SIZE):
            batch = rows[start : start + SCORING_BATCH_SIZE]
            with exact_float32():
                if self._frozen_features is None:
                    images = central_input(self._images[torch.from_numpy(batch)].to(self._device), self._size)
                    features = network.features(images.contiguous(memory_format=torch.channels_last))
                else:
                    features = self._features_from_frozen(network, batch, torch.zeros(len(batch)).bool())
                logits.append(network.logits(features).float().cpu())
        return torch.cat(logits)

    def _hooks(self, step: int) -> ExitStack:
        """Hooks that record sparsity and gradients in a step after which these are logged."""
        hooks = ExitStack()
        if step % self.settings.log_every == 0:
            for name, layer in self.network.named_modules():
                if isinstance(layer, SPARSE_ACTIVATIONS):
                    hooks.enter_context(layer.register_forward_hook(partial(self._record_sparsity, name)))
        self._gradients = {}
        if step % self.settings.checkpoint_every == 0:
            for name, weight in self.network.named_parameters():
                if weight.requires_grad:
                    hook = partial(self._record_gradient, name)
                    hooks.enter_context(weight.register_post_accumulate_grad_hook(hook))
        return hooks

    def _record_sparsity(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._sparsity[f"sparsity/{name}"] = float((output.detach() == 0).float().mean())

    def _record_gradient(self, name: str, weight: Tensor) -> None:
        assert weight.grad is not None, "the hook runs after it is accumulated"
        self._gradients[name] = weight.grad.clone()  # the update discards it


def balanced_batch(
    class_indices: list[NDArray[np.int64]], batch_size: int, step: int, seed: int
) -> NDArray[np.int64]:
    """The images of a step that samples all classes equally often: int64 [batch_size].

    The classes follow each other in permutations, as do the images of each class. Seed and step alone
    determine them, as in `images.sampler`.

    Args:
        class_indices: the images of each class, at least one.
        batch_size: images in a batch.
        step: number of the step, from 0.
        seed: non-negative.
    """
    count = len(class_indices)
    chosen = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        # Each permutation of the classes contains a class once, so its number counts the class's images.
        permutation, place = divmod(position, count)
        label = int(batch_indices(count, count, permutation, seed)[place])
        indices = class_indices[label]
        chosen.append(indices[batch_indices(len(indices), 1, permutation, seed + label + 1)[0]])
    return np.array(chosen, np.int64)
