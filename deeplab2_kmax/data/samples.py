"""One sample: a decoded record -> what the network sees and learns from, in training and in evaluation.

Steps and their order are DeepLab2's. Every random step takes its own seed, and everything a sample holds (image, other
frame, labels, depth, normals) goes through the same draws.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from deeplab2_kmax.data import augment, copy_paste, preprocess
from deeplab2_kmax.data.plan import Plan
from deeplab2_kmax.data.targets import centers, depth, keypoints, keys, masks, segments, semantic, video
from deeplab2_kmax.layers import instance_centers

Tensors = dict[str, tf.Tensor]  # by key: of a parsed record (records.parse_example) or of a sample (targets/keys.py)


def training_sample(read: Callable[[int], Tensors], seed: tf.Tensor, plan: Plan) -> Tensors:
    """A random crop with its targets.

    Args:
        read: reads a record: read(0) the position's own, read(1) the one to be pasted into it.
        seed: of all augmentation of this sample.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    record = read(0)
    crop = _augment(record, seeds[0], plan, scale=1.0, label_fill=plan.dataset.void_id)
    if plan.paste is not None:
        pasted = _augment(
            read(1), seeds[1], plan, scale=plan.paste_scale, label_fill=copy_paste.padding_id(plan.dataset)
        )
        crop["image"], crop["label"] = copy_paste.paste(
            crop["image"],
            crop["label"],
            pasted["image"],
            pasted["label"],
            dataset=plan.dataset,
            options=plan.paste,
            seed=seeds[2],
            source=record[keys.SAMPLE_ID],
        )
    sample = {keys.SAMPLE_ID: record[keys.SAMPLE_ID], **_images(crop, plan)}
    # Without copy-paste its seed is free for the error of the previous centres.
    sample.update(_targets(crop, plan, record[keys.SAMPLE_ID], noise=seeds[2]))
    if keys.PREVIOUS_CENTER in sample:
        heatmap = sample.pop(keys.PREVIOUS_CENTER)[..., tf.newaxis]
        sample[keys.IMAGE] = tf.concat([sample[keys.IMAGE], heatmap], axis=-1)
    return sample


def evaluation_sample(record: Tensors, plan: Plan) -> Tensors:
    """The whole image, resized and padded, with targets at that size and at the raw one."""
    size = _resized_size(record["image"], plan)
    image, maps = _stack(record, plan)
    resized = preprocess.resize_image(tf.cast(image, tf.float32), size)

    def pad(values: tf.Tensor, fill: float | int) -> tf.Tensor:
        return tf.ensure_shape(preprocess.pad(values, plan.crop, fill), [*plan.crop, values.shape[-1]])

    crop = {"image": pad(resized, preprocess.FILL)}
    for name, values in maps.items():
        crop[name] = pad(preprocess.resize_label(values, size), _fills(plan)[name])
    names = (keys.SAMPLE_ID, keys.IMAGE_NAME, keys.SEQUENCE_ID, keys.FRAME_ID)
    return {
        **_images(crop, plan),
        keys.RESIZED_IMAGE: resized[..., :3],
        keys.SIZE_RESIZED: size,
        keys.SIZE_RAW: tf.stack([record["height"], record["width"]]),
        **{key: record[key] for key in names if key in record},
        **(_targets(crop, plan, record[keys.SAMPLE_ID]) if plan.has_labels else {}),
        **(_raw(record, plan) if plan.has_labels else {}),
    }


def check_record(record: Tensors, plan: Plan) -> None:
    """Meets the errors that training or evaluation on this record would meet."""
    if plan.has_labels:
        image, maps = _stack(record, plan)
        _targets({"image": image, **maps}, plan, record[keys.SAMPLE_ID])


