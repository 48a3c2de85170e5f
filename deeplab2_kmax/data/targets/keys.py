"""Keys of a batch, each declared once. B batch, H W crop, h w raw image, T thing slots."""

# Every batch.
IMAGE = "image"  # [B, H, W, 3] float32, 0..255; then the RGB of the other frame; then its centres (motion, training)
SAMPLE_ID = "sample_id"  # [B] string, "file:record:image name"

# Made from the processed label.
SEMANTIC = "semantic_gt"  # [B, H, W] int32, class; crowd keeps its class
SEMANTIC_WEIGHT = "semantic_loss_weight"  # [B, H, W] float32, above 1 on small instances where asked for
IS_CROWD = "is_crowd_gt"  # [B, H, W] bool
PANOPTIC = "panoptic_gt"  # [B, H, W] int32, class * label_divisor + instance; crowd kept
THING_ID_MASK = "thing_id_mask_gt"  # [B, H, W] int32, index of the instance or -1
THING_ID_CLASS = "thing_id_class_gt"  # [B, T] float32, class of each index or -1
CENTER = "instance_center_gt"  # [B, H, W] float32, Gaussians of height 1 around the centres of instances
CENTER_WEIGHT = "center_loss_weight"  # [B, H, W] float32, 1 unless crowd or void
CENTER_OFFSET = "instance_regression_gt"  # [B, H, W, 2] float32, (y, x) of the own centre minus that of the pixel
CENTER_OFFSET_WEIGHT = "regression_loss_weight"  # [B, H, W] float32, 1 on things that are not crowd
KEYPOINTS = "keypoint_gt"  # [B, h, w, 5] float32, 1 in discs; at every fourth pixel, as all that follow
KEYPOINT_WEIGHT = "keypoint_loss_weight"  # [B, h, w] float32, 1 unless crowd or void
SHORT_OFFSET = "short_offset_gt"  # [B, h, w, 10] float32, (y, x) of the disc's keypoint minus that of the pixel
MIDDLE_OFFSET = "middle_offset_gt"  # [B, h, w, 16] float32, of the same instance's other keypoint
MIDDLE_OFFSET_WEIGHT = "middle_offset_loss_weight"  # [B, h, w, 8] float32, 1 in the discs that the offsets start from
LONG_OFFSET = "long_offset_gt"  # [B, h, w, 10] float32, of the own instance's keypoints
LONG_OFFSET_WEIGHT = "long_offset_loss_weight"  # [B, h, w] float32, 1 on instances
DEPTH = "depth_gt"  # [B, H, W, 1] float32, metres; 0 is no depth
NORMALS = "normals_gt"  # [B, H, W, 3] float32, unit vectors; (0, 0, 0) is no normal

# Two frames.
FRAME_OFFSET = "frame_offset_gt"  # [B, H, W, 2] float32, (y, x) of the own instance's previous centre minus the pixel's
FRAME_OFFSET_WEIGHT = "frame_regression_loss_weight"  # [B, H, W] float32, 1 where the offset is not (0, 0)
PREVIOUS_CENTER = "prev_center_heatmap"  # never in a batch: the last channel of the image in training with motion
NEXT_IMAGE = "next_image"  # [B, H, W, 3] float32
NEXT_OFFSET = "next_instance_regression_gt"  # [B, H, W, 2] float32, on the next frame's pixels: to the current centre
NEXT_OFFSET_WEIGHT = "next_regression_loss_weight"  # [B, H, W] float32, 1 where the offset is not (0, 0)
OTHER_PANOPTIC = "other_panoptic_gt"  # [B, H, W] int32, label of the previous or next frame
OTHER_THING_ID_MASK = "other_thing_id_mask_gt"  # [B, H, W] int32, with the indices of thing_id_mask_gt

# Evaluation only. With more than one image in a batch, [h, w] are padded to the largest: see size_raw.
IMAGE_NAME = "image_name"  # [B] string
SEQUENCE_ID = "sequence_id"  # [B] string, video
FRAME_ID = "frame_id"  # [B] string, video
SIZE_RAW = "size_raw"  # [B, 2] int32, height and width of the raw image
SIZE_RESIZED = "size_resized"  # [B, 2] int32, height and width of resized_image inside image
RESIZED_IMAGE = "resized_image"  # [B, h', w', 3] float32, after resizing and before padding
SEMANTIC_RAW = "semantic_raw"  # [B, h, w] int32
PANOPTIC_RAW = "panoptic_raw"  # [B, h, w] int32, crowd kept
IS_CROWD_RAW = "is_crowd_raw"  # [B, h, w] bool
NEXT_PANOPTIC_RAW = "next_panoptic_raw"  # [B, h, w] int32
DEPTH_RAW = "depth_raw"  # [B, h, w, 1] float32, metres
NUM_CAMERAS_RAW = "num_cameras_raw"  # [B, h, w] int32, how many cameras see the pixel, data sets with panoramas
NORMALS_RAW = "normals_raw"  # [B, h, w, 3] float32
