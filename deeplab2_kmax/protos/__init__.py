"""Generated from protos/*.proto by `make protos`; never edited by hand."""
