from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DatasetOptions(_message.Message):
    __slots__ = ("dataset", "file_pattern", "batch_size", "crop_size", "min_resize_value", "max_resize_value", "resize_factor", "augmentations", "sigma", "keypoint_radius", "increase_small_instance_weights", "small_instance_threshold", "small_instance_weight", "use_two_frames", "decode_groundtruth_label", "thing_id_mask_annotations", "max_thing_id", "use_next_frame", "cameras_to_use", "mixture", "skip_corrupt", "skip_corrupt_budget", "data_service", "verify_checksums_gib")
    class AugmentationOptions(_message.Message):
        __slots__ = ("min_scale_factor", "max_scale_factor", "scale_factor_step_size", "autoaugment_policy_name", "panoptic_copy_paste", "color_jitter")
        MIN_SCALE_FACTOR_FIELD_NUMBER: _ClassVar[int]
        MAX_SCALE_FACTOR_FIELD_NUMBER: _ClassVar[int]
        SCALE_FACTOR_STEP_SIZE_FIELD_NUMBER: _ClassVar[int]
        AUTOAUGMENT_POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
        PANOPTIC_COPY_PASTE_FIELD_NUMBER: _ClassVar[int]
        COLOR_JITTER_FIELD_NUMBER: _ClassVar[int]
        min_scale_factor: float
        max_scale_factor: float
        scale_factor_step_size: float
        autoaugment_policy_name: str
        panoptic_copy_paste: DatasetOptions.PanopticCopyPasteOptions
        color_jitter: DatasetOptions.ColorJitterOptions
        def __init__(self, min_scale_factor: _Optional[float] = ..., max_scale_factor: _Optional[float] = ..., scale_factor_step_size: _Optional[float] = ..., autoaugment_policy_name: _Optional[str] = ..., panoptic_copy_paste: _Optional[_Union[DatasetOptions.PanopticCopyPasteOptions, _Mapping]] = ..., color_jitter: _Optional[_Union[DatasetOptions.ColorJitterOptions, _Mapping]] = ...) -> None: ...
    class ColorJitterOptions(_message.Message):
        __slots__ = ("probability", "brightness", "contrast", "saturation", "hue", "blur_sigma")
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        BRIGHTNESS_FIELD_NUMBER: _ClassVar[int]
        CONTRAST_FIELD_NUMBER: _ClassVar[int]
        SATURATION_FIELD_NUMBER: _ClassVar[int]
        HUE_FIELD_NUMBER: _ClassVar[int]
        BLUR_SIGMA_FIELD_NUMBER: _ClassVar[int]
        probability: float
        brightness: float
        contrast: float
        saturation: float
        hue: float
        blur_sigma: float
        def __init__(self, probability: _Optional[float] = ..., brightness: _Optional[float] = ..., contrast: _Optional[float] = ..., saturation: _Optional[float] = ..., hue: _Optional[float] = ..., blur_sigma: _Optional[float] = ...) -> None: ...
    class MixtureOptions(_message.Message):
        __slots__ = ("dataset", "file_pattern", "weight", "class_map")
        DATASET_FIELD_NUMBER: _ClassVar[int]
        FILE_PATTERN_FIELD_NUMBER: _ClassVar[int]
        WEIGHT_FIELD_NUMBER: _ClassVar[int]
        CLASS_MAP_FIELD_NUMBER: _ClassVar[int]
        dataset: str
        file_pattern: _containers.RepeatedScalarFieldContainer[str]
        weight: float
        class_map: _containers.RepeatedCompositeFieldContainer[DatasetOptions.ClassMapOptions]
        def __init__(self, dataset: _Optional[str] = ..., file_pattern: _Optional[_Iterable[str]] = ..., weight: _Optional[float] = ..., class_map: _Optional[_Iterable[_Union[DatasetOptions.ClassMapOptions, _Mapping]]] = ...) -> None: ...
    class ClassMapOptions(_message.Message):
        __slots__ = ("source_class", "target_class")
        SOURCE_CLASS_FIELD_NUMBER: _ClassVar[int]
        TARGET_CLASS_FIELD_NUMBER: _ClassVar[int]
        source_class: str
        target_class: str
        def __init__(self, source_class: _Optional[str] = ..., target_class: _Optional[str] = ...) -> None: ...
    class PanopticCopyPasteOptions(_message.Message):
        __slots__ = ("panoptic_copy_paste_scale", "panoptic_copy_paste_thing_option", "panoptic_copy_paste_stuff_option", "panoptic_copy_paste_void_option")
        PANOPTIC_COPY_PASTE_SCALE_FIELD_NUMBER: _ClassVar[int]
        PANOPTIC_COPY_PASTE_THING_OPTION_FIELD_NUMBER: _ClassVar[int]
        PANOPTIC_COPY_PASTE_STUFF_OPTION_FIELD_NUMBER: _ClassVar[int]
        PANOPTIC_COPY_PASTE_VOID_OPTION_FIELD_NUMBER: _ClassVar[int]
        panoptic_copy_paste_scale: float
        panoptic_copy_paste_thing_option: str
        panoptic_copy_paste_stuff_option: str
        panoptic_copy_paste_void_option: str
        def __init__(self, panoptic_copy_paste_scale: _Optional[float] = ..., panoptic_copy_paste_thing_option: _Optional[str] = ..., panoptic_copy_paste_stuff_option: _Optional[str] = ..., panoptic_copy_paste_void_option: _Optional[str] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FILE_PATTERN_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    CROP_SIZE_FIELD_NUMBER: _ClassVar[int]
    MIN_RESIZE_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_RESIZE_VALUE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATIONS_FIELD_NUMBER: _ClassVar[int]
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    KEYPOINT_RADIUS_FIELD_NUMBER: _ClassVar[int]
    INCREASE_SMALL_INSTANCE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SMALL_INSTANCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SMALL_INSTANCE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    USE_TWO_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DECODE_GROUNDTRUTH_LABEL_FIELD_NUMBER: _ClassVar[int]
    THING_ID_MASK_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_THING_ID_FIELD_NUMBER: _ClassVar[int]
    USE_NEXT_FRAME_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_TO_USE_FIELD_NUMBER: _ClassVar[int]
    MIXTURE_FIELD_NUMBER: _ClassVar[int]
    SKIP_CORRUPT_FIELD_NUMBER: _ClassVar[int]
    SKIP_CORRUPT_BUDGET_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICE_FIELD_NUMBER: _ClassVar[int]
    VERIFY_CHECKSUMS_GIB_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    file_pattern: _containers.RepeatedScalarFieldContainer[str]
    batch_size: int
    crop_size: _containers.RepeatedScalarFieldContainer[int]
    min_resize_value: _containers.RepeatedScalarFieldContainer[int]
    max_resize_value: _containers.RepeatedScalarFieldContainer[int]
    resize_factor: int
    augmentations: DatasetOptions.AugmentationOptions
    sigma: float
    keypoint_radius: float
    increase_small_instance_weights: bool
    small_instance_threshold: int
    small_instance_weight: float
    use_two_frames: bool
    decode_groundtruth_label: bool
    thing_id_mask_annotations: bool
    max_thing_id: int
    use_next_frame: bool
    cameras_to_use: _containers.RepeatedScalarFieldContainer[str]
    mixture: _containers.RepeatedCompositeFieldContainer[DatasetOptions.MixtureOptions]
    skip_corrupt: bool
    skip_corrupt_budget: float
    data_service: str
    verify_checksums_gib: float
    def __init__(self, dataset: _Optional[str] = ..., file_pattern: _Optional[_Iterable[str]] = ..., batch_size: _Optional[int] = ..., crop_size: _Optional[_Iterable[int]] = ..., min_resize_value: _Optional[_Iterable[int]] = ..., max_resize_value: _Optional[_Iterable[int]] = ..., resize_factor: _Optional[int] = ..., augmentations: _Optional[_Union[DatasetOptions.AugmentationOptions, _Mapping]] = ..., sigma: _Optional[float] = ..., keypoint_radius: _Optional[float] = ..., increase_small_instance_weights: bool = ..., small_instance_threshold: _Optional[int] = ..., small_instance_weight: _Optional[float] = ..., use_two_frames: bool = ..., decode_groundtruth_label: bool = ..., thing_id_mask_annotations: bool = ..., max_thing_id: _Optional[int] = ..., use_next_frame: bool = ..., cameras_to_use: _Optional[_Iterable[str]] = ..., mixture: _Optional[_Iterable[_Union[DatasetOptions.MixtureOptions, _Mapping]]] = ..., skip_corrupt: bool = ..., skip_corrupt_budget: _Optional[float] = ..., data_service: _Optional[str] = ..., verify_checksums_gib: _Optional[float] = ...) -> None: ...
