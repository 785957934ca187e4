"""Every test has a cache of its own, so that none sees the user's or another's Stores."""

import pytest
import torch

# for tensors as small as these a second thread only waits, and on a busy machine it waits long
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
