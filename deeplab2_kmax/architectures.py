"""The table that joins what does not know each other: architecture -> model, loss, post-processing, targets, tasks."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import BACKBONES, FIXED_OPTIONS, fixed_options, recursive
from deeplab2_kmax.backbones import max_deeplab as dual_path_backbones
from deeplab2_kmax.data import datasets
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.losses import mask_transformer, pixel_terms
from deeplab2_kmax.models import (
    building,
    cmt_deeplab,
    deeper_lab,
    deeplab,
    deeplab_v3,
    deeplab_v3_plus,
    kmax_deeplab,
    lr_aspp,
    max_deeplab,
    motion_deeplab,
    panoptic_deeplab,
    passes,
    spgnet,
    vip_deeplab,
)
from deeplab2_kmax.models import mask_transformer as mask_transformers
from deeplab2_kmax.postprocess import center_grouping, center_tracking, keypoint_grouping, mask_merging, two_frames
from deeplab2_kmax.postprocess import semantic as semantic_maps
from deeplab2_kmax.protos import config_pb2, model_pb2, trainer_pb2


class Architecture(NamedTuple):
    """What an experiment is made of. Every callable takes the resolved config and the data set's descriptor."""

    model: Callable[..., keras.Model]
    loss: Callable[[config_pb2.ExperimentOptions, datasets.Dataset], Callable[..., dict[str, tf.Tensor]]]
    targets: tuple[str, ...]  # what the data pipeline makes for the losses
    tasks: tuple[str, ...]  # what evaluation scores


def _kit(
    config: config_pb2.ExperimentOptions,
    dataset: datasets.Dataset,
    postprocess: Callable[..., Any] | None,
    **backbone_sizes: Any,
) -> building.Kit:
    norm = _norm(config.trainer_options.solver_options)
    classes = dataset.mask_classes()
    return building.Kit(
        _backbone(config.model_options.backbone, norm=norm, **backbone_sizes),
        classes,
        norm,
        postprocess(config.evaluator_options, classes) if postprocess is not None else None,
    )


def _mask_transformer(
    build: Callable[..., mask_transformers.MaskTransformer],
    config: config_pb2.ExperimentOptions,
    dataset: datasets.Dataset,
    *,
    postprocess: bool,
    backbone_sizes: Callable[[model_pb2.ModelOptions], dict[str, Any]] | None = None,
) -> mask_transformers.MaskTransformer:
    sizes = backbone_sizes(config.model_options) if backbone_sizes else {}
    kit = _kit(config, dataset, mask_merging.build if postprocess else None, **sizes)
    return build(config.model_options, kit)


def _mask_transformer_loss(
    config: config_pb2.ExperimentOptions, dataset: datasets.Dataset
) -> mask_transformer.MaskTransformerLoss:
    return mask_transformer.MaskTransformerLoss(
        config.trainer_options.loss_options, config.model_options.max_deeplab, dataset.mask_classes()
    )


def _mask_transformer_row(build: Callable[..., mask_transformers.MaskTransformer], **options: Any) -> Architecture:
    return Architecture(
        functools.partial(_mask_transformer, build, **options),
        _mask_transformer_loss,
        targets=("semantic", "masks"),
        tasks=("panoptic", "semantic"),
    )


def _deeplab(
    build: Callable[..., deeplab.DeepLab],
    config: config_pb2.ExperimentOptions,
    dataset: datasets.Dataset,
    *,
    postprocess: bool,
    merging: Callable[..., Any],
) -> deeplab.DeepLab:
    evaluator = config.evaluator_options
    return build(
        config.model_options,
        _kit(config, dataset, merging if postprocess else None),
        passes=passes.make(evaluator.eval_scales, add_mirrored=evaluator.add_flipped_images),
    )


def _deeper_lab(
    config: config_pb2.ExperimentOptions, dataset: datasets.Dataset, *, postprocess: bool
) -> deeper_lab.DeeperLab:
    evaluator = config.evaluator_options
    grouping = functools.partial(keypoint_grouping.build, radius=config.train_dataset_options.keypoint_radius)
    return deeper_lab.build(
        config.model_options,
        _kit(config, dataset, grouping if postprocess else None),
        passes=passes.make(evaluator.eval_scales),
    )


def _motion_deeplab(
    config: config_pb2.ExperimentOptions, dataset: datasets.Dataset, *, postprocess: bool
) -> deeplab.DeepLab:
    # Previous centres look as they do in training.
    tracking = functools.partial(center_tracking.build, sigma=config.train_dataset_options.sigma)
    return _deeplab(motion_deeplab.build, config, dataset, postprocess=postprocess, merging=tracking)


