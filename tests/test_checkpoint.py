"""Files of weights: the same bytes for the same weights, and no damage goes unnoticed."""

import pytest
import torch

from alexnet.errors import WeightsError
from alexnet.network.checkpoint import load_tensors, save_tensors


@pytest.mark.slow
def test_equal_weights_are_equal_files_and_each_flipped_bit_is_noticed(tmp_path):
    path, found = tmp_path / "a.safetensors", set()
    for _ in range(20):  # safetensors itself writes several entries of metadata in random order
        save_tensors(path, {"a": torch.arange(6.0)}, {"kind": "one", "of": ["b"]})
        found.add(path.read_bytes())
    (sound,) = found
    tensors, about = load_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(6.0)) and about["of"] == ["b"]
    for place in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"cannot be read|version|written by"):
            load_tensors(path)
