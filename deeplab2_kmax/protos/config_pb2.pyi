from deeplab2_kmax.protos import dataset_pb2 as _dataset_pb2
from deeplab2_kmax.protos import evaluator_pb2 as _evaluator_pb2
from deeplab2_kmax.protos import model_pb2 as _model_pb2
from deeplab2_kmax.protos import trainer_pb2 as _trainer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union
from deeplab2_kmax.protos.dataset_pb2 import DatasetOptions as DatasetOptions
from deeplab2_kmax.protos.evaluator_pb2 import EvaluatorOptions as EvaluatorOptions
from deeplab2_kmax.protos.model_pb2 import ModelOptions as ModelOptions
from deeplab2_kmax.protos.model_pb2 import DecoderOptions as DecoderOptions
from deeplab2_kmax.protos.model_pb2 import LowLevelOptions as LowLevelOptions
from deeplab2_kmax.protos.model_pb2 import HeadOptions as HeadOptions
from deeplab2_kmax.protos.model_pb2 import InstanceOptions as InstanceOptions
from deeplab2_kmax.protos.trainer_pb2 import TrainerOptions as TrainerOptions
from deeplab2_kmax.protos.trainer_pb2 import SolverOptions as SolverOptions
from deeplab2_kmax.protos.trainer_pb2 import LossOptions as LossOptions

DESCRIPTOR: _descriptor.FileDescriptor

class ExperimentOptions(_message.Message):
    __slots__ = ("base", "experiment_name", "model_options", "trainer_options", "train_dataset_options", "evaluator_options", "eval_dataset_options")
    BASE_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TRAINER_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_DATASET_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVAL_DATASET_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    base: _containers.RepeatedScalarFieldContainer[str]
    experiment_name: str
    model_options: _model_pb2.ModelOptions
    trainer_options: _trainer_pb2.TrainerOptions
    train_dataset_options: _dataset_pb2.DatasetOptions
    evaluator_options: _evaluator_pb2.EvaluatorOptions
    eval_dataset_options: _dataset_pb2.DatasetOptions
    def __init__(self, base: _Optional[_Iterable[str]] = ..., experiment_name: _Optional[str] = ..., model_options: _Optional[_Union[_model_pb2.ModelOptions, _Mapping]] = ..., trainer_options: _Optional[_Union[_trainer_pb2.TrainerOptions, _Mapping]] = ..., train_dataset_options: _Optional[_Union[_dataset_pb2.DatasetOptions, _Mapping]] = ..., evaluator_options: _Optional[_Union[_evaluator_pb2.EvaluatorOptions, _Mapping]] = ..., eval_dataset_options: _Optional[_Union[_dataset_pb2.DatasetOptions, _Mapping]] = ...) -> None: ...