def _augment(record: Tensors, seed: tf.Tensor, plan: Plan, *, scale: float, label_fill: int) -> Tensors:
    """A random crop: image [H, W, 3 or 6] float32, label [H, W, 1 or 2], depth and normals as there are."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    image, maps = _stack(record, plan)
    resized = _resized_size(image, plan) if plan.resizes else tf.shape(image)[:2]
    low, high, step = plan.scales
    place = augment.draw_place([seeds[0], seeds[2], seeds[3]], resized, plan.crop, (low * scale, high * scale, step))
    image = tf.cast(image, tf.float32)
    if plan.resizes:
        image = preprocess.resize_image(image, resized)
    crop = {"image": augment.finish(_colors(image, place, seeds[1], plan), place, plan.crop, preprocess.FILL)}
    for name, values in maps.items():
        fill = label_fill if name == "label" else _fills(plan)[name]
        crop[name] = augment.take_nearest(values, place, plan.crop, fill)
    if "depth" in crop:
        crop["depth"] = depth.scale_depth(crop["depth"], place.factor)
    if "normals" in crop:
        normals = depth.scale_normals(crop["normals"], place.factor)
        crop["normals"] = tf.cond(place.mirrored, lambda: depth.flip_normals(normals), lambda: normals)
    return crop


def _colors(image: tf.Tensor, place: augment.Place, seed: tf.Tensor, plan: Plan) -> tf.Tensor:
    """The window of the scaled image with its colours changed, float32; every frame by the same draws.

    Colour operations run on the window and a margin alone, except for those that look at the whole image.
    """
    if plan.autoaugment is None:
        window, _ = augment.scale_window(image, place)
    else:
        drawn = plan.autoaugment.draw(seed)
        everything = tf.reduce_max(place.scaled)
        margin = tf.where(plan.autoaugment.needs_whole(drawn), everything, plan.autoaugment.MARGIN)
        window, begin = augment.scale_window(image, place, margin=margin)
        window = tf.cast(window, tf.uint8)
        frames = [
            plan.autoaugment.apply(frame, drawn, num_pixels=tf.reduce_prod(place.scaled)) for frame in _frames(window)
        ]
        window = frames[0] if len(frames) == 1 else tf.concat(frames, axis=-1)
        end = begin + place.size
        window = tf.cast(window[begin[0] : end[0], begin[1] : end[1]], tf.float32)
    if plan.color_jitter is not None:
        drawn = plan.color_jitter.draw(tf.random.experimental.stateless_fold_in(seed, 1))
        window = tf.concat([plan.color_jitter.apply(frame, drawn) for frame in _frames(window)], axis=-1)
    return window


def _frames(image: tf.Tensor) -> list[tf.Tensor]:
    """The RGB images of a stack along the channels."""
    return [image] if image.shape[-1] == 3 else tf.split(image, image.shape[-1] // 3, axis=-1)


def _stack(record: Tensors, plan: Plan) -> tuple[tf.Tensor, Tensors]:
    """The images of a record on the channels, and its maps: labels on the channels, depth, normals."""
    image, maps = record["image"], {}
    if plan.frame is not None:
        image = tf.concat([image, record[f"{plan.frame}_image"]], axis=-1)
    if plan.has_labels:
        maps["label"] = record["label"]
        if plan.frame is not None:
            maps["label"] = tf.concat([record["label"], record[f"{plan.frame}_label"]], axis=-1)
    if plan.reads_depth:
        maps["depth"] = record["depth"]
    if plan.reads_normals:
        maps["normals"] = record["normals"]
    return image, maps


def _fills(plan: Plan) -> dict[str, float | int]:
    """What maps are padded with."""
    return {"label": plan.dataset.void_id, "depth": plan.dataset.ignore_depth, "normals": 0.0}


def _images(crop: Tensors, plan: Plan) -> Tensors:
    images = {keys.IMAGE: crop["image"]}
    if plan.frame == "next":
        images[keys.NEXT_IMAGE] = crop["image"][..., 3:]
    return images


def _targets(crop: Tensors, plan: Plan, source: tf.Tensor, *, noise: tf.Tensor | None = None) -> Tensors:
    """What the losses need, and no more.

    Args:
        noise: seed of the error of previous centres; None: they are exact, and there is no heatmap of them.
    """
    asked, dataset = plan.targets, plan.dataset
    label = crop["label"][..., 0]
    found = segments.find(label, dataset, source)
    made = semantic.make(found, small_threshold=plan.small_threshold, small_weight=plan.small_weight)
    if "masks" in asked and "tracks" not in asked:
        made.update(masks.make(found, max_things=plan.max_things, source=source))
    if "centers" in asked:
        made.update(centers.make(found, centers.find(found), sigma=plan.sigma, dataset=dataset))
    if "keypoints" in asked:
        made.update(keypoints.make(found, centers.find(found), radius=plan.keypoint_radius, dataset=dataset))
    if plan.frame is not None:
        other_label = crop["label"][..., 1]
        other = segments.find(other_label, dataset, source)
        made[keys.OTHER_PANOPTIC] = other_label
        if "tracks" in asked:
            made.update(video.make_tracks(label, other_label, dataset, max_things=plan.max_things, source=source))
        if "motion" in asked:
            previous = centers.find(other)
            points, peaks = previous.points, previous.points
            if noise is not None:
                points, peaks = video.noisy(previous, tf.shape(label), seed=noise)
                made[keys.PREVIOUS_CENTER] = instance_centers.heatmap(
                    peaks, tf.shape(label), sigma=plan.sigma, static=label.shape
                )
            made.update(video.make_motion(found, previous, points))
        if "next_offsets" in asked:
            made.update(video.make_next(centers.find(found), other))
    if "depth" in asked:
        made[keys.DEPTH] = depth.metres(crop["depth"])
    if "normals" in asked:
        made[keys.NORMALS] = crop["normals"]
    return made


def _raw(record: Tensors, plan: Plan) -> Tensors:
    """What evaluation compares with, at the raw image's size."""
    raw = semantic.make_raw(segments.find(record["label"][..., 0], plan.dataset, record[keys.SAMPLE_ID]))
    if plan.frame == "next":
        raw[keys.NEXT_PANOPTIC_RAW] = record["next_label"][..., 0]
    if plan.reads_depth:
        raw[keys.DEPTH_RAW] = depth.metres(record["depth"])
    if plan.reads_normals:
        raw[keys.NORMALS_RAW] = record["normals"]
    if plan.reads_num_cameras:
        raw[keys.NUM_CAMERAS_RAW] = record["num_cameras"][..., 0]
    return raw


def _resized_size(image: tf.Tensor, plan: Plan) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(image)[:2])
    return preprocess.resized_size(
        height, width, min_size=plan.min_size, max_size=plan.max_size, factor=plan.resize_factor
    )
