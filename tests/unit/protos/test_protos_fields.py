"""Which fields of the protocol our messages have."""

import pytest
import tritonclient.grpc  # noqa: F401  # brings the protocol's messages

from tests.support.peers.protos import OURS, triton_message

# What Triton's messages have and ours have not: what says nothing about a model of ours.
LEFT_OUT = {
    "ModelStatistics": {"memory_usage", "response_stats"},
    "ModelConfig": {
        *("runtime", "optimization", "instance_group", "default_model_filename", "cc_model_filenames", "metric_tags"),
        *("batch_input", "batch_output", "sequence_batching", "ensemble_scheduling", "model_warmup"),
        *("model_operations", "model_repository_agents", "response_cache", "model_metrics"),
    },
    "ModelInput": {
        *("format", "reshape", "is_shape_tensor", "allow_ragged_batch", "optional", "is_non_linear_format_io"),
    },
    "ModelOutput": {"reshape", "label_filename", "is_shape_tensor", "is_non_linear_format_io"},
    "ModelDynamicBatching": {
        *("preserve_ordering", "priority_levels", "default_priority_level"),
        *("default_queue_policy", "priority_queue_policy"),
    },
}


@pytest.mark.parametrize("name", OURS)
def test_every_field_of_the_protocol_is_there_but_for_those_that_are_left_out_on_purpose(name: str) -> None:
    missing = {field.name for field in triton_message(OURS[name]).fields} - {field.name for field in OURS[name].fields}
    assert missing == LEFT_OUT.get(name.removeprefix("kanserve.inference."), set())
