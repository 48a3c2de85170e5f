from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelOptions(_message.Message):
    __slots__ = ("backbone", "decoder", "initial_checkpoint", "restore_semantic_last_layer_from_initial_checkpoint", "restore_instance_last_layer_from_initial_checkpoint", "skip_from_initial_checkpoint", "allow_partial_backbone", "deeplab_v3", "deeplab_v3_plus", "panoptic_deeplab", "motion_deeplab", "max_deeplab", "vip_deeplab", "deeper_lab", "lr_aspp", "spgnet")
    class BackboneOptions(_message.Message):
        __slots__ = ("name", "output_stride", "pretrained_weights", "use_squeeze_and_excite", "drop_path_keep_prob", "drop_path_schedule", "stem_width_multiplier", "backbone_width_multiplier", "backbone_layer_multiplier", "use_sac_beyond_stride", "squeeze_and_excite_gate", "reduce_last_block_filters", "window_size", "global_attention_at_end_of_moat_stage", "recompute_stages", "pretrained_format", "rfp_steps", "rfp_channels", "rfp_shared")
        NAME_FIELD_NUMBER: _ClassVar[int]
        OUTPUT_STRIDE_FIELD_NUMBER: _ClassVar[int]
        PRETRAINED_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
        USE_SQUEEZE_AND_EXCITE_FIELD_NUMBER: _ClassVar[int]
        DROP_PATH_KEEP_PROB_FIELD_NUMBER: _ClassVar[int]
        DROP_PATH_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
        STEM_WIDTH_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
        BACKBONE_WIDTH_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
        BACKBONE_LAYER_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
        USE_SAC_BEYOND_STRIDE_FIELD_NUMBER: _ClassVar[int]
        SQUEEZE_AND_EXCITE_GATE_FIELD_NUMBER: _ClassVar[int]
        REDUCE_LAST_BLOCK_FILTERS_FIELD_NUMBER: _ClassVar[int]
        WINDOW_SIZE_FIELD_NUMBER: _ClassVar[int]
        GLOBAL_ATTENTION_AT_END_OF_MOAT_STAGE_FIELD_NUMBER: _ClassVar[int]
        RECOMPUTE_STAGES_FIELD_NUMBER: _ClassVar[int]
        PRETRAINED_FORMAT_FIELD_NUMBER: _ClassVar[int]
        RFP_STEPS_FIELD_NUMBER: _ClassVar[int]
        RFP_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        RFP_SHARED_FIELD_NUMBER: _ClassVar[int]
        name: str
        output_stride: int
        pretrained_weights: str
        use_squeeze_and_excite: bool
        drop_path_keep_prob: float
        drop_path_schedule: str
        stem_width_multiplier: float
        backbone_width_multiplier: float
        backbone_layer_multiplier: float
        use_sac_beyond_stride: int
        squeeze_and_excite_gate: str
        reduce_last_block_filters: bool
        window_size: _containers.RepeatedScalarFieldContainer[int]
        global_attention_at_end_of_moat_stage: bool
        recompute_stages: _containers.RepeatedScalarFieldContainer[int]
        pretrained_format: str
        rfp_steps: int
        rfp_channels: int
        rfp_shared: bool
        def __init__(self, name: _Optional[str] = ..., output_stride: _Optional[int] = ..., pretrained_weights: _Optional[str] = ..., use_squeeze_and_excite: bool = ..., drop_path_keep_prob: _Optional[float] = ..., drop_path_schedule: _Optional[str] = ..., stem_width_multiplier: _Optional[float] = ..., backbone_width_multiplier: _Optional[float] = ..., backbone_layer_multiplier: _Optional[float] = ..., use_sac_beyond_stride: _Optional[int] = ..., squeeze_and_excite_gate: _Optional[str] = ..., reduce_last_block_filters: bool = ..., window_size: _Optional[_Iterable[int]] = ..., global_attention_at_end_of_moat_stage: bool = ..., recompute_stages: _Optional[_Iterable[int]] = ..., pretrained_format: _Optional[str] = ..., rfp_steps: _Optional[int] = ..., rfp_channels: _Optional[int] = ..., rfp_shared: bool = ...) -> None: ...
    class DeeplabV3Options(_message.Message):
        __slots__ = ("num_classes",)
        NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
        num_classes: int
        def __init__(self, num_classes: _Optional[int] = ...) -> None: ...
    class DeeplabV3PlusOptions(_message.Message):
        __slots__ = ("low_level", "num_classes")
        LOW_LEVEL_FIELD_NUMBER: _ClassVar[int]
        NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
        low_level: LowLevelOptions
        num_classes: int
        def __init__(self, low_level: _Optional[_Union[LowLevelOptions, _Mapping]] = ..., num_classes: _Optional[int] = ...) -> None: ...
    class PanopticDeeplabOptions(_message.Message):
        __slots__ = ("low_level", "instance", "semantic_head", "depth_head")
        LOW_LEVEL_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_HEAD_FIELD_NUMBER: _ClassVar[int]
        DEPTH_HEAD_FIELD_NUMBER: _ClassVar[int]
        low_level: _containers.RepeatedCompositeFieldContainer[LowLevelOptions]
        instance: InstanceOptions
        semantic_head: HeadOptions
        depth_head: HeadOptions
        def __init__(self, low_level: _Optional[_Iterable[_Union[LowLevelOptions, _Mapping]]] = ..., instance: _Optional[_Union[InstanceOptions, _Mapping]] = ..., semantic_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., depth_head: _Optional[_Union[HeadOptions, _Mapping]] = ...) -> None: ...
    class DeeperLabOptions(_message.Message):
        __slots__ = ("low_level", "semantic_head", "keypoint_head_channels")
        LOW_LEVEL_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_HEAD_FIELD_NUMBER: _ClassVar[int]
        KEYPOINT_HEAD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        low_level: LowLevelOptions
        semantic_head: HeadOptions
        keypoint_head_channels: int
        def __init__(self, low_level: _Optional[_Union[LowLevelOptions, _Mapping]] = ..., semantic_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., keypoint_head_channels: _Optional[int] = ...) -> None: ...
    class LRASPPOptions(_message.Message):
        __slots__ = ("num_classes", "feature_key", "low_level_feature_key", "channels", "pool_crop_size", "pool_stride")
        NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
        FEATURE_KEY_FIELD_NUMBER: _ClassVar[int]
        LOW_LEVEL_FEATURE_KEY_FIELD_NUMBER: _ClassVar[int]
        CHANNELS_FIELD_NUMBER: _ClassVar[int]
        POOL_CROP_SIZE_FIELD_NUMBER: _ClassVar[int]
        POOL_STRIDE_FIELD_NUMBER: _ClassVar[int]
        num_classes: int
        feature_key: str
        low_level_feature_key: str
        channels: int
        pool_crop_size: _containers.RepeatedScalarFieldContainer[int]
        pool_stride: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, num_classes: _Optional[int] = ..., feature_key: _Optional[str] = ..., low_level_feature_key: _Optional[str] = ..., channels: _Optional[int] = ..., pool_crop_size: _Optional[_Iterable[int]] = ..., pool_stride: _Optional[_Iterable[int]] = ...) -> None: ...
    class SPGNetOptions(_message.Message):
        __slots__ = ("num_classes", "num_stages", "decoder_channels")
        NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
        NUM_STAGES_FIELD_NUMBER: _ClassVar[int]
        DECODER_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        num_classes: int
        num_stages: int
        decoder_channels: int
        def __init__(self, num_classes: _Optional[int] = ..., num_stages: _Optional[int] = ..., decoder_channels: _Optional[int] = ...) -> None: ...
    class MotionDeepLabOptions(_message.Message):
        __slots__ = ("low_level", "instance", "semantic_head", "motion_head")
        LOW_LEVEL_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_HEAD_FIELD_NUMBER: _ClassVar[int]
        MOTION_HEAD_FIELD_NUMBER: _ClassVar[int]
        low_level: _containers.RepeatedCompositeFieldContainer[LowLevelOptions]
        instance: InstanceOptions
        semantic_head: HeadOptions
        motion_head: HeadOptions
        def __init__(self, low_level: _Optional[_Iterable[_Union[LowLevelOptions, _Mapping]]] = ..., instance: _Optional[_Union[InstanceOptions, _Mapping]] = ..., semantic_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., motion_head: _Optional[_Union[HeadOptions, _Mapping]] = ...) -> None: ...
    class MaXDeepLabOptions(_message.Message):
        __slots__ = ("pixel_space_head", "auxiliary_low_level", "auxiliary_semantic_head", "instance_discrimination_sample_k", "instance_discrimination_sample_temperature", "semantic_sample_k", "semantic_sample_temperature", "transformer_decoder_drop_path_keep_prob", "kmax", "cmt", "remax", "memory")
        PIXEL_SPACE_HEAD_FIELD_NUMBER: _ClassVar[int]
        AUXILIARY_LOW_LEVEL_FIELD_NUMBER: _ClassVar[int]
        AUXILIARY_SEMANTIC_HEAD_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_DISCRIMINATION_SAMPLE_K_FIELD_NUMBER: _ClassVar[int]
        INSTANCE_DISCRIMINATION_SAMPLE_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_SAMPLE_K_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_SAMPLE_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
        TRANSFORMER_DECODER_DROP_PATH_KEEP_PROB_FIELD_NUMBER: _ClassVar[int]
        KMAX_FIELD_NUMBER: _ClassVar[int]
        CMT_FIELD_NUMBER: _ClassVar[int]
        REMAX_FIELD_NUMBER: _ClassVar[int]
        MEMORY_FIELD_NUMBER: _ClassVar[int]
        pixel_space_head: HeadOptions
        auxiliary_low_level: _containers.RepeatedCompositeFieldContainer[LowLevelOptions]
        auxiliary_semantic_head: HeadOptions
        instance_discrimination_sample_k: int
        instance_discrimination_sample_temperature: float
        semantic_sample_k: int
        semantic_sample_temperature: float
        transformer_decoder_drop_path_keep_prob: float
        kmax: ModelOptions.KMaXOptions
        cmt: ModelOptions.CMTOptions
        remax: ModelOptions.ReMaXOptions
        memory: ModelOptions.MemoryOptions
        def __init__(self, pixel_space_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., auxiliary_low_level: _Optional[_Iterable[_Union[LowLevelOptions, _Mapping]]] = ..., auxiliary_semantic_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., instance_discrimination_sample_k: _Optional[int] = ..., instance_discrimination_sample_temperature: _Optional[float] = ..., semantic_sample_k: _Optional[int] = ..., semantic_sample_temperature: _Optional[float] = ..., transformer_decoder_drop_path_keep_prob: _Optional[float] = ..., kmax: _Optional[_Union[ModelOptions.KMaXOptions, _Mapping]] = ..., cmt: _Optional[_Union[ModelOptions.CMTOptions, _Mapping]] = ..., remax: _Optional[_Union[ModelOptions.ReMaXOptions, _Mapping]] = ..., memory: _Optional[_Union[ModelOptions.MemoryOptions, _Mapping]] = ...) -> None: ...
    class MemoryOptions(_message.Message):
        __slots__ = ("num_mask_slots", "channels", "transformer_filters", "feed_forward_channels", "num_heads")
        NUM_MASK_SLOTS_FIELD_NUMBER: _ClassVar[int]
        CHANNELS_FIELD_NUMBER: _ClassVar[int]
        TRANSFORMER_FILTERS_FIELD_NUMBER: _ClassVar[int]
        FEED_FORWARD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        NUM_HEADS_FIELD_NUMBER: _ClassVar[int]
        num_mask_slots: int
        channels: int
        transformer_filters: int
        feed_forward_channels: int
        num_heads: int
        def __init__(self, num_mask_slots: _Optional[int] = ..., channels: _Optional[int] = ..., transformer_filters: _Optional[int] = ..., feed_forward_channels: _Optional[int] = ..., num_heads: _Optional[int] = ...) -> None: ...
    class CMTOptions(_message.Message):
        __slots__ = ("logits_residual", "coordinates", "reference_masks", "reference_mask_loss_weight")
        class Residual(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            ADD: _ClassVar[ModelOptions.CMTOptions.Residual]
            GATED: _ClassVar[ModelOptions.CMTOptions.Residual]
            NONE: _ClassVar[ModelOptions.CMTOptions.Residual]
        ADD: ModelOptions.CMTOptions.Residual
        GATED: ModelOptions.CMTOptions.Residual
        NONE: ModelOptions.CMTOptions.Residual
        LOGITS_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
        COORDINATES_FIELD_NUMBER: _ClassVar[int]
        REFERENCE_MASKS_FIELD_NUMBER: _ClassVar[int]
        REFERENCE_MASK_LOSS_WEIGHT_FIELD_NUMBER: _ClassVar[int]
        logits_residual: ModelOptions.CMTOptions.Residual
        coordinates: bool
        reference_masks: bool
        reference_mask_loss_weight: float
        def __init__(self, logits_residual: _Optional[_Union[ModelOptions.CMTOptions.Residual, str]] = ..., coordinates: bool = ..., reference_masks: bool = ..., reference_mask_loss_weight: _Optional[float] = ...) -> None: ...
    class ReMaXOptions(_message.Message):
        __slots__ = ("remask", "remask_blocks", "reclass", "reclass_eta")
        REMASK_FIELD_NUMBER: _ClassVar[int]
        REMASK_BLOCKS_FIELD_NUMBER: _ClassVar[int]
        RECLASS_FIELD_NUMBER: _ClassVar[int]
        RECLASS_ETA_FIELD_NUMBER: _ClassVar[int]
        remask: bool
        remask_blocks: _containers.RepeatedScalarFieldContainer[int]
        reclass: bool
        reclass_eta: float
        def __init__(self, remask: bool = ..., remask_blocks: _Optional[_Iterable[int]] = ..., reclass: bool = ..., reclass_eta: _Optional[float] = ...) -> None: ...
    class KMaXOptions(_message.Message):
        __slots__ = ("num_mask_slots", "highest_stride", "auxiliary_semantic_decoder", "pixel_decoder_blocks", "pixel_decoder_width_multiplier", "pixel_decoder_axial_beyond_stride", "pixel_decoder_dilation", "transformer_decoder_blocks", "cluster_channels", "transformer_decoder_filters", "transformer_decoder_feed_forward_channels", "num_heads", "normalize_auxiliary_features", "mask_logits_initial_scale", "recompute_pixel_decoder", "recompute_transformer_decoder", "recompute_heads")
        NUM_MASK_SLOTS_FIELD_NUMBER: _ClassVar[int]
        HIGHEST_STRIDE_FIELD_NUMBER: _ClassVar[int]
        AUXILIARY_SEMANTIC_DECODER_FIELD_NUMBER: _ClassVar[int]
        PIXEL_DECODER_BLOCKS_FIELD_NUMBER: _ClassVar[int]
        PIXEL_DECODER_WIDTH_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
        PIXEL_DECODER_AXIAL_BEYOND_STRIDE_FIELD_NUMBER: _ClassVar[int]
        PIXEL_DECODER_DILATION_FIELD_NUMBER: _ClassVar[int]
        TRANSFORMER_DECODER_BLOCKS_FIELD_NUMBER: _ClassVar[int]
        CLUSTER_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        TRANSFORMER_DECODER_FILTERS_FIELD_NUMBER: _ClassVar[int]
        TRANSFORMER_DECODER_FEED_FORWARD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
        NUM_HEADS_FIELD_NUMBER: _ClassVar[int]
        NORMALIZE_AUXILIARY_FEATURES_FIELD_NUMBER: _ClassVar[int]
        MASK_LOGITS_INITIAL_SCALE_FIELD_NUMBER: _ClassVar[int]
        RECOMPUTE_PIXEL_DECODER_FIELD_NUMBER: _ClassVar[int]
        RECOMPUTE_TRANSFORMER_DECODER_FIELD_NUMBER: _ClassVar[int]
        RECOMPUTE_HEADS_FIELD_NUMBER: _ClassVar[int]
        num_mask_slots: int
        highest_stride: int
        auxiliary_semantic_decoder: bool
        pixel_decoder_blocks: _containers.RepeatedScalarFieldContainer[int]
        pixel_decoder_width_multiplier: float
        pixel_decoder_axial_beyond_stride: int
        pixel_decoder_dilation: int
        transformer_decoder_blocks: _containers.RepeatedScalarFieldContainer[int]
        cluster_channels: int
        transformer_decoder_filters: int
        transformer_decoder_feed_forward_channels: int
        num_heads: int
        normalize_auxiliary_features: bool
        mask_logits_initial_scale: float
        recompute_pixel_decoder: bool
        recompute_transformer_decoder: bool
        recompute_heads: bool
        def __init__(self, num_mask_slots: _Optional[int] = ..., highest_stride: _Optional[int] = ..., auxiliary_semantic_decoder: bool = ..., pixel_decoder_blocks: _Optional[_Iterable[int]] = ..., pixel_decoder_width_multiplier: _Optional[float] = ..., pixel_decoder_axial_beyond_stride: _Optional[int] = ..., pixel_decoder_dilation: _Optional[int] = ..., transformer_decoder_blocks: _Optional[_Iterable[int]] = ..., cluster_channels: _Optional[int] = ..., transformer_decoder_filters: _Optional[int] = ..., transformer_decoder_feed_forward_channels: _Optional[int] = ..., num_heads: _Optional[int] = ..., normalize_auxiliary_features: bool = ..., mask_logits_initial_scale: _Optional[float] = ..., recompute_pixel_decoder: bool = ..., recompute_transformer_decoder: bool = ..., recompute_heads: bool = ...) -> None: ...
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RESTORE_SEMANTIC_LAST_LAYER_FROM_INITIAL_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RESTORE_INSTANCE_LAST_LAYER_FROM_INITIAL_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SKIP_FROM_INITIAL_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PARTIAL_BACKBONE_FIELD_NUMBER: _ClassVar[int]
    DEEPLAB_V3_FIELD_NUMBER: _ClassVar[int]
    DEEPLAB_V3_PLUS_FIELD_NUMBER: _ClassVar[int]
    PANOPTIC_DEEPLAB_FIELD_NUMBER: _ClassVar[int]
    MOTION_DEEPLAB_FIELD_NUMBER: _ClassVar[int]
    MAX_DEEPLAB_FIELD_NUMBER: _ClassVar[int]
    VIP_DEEPLAB_FIELD_NUMBER: _ClassVar[int]
    DEEPER_LAB_FIELD_NUMBER: _ClassVar[int]
    LR_ASPP_FIELD_NUMBER: _ClassVar[int]
    SPGNET_FIELD_NUMBER: _ClassVar[int]
    backbone: ModelOptions.BackboneOptions
    decoder: DecoderOptions
    initial_checkpoint: str
    restore_semantic_last_layer_from_initial_checkpoint: bool
    restore_instance_last_layer_from_initial_checkpoint: bool
    skip_from_initial_checkpoint: _containers.RepeatedScalarFieldContainer[str]
    allow_partial_backbone: bool
    deeplab_v3: ModelOptions.DeeplabV3Options
    deeplab_v3_plus: ModelOptions.DeeplabV3PlusOptions
    panoptic_deeplab: ModelOptions.PanopticDeeplabOptions
    motion_deeplab: ModelOptions.MotionDeepLabOptions
    max_deeplab: ModelOptions.MaXDeepLabOptions
    vip_deeplab: ModelOptions.PanopticDeeplabOptions
    deeper_lab: ModelOptions.DeeperLabOptions
    lr_aspp: ModelOptions.LRASPPOptions
    spgnet: ModelOptions.SPGNetOptions
    def __init__(self, backbone: _Optional[_Union[ModelOptions.BackboneOptions, _Mapping]] = ..., decoder: _Optional[_Union[DecoderOptions, _Mapping]] = ..., initial_checkpoint: _Optional[str] = ..., restore_semantic_last_layer_from_initial_checkpoint: bool = ..., restore_instance_last_layer_from_initial_checkpoint: bool = ..., skip_from_initial_checkpoint: _Optional[_Iterable[str]] = ..., allow_partial_backbone: bool = ..., deeplab_v3: _Optional[_Union[ModelOptions.DeeplabV3Options, _Mapping]] = ..., deeplab_v3_plus: _Optional[_Union[ModelOptions.DeeplabV3PlusOptions, _Mapping]] = ..., panoptic_deeplab: _Optional[_Union[ModelOptions.PanopticDeeplabOptions, _Mapping]] = ..., motion_deeplab: _Optional[_Union[ModelOptions.MotionDeepLabOptions, _Mapping]] = ..., max_deeplab: _Optional[_Union[ModelOptions.MaXDeepLabOptions, _Mapping]] = ..., vip_deeplab: _Optional[_Union[ModelOptions.PanopticDeeplabOptions, _Mapping]] = ..., deeper_lab: _Optional[_Union[ModelOptions.DeeperLabOptions, _Mapping]] = ..., lr_aspp: _Optional[_Union[ModelOptions.LRASPPOptions, _Mapping]] = ..., spgnet: _Optional[_Union[ModelOptions.SPGNetOptions, _Mapping]] = ...) -> None: ...

class DecoderOptions(_message.Message):
    __slots__ = ("feature_key", "decoder_channels", "aspp_channels", "atrous_rates", "decoder_conv_type", "aspp_use_only_1x1_proj_conv", "aspp_pool_size")
    FEATURE_KEY_FIELD_NUMBER: _ClassVar[int]
    DECODER_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ASPP_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ATROUS_RATES_FIELD_NUMBER: _ClassVar[int]
    DECODER_CONV_TYPE_FIELD_NUMBER: _ClassVar[int]
    ASPP_USE_ONLY_1X1_PROJ_CONV_FIELD_NUMBER: _ClassVar[int]
    ASPP_POOL_SIZE_FIELD_NUMBER: _ClassVar[int]
    feature_key: str
    decoder_channels: int
    aspp_channels: int
    atrous_rates: _containers.RepeatedScalarFieldContainer[int]
    decoder_conv_type: str
    aspp_use_only_1x1_proj_conv: bool
    aspp_pool_size: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, feature_key: _Optional[str] = ..., decoder_channels: _Optional[int] = ..., aspp_channels: _Optional[int] = ..., atrous_rates: _Optional[_Iterable[int]] = ..., decoder_conv_type: _Optional[str] = ..., aspp_use_only_1x1_proj_conv: bool = ..., aspp_pool_size: _Optional[_Iterable[int]] = ...) -> None: ...

