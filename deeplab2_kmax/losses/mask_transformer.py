"""The loss of the mask-transformer family: its terms, weighted, for the main and the auxiliary outputs.

MaX-DeepLab (2021, arXiv 2012.00759) and kMaX-DeepLab: k-means Mask Transformer (2022, arXiv 2207.04044). Numbers are
DeepLab2's. Unlike there, semantic sampling is wired up, more masks than slots do no harm, and all is in float32.
The options say what ReMaX (2023, arXiv 2306.17319) relaxes and how much CMT-DeepLab's (2022, arXiv 2206.08948)
reference masks count.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from deeplab2_kmax.layers import reference_masks, resize
from deeplab2_kmax.losses import contrastive, mask_targets, masks, pixelwise, relaxation, sampling
from deeplab2_kmax.matching import hungarian
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput

SEMANTIC = "semantic_loss"
CLASS_TERM = "pq_style_loss_class_term"
DICE_TERM = "pq_style_loss_mask_dice_term"
MASK_ID = "mask_id_cross_entropy_loss"
INSTANCE_DISCRIMINATION = "instance_discrimination_loss"
REFERENCE_MASK = "reference_mask_loss"
TOTAL = "total_loss"

_OPTIONS = ("semantic_loss", "pq_style_loss", "mask_id_cross_entropy_loss", "instance_discrimination_loss")


class MaskTransformerLoss:
    """Turns a mask transformer's output and a batch of targets into weighted loss terms."""

    def __init__(
        self,
        loss_options: trainer_pb2.LossOptions,
        model_options: model_pb2.ModelOptions.MaXDeepLabOptions,
        classes: MaskClasses,
        *,
        solver: hungarian.Solver = hungarian.Solver.AUTO,
        noise: Callable[..., tf.Tensor] = sampling.uniform_noise,
    ):
        """Checks the options.

        Args:
            loss_options: which losses, their weights and top-k; a loss that is not set is not computed.
            model_options: how pixels are sampled; `remax` and `cmt`, where they are set.
            classes: the data set's classes.
            solver: where masks are matched to slots.
            noise: (seed, batch, P) -> [B, P] uniform numbers in (0, 1) that sampled pixels depend on.

        Raises:
            ValueError: a loss has no meaning here, or one of its options does not.
        """
        _check(loss_options, model_options)
        self._loss_options = loss_options
        self._model_options = model_options
        self._classes = classes
        self._solver = solver
        self._noise = noise

    def __call__(
        self, output: MaskTransformerOutput, targets: Mapping[str, tf.Tensor], *, seed: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """The loss terms of every example.

        Args:
            output: the model's answer. The terms of every auxiliary prediction in it are added, with the main
                prediction's matching.
            targets: the batch: `semantic_gt`, `thing_id_mask_gt` and `semantic_loss_weight` [B, H, W] and
                `thing_id_class_gt` [B, T].
            seed: [2] integers that the sampled pixels depend on; training gives a new one in every step. Without it
                the same places are drawn every time, which suits an evaluation.

        Returns:
            Name -> [B] float32, weighted; `total_loss` is the sum of the others. The terms of auxiliary prediction i
            are called `aux_<i><term>`; so are CMT-DeepLab's `reference_mask_loss` and the semantic losses of ReMaX's
            heads, of which the one behind the last auxiliary prediction belongs to the final masks. A NaN in the
            output is a NaN in the terms.

        Raises:
            ValueError: `targets` or `output` lacks something, or the output's grids do not fit the targets.
        """
        missing = {"semantic_gt", "thing_id_mask_gt", "thing_id_class_gt", "semantic_loss_weight"} - set(targets)
        if missing:
            raise ValueError(f"The batch lacks {', '.join(sorted(missing))}, which the losses need.")
        seed = tf.zeros([2], tf.int32) if seed is None else seed
        terms: dict[str, tf.Tensor] = {}
        if any(self._loss_options.HasField(name) for name in _OPTIONS if name != "semantic_loss"):
            terms.update(self._mask_terms(output, targets, seed))
        if self._loss_options.HasField("semantic_loss"):
            terms[SEMANTIC] = self._semantic_term(output.semantic_logits, targets, _fold(seed, 0))
            terms.update(self._relaxing_terms(output, targets, seed))
        return {**terms, TOTAL: tf.add_n(list(terms.values()))}

    def _mask_terms(
        self, output: MaskTransformerOutput, targets: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        height, width = _grid(output.prediction.mask_logits)
        truth = mask_targets.prepare(targets, height, width, self._classes)
        # One per auxiliary prediction and one for the final one.
        relaxing = output.block_semantic_logits or (None,) * (len(output.auxiliary) + 1)
        main = self._relaxed(output.prediction, relaxing[-1])
        probabilities = tf.nn.softmax(main.mask_logits)
        matched = mask_targets.match(
            main,
            probabilities,
            truth,
            unmatched_weight=mask_targets.UnmatchedWeight(self._loss_options.unmatched_slot_weight),
            ignore_crowd=self._loss_options.matching_ignores_crowd,
            solver=self._solver,
        )
        class_targets = functools.partial(self._class_targets, targets, matched)
        terms = self._terms(
            main, probabilities, truth, matched, class_targets(output.prediction.mask_logits), _fold(seed, 1)
        )
        for index, prediction in enumerate(output.auxiliary):
            auxiliary = self._relaxed(prediction, relaxing[index])
            probabilities = tf.nn.softmax(auxiliary.mask_logits)
            soft = class_targets(prediction.mask_logits)
            added = self._terms(auxiliary, probabilities, truth, matched, soft, _fold(seed, 2 + index))
            terms.update({f"aux_{index}{name}": value for name, value in added.items()})
        for index, references in enumerate(output.reference_masks):
            log_masks = _flatten_pixels(reference_masks.log_gaussian(references, height, width))
            loss = masks.reference_mask_term(log_masks, matched.pixel_slots, matched.is_matched) + matched.poison
            terms[f"aux_{index}{REFERENCE_MASK}"] = self._model_options.cmt.reference_mask_loss_weight * loss
        return terms

    def _relaxed(self, prediction: MaskPrediction, semantic_logits: tf.Tensor | None) -> MaskPrediction:
        """A prediction, flattened; with relaxed masks where its block has semantic logits."""
        if semantic_logits is None:
            return _flatten(prediction)
        # At the block's own grid, which is coarser than the masks'.
        agreement = relaxation.class_agreement(prediction.class_logits, semantic_logits, self._classes.class_ids)
        agreement = _flatten_pixels(resize.bilinear(agreement, _grid(prediction.mask_logits)))
        flat = _flatten(prediction)
        return flat._replace(mask_logits=relaxation.relax_masks(flat.mask_logits, agreement))

    def _class_targets(
        self, targets: Mapping[str, tf.Tensor], matched: mask_targets.MaskMatch, mask_logits: tf.Tensor
    ) -> tf.Tensor | None:
        """The relaxed class targets of the slots whose mask logits [B, h, w, N] these are, None without ReClass."""
        options = self._model_options
        if not options.HasField("remax") or not options.remax.reclass:
            return None
        return relaxation.relax_classes(
            _flatten_pixels(mask_logits),
            mask_targets.pixel_outputs(targets, *_grid(mask_logits), self._classes),
            matched.target_classes,
            num_outputs=self._classes.num_outputs,
            eta=options.remax.reclass_eta,
        )

    def _relaxing_terms(
        self, output: MaskTransformerOutput, targets: Mapping[str, tf.Tensor], seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The semantic losses of the heads that relax masks."""
        first = 2 + len(output.auxiliary)  # The numbers before are taken by the other terms' samples.
        return {
            f"aux_{index}{SEMANTIC}": self._semantic_term(logits, targets, _fold(seed, first + index))
            for index, logits in enumerate(output.block_semantic_logits)
            if logits is not None
        }

    def _terms(
        self,
        prediction: MaskPrediction,
        mask_probabilities: tf.Tensor,
        truth: mask_targets.MaskTargets,
        matched: mask_targets.MaskMatch,
        class_targets: tf.Tensor | None,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The terms of one flattened prediction."""
        options = self._loss_options
        terms = {}
        if options.HasField("pq_style_loss"):
            weight = options.pq_style_loss.weight
            terms[CLASS_TERM] = weight * masks.class_term(
                prediction.class_logits,
                matched.target_classes,
                matched.class_weights,
                matched.is_matched,
                relaxed_targets=class_targets,
            )
            terms[DICE_TERM] = weight * masks.dice_term(mask_probabilities, matched.pixel_slots, matched.mask_weights)
        if options.HasField("mask_id_cross_entropy_loss"):
            terms[MASK_ID] = options.mask_id_cross_entropy_loss.weight * masks.mask_id_cross_entropy(
                prediction.mask_logits,
                matched.pixel_slots,
                truth.labelled,
                top_k_percent=options.mask_id_cross_entropy_loss.top_k_percent,
            )
        terms = {name: value + matched.poison for name, value in terms.items()}
        if options.HasField("instance_discrimination_loss"):
            loss = self._instance_discrimination(prediction.pixel_features, truth, seed)
            terms[INSTANCE_DISCRIMINATION] = options.instance_discrimination_loss.weight * loss
        return terms

    def _instance_discrimination(
        self, features: tf.Tensor, truth: mask_targets.MaskTargets, seed: tf.Tensor
    ) -> tf.Tensor:
        top_k_percent = self._loss_options.instance_discrimination_loss.top_k_percent
        if self._model_options.instance_discrimination_sample_k <= 0:
            return contrastive.to_masks(
                features, truth.rows, truth.areas, truth.is_real, truth.is_thing, top_k_percent=top_k_percent
            )
        drawn = self._draw(
            truth,
            seed,
            self._model_options.instance_discrimination_sample_k,
            self._model_options.instance_discrimination_sample_temperature,
        )
        return contrastive.between_pixels(
            tf.gather(features, drawn, batch_dims=1),
            tf.gather(truth.rows, drawn, batch_dims=1),
            truth.areas.shape[1],
            top_k_percent=top_k_percent,
        )

    def _semantic_term(self, logits: tf.Tensor | None, targets: Mapping[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        if logits is None:
            raise ValueError("semantic_loss is set, but the model's output holds no semantic logits.")
        height, width = _grid(logits)
        labels = tf.cast(mask_targets.subsample(targets["semantic_gt"], height, width), tf.int32)
        weights = tf.cast(mask_targets.subsample(targets["semantic_loss_weight"], height, width), tf.float32)
        logits = _flatten_pixels(logits)
        if self._model_options.semantic_sample_k > 0:
            drawn = self._draw(
                mask_targets.prepare(targets, height, width, self._classes),  # The grid may be coarser than the masks'.
                seed,
                self._model_options.semantic_sample_k,
                self._model_options.semantic_sample_temperature,
            )
            logits, labels, weights = (tf.gather(values, drawn, batch_dims=1) for values in (logits, labels, weights))
        losses = pixelwise.softmax_cross_entropy(logits, labels, ignore_label=self._classes.ignore_label)
        options = self._loss_options.semantic_loss
        return options.weight * pixelwise.reduce(weights * losses, top_k_percent=options.top_k_percent)

    def _draw(
        self, truth: mask_targets.MaskTargets, seed: tf.Tensor, num_samples: int, temperature: float
    ) -> tf.Tensor:
        batch, num_pixels = tf.shape(truth.rows)[0], truth.rows.shape[1] or tf.shape(truth.rows)[1]
        noise = self._noise(seed, batch, num_pixels)
        return sampling.draw_pixels(
            truth.inverse_areas, truth.labelled, noise, num_samples=num_samples, temperature=temperature
        )


def _check(options: trainer_pb2.LossOptions, model: model_pb2.ModelOptions.MaXDeepLabOptions) -> None:
    if model.HasField("remax") and model.remax.remask and not options.HasField("semantic_loss"):
        raise ValueError(
            "max_deeplab.remax.remask needs loss_options.semantic_loss, which its semantic heads learn from."
        )
    for field, value in options.ListFields():
        if not isinstance(value, trainer_pb2.LossOptions.SingleLossOptions):
            continue
        if field.name not in _OPTIONS:
            raise ValueError(
                f"loss_options.{field.name} has no meaning for mask transformers. Their losses: {', '.join(_OPTIONS)}."
            )
        expected = "softmax_cross_entropy" if field.name == "semantic_loss" else ""
        if value.name not in ("", expected):
            raise ValueError(f"loss_options.{field.name}.name: expected {expected!r} or none, got {value.name!r}.")
        if not 0 < value.top_k_percent <= 1:
            raise ValueError(f"loss_options.{field.name}.top_k_percent must be in (0, 1], got {value.top_k_percent}.")
        if field.name == "pq_style_loss" and value.top_k_percent != 1:
            raise ValueError("loss_options.pq_style_loss is no loss of pixels: remove its top_k_percent.")
    if not any(options.HasField(name) for name in _OPTIONS):
        raise ValueError(f"loss_options is empty. Set at least one of: {', '.join(_OPTIONS)}.")


def _fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _grid(maps: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    shape = tf.shape(maps)
    return maps.shape[1] or shape[1], maps.shape[2] or shape[2]


def _flatten(prediction: MaskPrediction) -> MaskPrediction:
    """In float32, with pixels in one axis."""
    return MaskPrediction(
        class_logits=tf.cast(prediction.class_logits, tf.float32),
        mask_logits=_flatten_pixels(prediction.mask_logits),
        pixel_features=_flatten_pixels(prediction.pixel_features),
    )


def _flatten_pixels(maps: tf.Tensor) -> tf.Tensor:
    """[B, h, w, C] -> [B, h * w, C] float32."""
    height, width = _grid(maps)
    return tf.cast(tf.reshape(maps, [tf.shape(maps)[0], height * width, maps.shape[3]]), tf.float32)