def _pixel_loss(config: config_pb2.ExperimentOptions, dataset: datasets.Dataset) -> pixel_terms.PixelLoss:
    return pixel_terms.PixelLoss(config.trainer_options.loss_options, dataset.ignore_label)


def _deeplab_row(
    build: Callable[..., deeplab.DeepLab],
    *,
    finds_instances: bool,
    merging: Callable[..., Any] | None = None,
    more_targets: tuple[str, ...] = (),
    more_tasks: tuple[str, ...] = (),
) -> Architecture:
    if merging is None:
        merging = center_grouping.build if finds_instances else semantic_maps.build
    targets, tasks = (("centers",), ("panoptic",)) if finds_instances else ((), ())
    return Architecture(
        functools.partial(_deeplab, build, merging=merging),
        _pixel_loss,
        targets=("semantic", *targets, *more_targets),
        tasks=(*tasks, "semantic", *more_tasks),
    )


def _vip_row(*, depth: bool) -> Architecture:
    return _deeplab_row(
        vip_deeplab.build,
        finds_instances=True,
        merging=two_frames.build,
        more_targets=("next_offsets", "depth") if depth else ("next_offsets",),
        more_tasks=(
            *("video_panoptic", "next_frame_panoptic"),
            *(("depth_video_panoptic", "depth") if depth else ()),
        ),
    )


ARCHITECTURES = {
    "kmax_deeplab": _mask_transformer_row(kmax_deeplab.build),
    "cmt_deeplab": _mask_transformer_row(cmt_deeplab.build),
    "max_deeplab": _mask_transformer_row(max_deeplab.build, backbone_sizes=max_deeplab.memory_sizes),
    "deeplab_v3": _deeplab_row(deeplab_v3.build, finds_instances=False),
    "deeplab_v3_plus": _deeplab_row(deeplab_v3_plus.build, finds_instances=False),
    "lr_aspp": _deeplab_row(lr_aspp.build, finds_instances=False),
    "spgnet": _deeplab_row(spgnet.build, finds_instances=False),
    "panoptic_deeplab": _deeplab_row(panoptic_deeplab.build, finds_instances=True),
    "deeper_lab": Architecture(
        _deeper_lab, _pixel_loss, targets=("semantic", "keypoints"), tasks=("panoptic", "semantic")
    ),
    "semantic_panoptic_deeplab": _deeplab_row(panoptic_deeplab.build, finds_instances=False),  # no instance branch
    "motion_deeplab": Architecture(
        _motion_deeplab,
        _pixel_loss,
        targets=("semantic", "centers", "motion"),
        tasks=("panoptic", "semantic", "video_panoptic"),
    ),
    "vip_deeplab": _vip_row(depth=True),
    "vip_deeplab_without_depth": _vip_row(depth=False),
}


def name_of(model_options: model_pb2.ModelOptions) -> str:
    """The architecture a config asks for, a key of ARCHITECTURES.

    Raises:
        ValueError: none is set, or it is one that is not built here yet.
    """
    message = model_options.WhichOneof("meta_architecture")
    if message is None:
        raise ValueError("model_options: no architecture is set; add for example `max_deeplab { ... }`")
    name = message
    backbone = model_options.backbone.name.lower()
    if message == "max_deeplab" and backbone.startswith("kmax_"):
        name = "cmt_deeplab" if model_options.max_deeplab.HasField("cmt") else "kmax_deeplab"
    elif message == "panoptic_deeplab" and not model_options.panoptic_deeplab.instance.enable:
        name = "semantic_panoptic_deeplab"
    elif message == "vip_deeplab" and not model_options.vip_deeplab.HasField("depth_head"):
        name = "vip_deeplab_without_depth"
    elif message == "max_deeplab" and backbone not in dual_path_backbones.VARIANTS:
        raise ValueError(
            f"model_options.max_deeplab takes the backbones {', '.join(dual_path_backbones.VARIANTS)} and those whose "
            f"name begins with kmax_ (kMaX-DeepLab), but got {model_options.backbone.name!r}."
        )
    if name not in ARCHITECTURES:
        raise ValueError(
            f"model_options.{message} with backbone {model_options.backbone.name!r} is not available yet. "
            f"Available: {', '.join(ARCHITECTURES)} (kmax_deeplab is max_deeplab with a backbone named kmax_*)."
        )
    return name


