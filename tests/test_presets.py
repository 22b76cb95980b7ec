"""Presets: settings that the learners know, used by ``cai learn`` where no other is given, and told."""

import json
from pathlib import Path

import gymnasium
import pytest

import cai
from cai.cli.known import learner_settings
from cai.learn.names import FORMS, is_soft
from cai.learn.presets import PRESETS, preset, presets_of
from tests.command import cai as command


@pytest.mark.parametrize(("algorithm", "env"), PRESETS)
def test_a_preset_has_settings_that_its_learner_knows(algorithm: str, env: str) -> None:
    assert algorithm in FORMS
    assert env in gymnasium.registry
    settings = preset(algorithm, env)
    assert ("temperature" in settings) == is_soft(algorithm)
    known = {argument.name for argument in learner_settings(algorithm.removeprefix("soft_"))}
    assert set(settings) <= {*known, "temperature", "steps"}


def test_a_preset_is_a_copy_and_another_name_is_refused_with_those_there_are() -> None:
    preset("reinforce", "CartPole-v1")["lr"] = 1.0
    assert cai.learn.preset("reinforce", "CartPole-v1")["lr"] != 1.0
    assert presets_of("Pong-v0") == {}
    with pytest.raises(cai.WorldError, match="did you mean soft_reinforce"):
        preset("soft_reinforc", "CartPole-v1")
    with pytest.raises(cai.WorldError, match="an environment that has presets: CartPole-v1, "):
        preset("reinforce", "Pong-v0")


def test_the_command_takes_the_preset_but_for_what_is_given(tmp_path: Path) -> None:
    words = ("learn", "CartPole-v1", "-a", "soft_q_learning", "--steps", "64", "--json")
    every = ("-t", "2"), ("-o", "lr=0.5", "-o", "batch=8"), ("--no-preset",)
    found = [json.loads(command(*words, *more, cwd=tmp_path).stdout) for more in every]
    known = preset("soft_q_learning", "CartPole-v1")
    taken = [set(one.get("preset", ())) for one in found]
    assert taken == [set(known) - {"steps", "temperature"}, set(known) - {"steps", "lr", "batch"}, set()]
    assert [one["temperature"] for one in found] == [2.0, known["temperature"], 1.0]


@pytest.mark.slow
def test_the_command_tells_its_preset_and_shows_them_all(tmp_path: Path) -> None:
    words = ("learn", "CartPole-v1", "-a", "soft_q_learning", "--steps", "64")
    told, plain = (
        command(*words, "-o", "lr=0.5", cwd=tmp_path).stdout,
        command(*words, "--no-preset", cwd=tmp_path).stdout,
    )
    assert "preset: " in told
    assert "given: lr=0.5, steps=64 (" in told
    assert "lr=0.004" not in told
    assert f"temperature={preset('soft_q_learning', 'CartPole-v1')['temperature']}" in told
    assert "preset" not in plain
    shown = command("show", "CartPole-v1", cwd=tmp_path).stdout
    assert all(name in shown for name in presets_of("CartPole-v1"))