class LowLevelOptions(_message.Message):
    __slots__ = ("feature_key", "channels_project")
    FEATURE_KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_PROJECT_FIELD_NUMBER: _ClassVar[int]
    feature_key: str
    channels_project: int
    def __init__(self, feature_key: _Optional[str] = ..., channels_project: _Optional[int] = ...) -> None: ...

class HeadOptions(_message.Message):
    __slots__ = ("output_channels", "head_channels", "head_conv_type", "max_value_after_activation", "min_value_after_activation")
    OUTPUT_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HEAD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HEAD_CONV_TYPE_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_AFTER_ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_AFTER_ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    output_channels: int
    head_channels: int
    head_conv_type: str
    max_value_after_activation: float
    min_value_after_activation: float
    def __init__(self, output_channels: _Optional[int] = ..., head_channels: _Optional[int] = ..., head_conv_type: _Optional[str] = ..., max_value_after_activation: _Optional[float] = ..., min_value_after_activation: _Optional[float] = ...) -> None: ...

class InstanceOptions(_message.Message):
    __slots__ = ("enable", "low_level_override", "instance_decoder_override", "center_head", "regression_head", "next_regression_head")
    ENABLE_FIELD_NUMBER: _ClassVar[int]
    LOW_LEVEL_OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_DECODER_OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    CENTER_HEAD_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_HEAD_FIELD_NUMBER: _ClassVar[int]
    NEXT_REGRESSION_HEAD_FIELD_NUMBER: _ClassVar[int]
    enable: bool
    low_level_override: _containers.RepeatedCompositeFieldContainer[LowLevelOptions]
    instance_decoder_override: DecoderOptions
    center_head: HeadOptions
    regression_head: HeadOptions
    next_regression_head: HeadOptions
    def __init__(self, enable: bool = ..., low_level_override: _Optional[_Iterable[_Union[LowLevelOptions, _Mapping]]] = ..., instance_decoder_override: _Optional[_Union[DecoderOptions, _Mapping]] = ..., center_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., regression_head: _Optional[_Union[HeadOptions, _Mapping]] = ..., next_regression_head: _Optional[_Union[HeadOptions, _Mapping]] = ...) -> None: ...
