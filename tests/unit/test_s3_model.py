"""What is read of botocore's own descriptions."""

from __future__ import annotations

from botocore.loaders import Loader

from waystation.origin.s3_model import CALLS, SERVICES, slim_loader


def test_of_s3_only_the_needed_calls_are_kept_and_they_are_whole() -> None:
    slim, full = (loader.load_service_model("s3", "service-2") for loader in (slim_loader(), Loader()))
    assert slim["operations"].keys() == CALLS
    assert len(slim["shapes"]) < len(full["shapes"]) / 2
    head = slim["operations"]["HeadObject"]
    assert slim["shapes"][head["input"]["shape"]].keys() == full["shapes"][head["input"]["shape"]].keys()
    assert all(shape["shape"] in slim["shapes"] for shape in head["errors"])


def test_of_the_endpoints_only_those_of_s3_and_of_credentials_are_kept() -> None:
    for partition in slim_loader().load_data("endpoints")["partitions"]:
        assert partition["services"].keys() <= SERVICES


def test_everything_else_is_as_botocore_has_it() -> None:
    for loader in (slim_loader(), Loader()):
        assert loader.load_service_model("sts", "service-2")["operations"]["AssumeRole"]["documentation"]
        assert loader.load_service_model("s3", "endpoint-rule-set-1")["parameters"]["Bucket"]
