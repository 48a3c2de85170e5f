"""Keys of a batch, each declared once. B batch, H W crop, h w raw image, T thing slots."""

# Every batch.
IMAGE = "image"  # [B, H, W, 3] float32, 0..255
SAMPLE_ID = "sample_id"  # [B] string, "file:record:image name"

# Made from the processed label.
SEMANTIC = "semantic_gt"  # [B, H, W] int32, class; crowd keeps its class
SEMANTIC_WEIGHT = "semantic_loss_weight"  # [B, H, W] float32, above 1 on small instances where asked for
IS_CROWD = "is_crowd_gt"  # [B, H, W] bool
PANOPTIC = "panoptic_gt"  # [B, H, W] int32, class * label_divisor + instance; crowd kept
THING_ID_MASK = "thing_id_mask_gt"  # [B, H, W] int32, index of the instance or -1
THING_ID_CLASS = "thing_id_class_gt"  # [B, T] float32, class of each index or -1

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
