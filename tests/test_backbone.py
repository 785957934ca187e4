"""The backbone: how it learns from a teacher, and what starts from it."""

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
from makers import FROZEN, MADE_FOR, SMALL, TINY, change, lines, network_of, write_pictures
from torch import nn

import alexnet
from alexnet.errors import Interrupted, ModelError, RecipeError
from alexnet.fitting.distillation import GRID, Student, Teacher
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet
from alexnet.network.weights import weights_folder
from alexnet.runs.directory import RunDirectory

TAUGHT = change(TINY, teacher="made", teacher_size=20)


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "colours")


@pytest.fixture
def made():
    """Named weights of a network for 16 of 20 px."""
    return network_of(weights_folder() / "made.safetensors", SMALL, 5, MADE_FOR)


# -- learning from a teacher


def teacher_of(prepared, size=32):
    torch.manual_seed(0)
    network = AlexNet(SMALL, 1)
    return network, Teacher(network, MADE_FOR, prepared, size, torch.device("cpu"), torch.float32)


def test_a_teacher_sees_the_pictures_as_it_was_made_for_them():
    prepared = Preprocessing(32, 32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    network, teacher = teacher_of(prepared)
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def normalised(how):
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (how.mean, how.std))
        return (pixels - mean) / std

    maps = network.eval().features(normalised(MADE_FOR))
    expected = nn.BatchNorm2d(maps.shape[1], affine=False)(nn.AdaptiveAvgPool2d(GRID)(maps))
    torch.testing.assert_close(teacher(normalised(prepared)), expected, rtol=1e-3, atol=1e-3)


def test_a_student_learns_to_predict_its_teacher():
    _, teacher = teacher_of(MADE_FOR)
    student = Student(AlexNet(SMALL, 2), teacher, weight=2.0)
    x = torch.randn(32, 3, 32, 32)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    terms = []
    for _ in range(30):
        logits, term = student(x)
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        terms.append(float(term.detach()) / 2)
    assert terms[0] == pytest.approx(1.0, abs=0.01)  # it predicts nothing yet
    assert terms[-1] < 0.7
    assert logits.shape == (32, 2)
    assert student.eval()(x).shape == (32, 2)
    assert not any("teacher" in name for name in student.state_dict())


def test_a_run_with_a_teacher_keeps_the_network_alone(folder, made, tmp_path, capsys):
    run = alexnet.train(folder, TAUGHT, out=tmp_path / "run")
    assert "teacher made: the small network, at 20 px" in capsys.readouterr().err
    plain = alexnet.train(folder, TINY, out=tmp_path / "plain")
    ours, theirs = (RunDirectory(one).network().tensors for one in (run, plain))
    assert ours.keys() == theirs.keys()
    name = "features.0.weight"
    assert not torch.equal(ours[name], theirs[name])
    averaged = alexnet.train(folder, change(TAUGHT, average=0.5), out=tmp_path / "averaged")
    assert RunDirectory(averaged).network().tensors.keys() == ours.keys()


@pytest.mark.parametrize("stop_at", [2, 4])
def test_resuming_with_a_teacher_gives_the_same_bits(stop_at, folder, made, tmp_path, monkeypatch):
    whole = alexnet.train(folder, TAUGHT, out=tmp_path / "whole")
    original, steps = torch.optim.SGD.step, []

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(Interrupted):
        alexnet.train(folder, TAUGHT, out=tmp_path / "broken")
    broken = alexnet.train(folder, TAUGHT, out=tmp_path / "broken", resume=True)
    ours, theirs = (RunDirectory(one).network().tensors for one in (whole, broken))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_teacher_that_nobody_could_learn_from(folder, made, tmp_path):
    with pytest.raises(RecipeError, match="teacher is made, but the convolutions"):
        change(FROZEN, teacher="made")
    with pytest.raises(ModelError, match="too small for the small network"):
        alexnet.train(folder, change(TAUGHT, teacher_size=4), out=tmp_path / "run")
    with pytest.raises(alexnet.AlexNetError, match="there are no weights 'mad'"):
        alexnet.train(folder, change(TAUGHT, teacher="mad"), out=tmp_path / "run")