def of(config: config_pb2.ExperimentOptions) -> Architecture:
    """The architecture's row in the table."""
    return ARCHITECTURES[name_of(config.model_options)]


def dataset_of(config: config_pb2.ExperimentOptions) -> datasets.Dataset:
    """The descriptor of the data set whose classes the model predicts: that of training, else that of evaluation."""
    name = config.train_dataset_options.dataset or config.eval_dataset_options.dataset
    if not name:
        raise ValueError("train_dataset_options.dataset: expected the name of a data set, it is not set")
    return datasets.lookup(name, "data set")


def build_model(config: config_pb2.ExperimentOptions, *, postprocess: bool = True) -> keras.Model:
    """Builds the model of a resolved config, with random weights.

    Args:
        config: as `load_config` returns it.
        postprocess: whether `model(images, training=False)` also gives panoptic maps.

    Returns:
        A model that takes images [B, H, W, 3] with values 0..255.

    Raises:
        ValueError: the config asks for something unknown or not available.
    """
    architecture = of(config)
    with precision(config.trainer_options.precision):
        model = architecture.model(config, dataset_of(config), postprocess=postprocess)
        if config.trainer_options.precision == trainer_pb2.TrainerOptions.BFLOAT16:
            # Layers that are made when their parent is first called take the precision of that moment.
            model.build_variables()
        return model


def build_loss(config: config_pb2.ExperimentOptions) -> Callable[..., dict[str, tf.Tensor]]:
    """Builds the loss of a resolved config: (output, targets, seed=...) -> name -> [B]."""
    return of(config).loss(config, dataset_of(config))


def build_backbone(
    name: str, *, batchnorm_momentum: float = 0.99, batchnorm_epsilon: float = 1e-3, **options: Any
) -> keras.Model:
    """Builds a backbone by name: images [B, H, W, 3], already in [-1, 1], -> Pyramid.

    Args:
        name: a key of `deeplab2_kmax.backbones.BACKBONES`, in any case.
        batchnorm_momentum: of the moving averages.
        batchnorm_epsilon: added to the variance.
        **options: fields of BackboneOptions, by name.

    Raises:
        ValueError: an unknown name or option, or a value the backbone does not have.
    """
    fields = model_pb2.ModelOptions.BackboneOptions.DESCRIPTOR.fields_by_name
    for option in options:
        registry.lookup(fields, option, "backbone option")
    return _backbone(
        model_pb2.ModelOptions.BackboneOptions(name=name, **options),
        norm=norms.batch_norm(batchnorm_momentum, batchnorm_epsilon, synchronized=_several_replicas()),
    )


def _backbone(options: model_pb2.ModelOptions.BackboneOptions, *, norm: norms.Norm, **sizes: Any) -> keras.Model:
    # Only what is set is passed on, so that a backbone can refuse an option it does not have.
    given = {field.name: value for field, value in options.ListFields()}
    name = given.pop("name", options.name).lower()
    for field in ("pretrained_weights", "pretrained_format"):
        given.pop(field, None)  # loaded where training starts, see checkpoints/pretrained.py
    build = registry.lookup(BACKBONES, name, "backbone")
    recursion = {part: given.pop(f"rfp_{part}", None) for part in ("steps", "channels", "shared")}
    if options.rfp_steps != 1:
        allowed = FIXED_OPTIONS[name]
        fixed_options.check(name, {"rfp_steps": options.rfp_steps} if "rfp_steps" in allowed else {}, allowed)
        recursion = {part: value for part, value in recursion.items() if value is not None}
        build = functools.partial(recursive.RecursivePyramid, build, **recursion, name=f"recursive_{name}")
    return build(norm=norm, **given, **sizes)


def _norm(solver: trainer_pb2.SolverOptions) -> norms.Norm:
    return norms.batch_norm(
        solver.batchnorm_momentum,
        solver.batchnorm_epsilon,
        synchronized=solver.use_sync_batchnorm and _several_replicas(),
    )


def _several_replicas() -> bool:
    # With one replica the plain layer gives the same numbers through a faster kernel.
    return tf.distribute.get_strategy().num_replicas_in_sync > 1


@contextlib.contextmanager
def precision(value: int) -> Iterator[None]:
    """Layers made inside compute with this TrainerOptions.Precision; their variables are float32 either way."""
    before = keras.mixed_precision.global_policy()
    bfloat16 = value == trainer_pb2.TrainerOptions.BFLOAT16
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
