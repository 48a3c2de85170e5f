"""Label files of predictions, for the scoring tools: one writer per format."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from deeplab2_kmax import registry
from deeplab2_kmax.data import datasets
from trainer import raw_formats
from trainer.raw_formats import Maps, RawFormat

FORMATS: dict[str, type[RawFormat]] = {
    "deeplab2": raw_formats.DeepLab2,
    "coco": raw_formats.CocoPanoptic,
    "cityscapes": raw_formats.Cityscapes,
    "step": raw_formats.Step,
    "dvps": raw_formats.Dvps,
}


class RawPredictions:
    """The files of all images of an evaluation; a context, whose end writes what lists the others."""

    def __init__(
        self,
        folder: pathlib.Path,
        dataset: datasets.Dataset,
        *,
        formats: Sequence[str] = (),
        panoptic_format: str = "two_channel_png",
        convert_ids: bool = True,
    ):
        """Makes the writers.

        Args:
            folder: where to write to.
            dataset: what the labels mean.
            formats: of FORMATS; none: deeplab2.
            panoptic_format: of raw_formats.ENCODINGS, for the format deeplab2.
            convert_ids: writes the data set's evaluation ids instead of the classes that were trained, where the format
                leaves the choice.

        Raises:
            ValueError: unknown format, or a data set without evaluation ids.
        """
        if convert_ids and not dataset.eval_ids:
            raise ValueError(
                f"Data set {dataset.name!r} has no evaluation ids: set evaluator_options.convert_raw_to_eval_ids to "
                "false."
            )
        options = raw_formats.Options(panoptic_format, convert_ids)
        self._writers = [
            registry.lookup(FORMATS, name, "raw_formats")(folder, dataset, options) for name in formats or ("deeplab2",)
        ]
        self._names: set[pathlib.Path] = set()

    def __enter__(self) -> RawPredictions:
        self._names = set()
        for writer in self._writers:
            writer.begin()
        return self

    def __exit__(self, error: object, *unused: object) -> None:
        if error is None:
            for writer in self._writers:
                writer.end()

    def write(self, image_name: str, maps: Maps, *, sequence: str = "") -> None:
        """Writes the files of one image; `sequence` is its subfolder for video.

        Raises:
            ValueError: a class or instance id that a format cannot hold, a map that it needs is missing, or names that
                cannot be those of files or are those of another image.
        """
        name = pathlib.Path(sequence) / pathlib.PurePath(image_name).stem
        if name.is_absolute() or ".." in name.parts or not pathlib.PurePath(image_name).stem:
            raise ValueError(f"Image {image_name!r} of sequence {sequence!r} cannot be the name of a file.")
        if name in self._names:
            raise ValueError(f"Two images are called {name.as_posix()!r}: their label files would be the same.")
        self._names.add(name)
        for writer in self._writers:
            missing = [key for key in writer.needs if key not in maps]
            if missing:
                raise ValueError(f"{type(writer).__name__} files need {missing[0]}, which the model does not predict.")
            writer.write(name, maps)
