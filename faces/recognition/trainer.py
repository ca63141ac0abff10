"""What a training of classes does in a step, how it is scored, and what it shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from faces.recognition.augment import augment, centre_crop, crop_and_colour, shift_and_zoom
from faces.recognition.folder import LabelledImages
from faces.recognition.freezing import FrozenFeatures, unfreeze
from faces.recognition.networks import Classifier, EmbeddingNetwork, FinetuneNetwork
from faces.recognition.optimizers import LearningRate, make_classifier_optimizer
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognition.settings import ClassifierSettings
from faces.updater import WEIGHT_KEYS, Updater
from images.sampler import batch_indices, step_seed
from images.tiles import GRID_COLUMNS, tile, to_uint8

KIND = "classifier"
SHOWN = 32
"""Images in a picture of what the network is shown."""
SCORING_BATCH = 128
SPARSE = (nn.ReLU, nn.ReLU6, nn.Hardswish)
"""Activations that can be 0."""


class ClassifierTrainer:
    """A `faces.loop.SupervisedTrainer` of classes.

    Args:
        settings: of the run, resolved.
        data: images and classes.
        network: with the weights to begin with; its backbone, if any, already frozen where it is to stay so
            for the whole run.
        device: where to compute.
    """

    ranked_by = "score/error"
    weights = WEIGHT_KEYS

    def __init__(
        self, settings: ClassifierSettings, data: LabelledImages, network: Classifier, device: torch.device
    ) -> None:
        assert settings.image_size is not None, "settings are resolved"
        self.settings, self.data = settings, data
        self._size, self._device = settings.image_size, device
        self._images = torch.from_numpy(data.images)
        self._labels = torch.from_numpy(data.labels)
        self._rows = [
            np.flatnonzero(~data.held_out & (data.labels == one)) for one in range(len(data.classes))
        ]
        self._random = torch.Generator(device)
        mirror = bool(settings.mirror)
        self._how = crop_and_colour(mirror) if settings.method == "scratch" else shift_and_zoom(mirror)
        network = network.to(device, memory_format=torch.channels_last)
        self._rate = LearningRate(settings)
        optimizer = make_classifier_optimizer(network, settings)
        self._updater = Updater(network, optimizer, self._rate, settings.ema_half_life or 0.0)
        self._stage, self._stage_best = 0, float("inf")
        self._kept: dict[str, Tensor] | None = None
        self._thaw()
        self._maps: FrozenFeatures | None = None
        if settings.once:
            assert isinstance(network, FinetuneNetwork), "other methods have no frozen layers"
            assert settings.freeze is not None, "settings are resolved"
            self._maps = FrozenFeatures(network.backbone, settings.freeze, data.images)
        self._sparsity: dict[str, float] = {}
        self._gradients: dict[str, Tensor] = {}

    @property
    def network(self) -> Classifier:
        """The network that is trained."""
        network = self._updater.network
        assert isinstance(network, Classifier), "that is what it was given"
        return network

    @property
    def step_count(self) -> int:
        """Steps made so far."""
        return self._updater.step_count

    def step(self) -> None:
        """One update on one batch, in which each class is as frequent as the settings have it."""
        self._enter_stage()
        settings, network = self.settings, self.network
        rows, seed = self._batch(), step_seed(settings.seed, self.step_count)
        labels = self._labels[rows].to(self._device)
        network.train()
        following = self.step_count + 1
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            self._watching_activations(due=following % settings.log_every == 0),
            self._watching_gradients(due=following % settings.checkpoint_every == 0),
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(seed)  # of dropout
            logits = network.logits(self._training_features(rows, seed), labels)
            right = (logits.detach().argmax(1) == labels).float().mean()
            self._updater.update(F.cross_entropy(logits, labels), len(rows), accuracy__training=right)

    def check_finite(self) -> None:
        """Raise `DivergedError` if a loss or gradient of any step so far was not finite."""
        self._updater.check_finite()

    def statistics(self) -> dict[str, float]:
        """Loss, accuracy, gradient norm, learning rate; and of each activation the share of zeros.

        The accuracy is that on the batches as they are shown, under ArcFace with its margin.
        """
        return self._updater.statistics() | self._sparsity

    def scores(self) -> dict[str, float]:
        """On the images held out, without variation.

        - `score/accuracy`: the share told rightly.
        - `score/balanced_accuracy`: the mean over the classes of that; `score/error`: what it lacks of 1.
        - `score/loss`: mean cross-entropy, without a margin [nats].
        """
        rows = self.data.held_out_indices
        logits = self._logits(rows)
        labels = self._labels[rows]
        confusion = confusion_matrix(labels, logits.argmax(1), len(self.data.classes))
        loss = float(F.cross_entropy(logits, labels))
        error = 1 - balanced_accuracy(confusion)
        self._rate.record_score(loss)
        if self.settings.stages != 1 and error < self._stage_best:
            self._stage_best, self._kept = error, copy.deepcopy(self.network.state_dict())
        return {
            "score/accuracy": accuracy(confusion),
            "score/balanced_accuracy": 1 - error,
            "score/error": error,
            "score/loss": loss,
        }

    def picture(self) -> NDArray[np.uint8]:
        """Images as the network is shown them in training, tiled: uint8 [3, H, W]."""
        rows = self._batch()[:SHOWN]
        images = self._varied(rows, step_seed(self.settings.seed, self.step_count))
        return tile(to_uint8(images.cpu()).numpy(), GRID_COLUMNS)

    def networks(self) -> Mapping[str, nn.Module | Mapping[str, Tensor]]:
        """The network, and its gradients in the step just made where that is one of histograms."""
        return {"classifier": self.network, "gradient": self._gradients}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold to go on from here, and to predict without the run's folder."""
        return {
            "kind": KIND,
            "settings": to_json(self.settings),
            "classes": list(self.data.classes),
            "rate": self._rate.state(),
            "stage": {"number": self._stage, "best": self._stage_best, "kept": self._kept},
            **self._updater.state([]),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells.

        Raises:
            UserError: it is of other classes.
        """
        if odd := sorted({*state["classes"]} ^ {*self.data.classes}):
            raise UserError(
                f"the run was trained on {len(state['classes'])} classes, and {len(self.data.classes)} are "
                f"there now; {odd[0]} is not in both: restore the folder, or begin a new run with --init-from"
            )
        self._updater.load_state(state)
        self._rate.load_state(state["rate"])
        stage = state["stage"]
        self._stage, self._stage_best, self._kept = stage["number"], stage["best"], stage["kept"]
        self._thaw()

    def _enter_stage(self) -> None:
        """At a stage's first step: go back to the best weights of the one before, and thaw more layers."""
        stages, steps = self.settings.stages or 1, self.settings.steps
        assert steps is not None, "settings are resolved"
        stage = min(self.step_count * stages // steps, stages - 1)
        if stage == self._stage:
            return
        if self._kept is not None:
            self.network.load_state_dict(self._kept)
        self._stage, self._stage_best, self._kept = stage, float("inf"), None
        self._rate.reset_best()
        self._thaw()

    def _thaw(self) -> None:
        if isinstance(self.network, EmbeddingNetwork):
            unfreeze(self.network.backbone, self._stage, self.settings.stages or 1)

    def _batch(self) -> NDArray[np.int64]:
        """The rows of this step's images."""
        size, step, seed = self.settings.batch_size, self.step_count, self.settings.seed
        if not self.settings.balance:
            trained = self.data.training_indices
            return trained[batch_indices(len(trained), size, step, seed)]
        return balanced_batch(self._rows, size, step, seed)

    def _varied(self, rows: NDArray[np.int64], seed: int) -> Tensor:
        self._random.manual_seed(seed)
        images = self._images[torch.from_numpy(rows)].to(self._device)
        if self.settings.once:
            return centre_crop(images, self._size)
        return augment(images, self._size, self._how, self._random)

    def _training_features(self, rows: NDArray[np.int64], seed: int) -> Tensor:
        network = self.network
        if self._maps is None:
            images = self._varied(rows, seed).contiguous(memory_format=torch.channels_last)
            return network.features(images)
        self._random.manual_seed(seed)
        drawn = torch.rand(len(rows), generator=self._random, device=self._device)
        return self._from_maps(network, rows, drawn < (0.5 if self.settings.mirror else 0.0))

    def _from_maps(self, network: nn.Module, rows: NDArray[np.int64], mirrored: Tensor) -> Tensor:
        assert self._maps is not None
        assert isinstance(network, FinetuneNetwork), "other methods have no frozen layers"
        return network.features_from_map(
            self._maps.remaining_layers(self._maps(rows, mirrored).to(self._device))
        )

    @torch.no_grad()
    def _logits(self, rows: NDArray[np.int64]) -> Tensor:
        """Of images without variation, float32 [N, C], on the CPU."""
        network = self._updater.evaluation_network([])
        assert isinstance(network, Classifier), "an average is of the network's own kind"
        found = []
        for first in range(0, len(rows), SCORING_BATCH):
            part = rows[first : first + SCORING_BATCH]
            with exact_float32():
                if self._maps is None:
                    images = centre_crop(self._images[torch.from_numpy(part)].to(self._device), self._size)
                    features = network.features(images.contiguous(memory_format=torch.channels_last))
                else:
                    features = self._from_maps(network, part, torch.zeros(len(part), dtype=torch.bool))
                found.append(network.logits(features).float().cpu())
        return torch.cat(found)

    @contextmanager
    def _watching_activations(self, *, due: bool) -> Iterator[None]:
        """In a step after which values are logged, note the share of zeros in each activation."""
        hooks = []
        for name, layer in self.network.named_modules() if due else ():
            if isinstance(layer, SPARSE):
                hooks.append(layer.register_forward_hook(partial(self._note_zeros, name)))
        yield
        for hook in hooks:
            hook.remove()

    def _note_zeros(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._sparsity[f"sparsity/{name}"] = float((output.detach() == 0).float().mean())

    @contextmanager
    def _watching_gradients(self, *, due: bool) -> Iterator[None]:
        """In a step after which histograms are made, keep the gradients, which an update throws away."""
        self._gradients = {}
        hooks = []
        for name, weight in self.network.named_parameters() if due else ():
            if weight.requires_grad:
                hooks.append(weight.register_post_accumulate_grad_hook(self._keeper(name)))
        yield
        for hook in hooks:
            hook.remove()

    def _keeper(self, name: str) -> Callable[[Tensor], None]:
        def keep(weight: Tensor) -> None:
            assert weight.grad is not None, "it was accumulated just now"
            self._gradients[name] = weight.grad.clone()

        return keep


def balanced_batch(rows: list[NDArray[np.int64]], batch_size: int, step: int, seed: int) -> NDArray[np.int64]:
    """The images of a step in which all classes are equally frequent: int64 [batch_size].

    The classes follow each other in permutations, and so do the images of each, by functions of seed and step
    alone, as in `images.sampler`.

    Args:
        rows: of each class its images, one at least.
        batch_size: images.
        step: from 0.
        seed: not negative.
    """
    count = len(rows)
    first = step * batch_size
    chosen = []
    for position in range(first, first + batch_size):
        turn, place = divmod(position, count)
        one = int(batch_indices(count, count, turn, seed)[place])
        own = rows[one]
        # A class has its turn once in each permutation of the classes.
        chosen.append(own[batch_indices(len(own), 1, turn, seed + one + 1)[0]])
    return np.array(chosen, np.int64)
