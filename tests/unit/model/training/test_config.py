"""Recipes: overrides, and refusals that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.model.training.config import RECIPES, load_config
from osa.model.training.updates.optimizer import rate_share


def test_the_packaged_recipe_is_valid_and_can_be_overridden() -> None:
    config = load_config(
        RECIPES / "default.toml", ["optimizer.steps=7", "model.mixer=softmax", "bf16=false"]
    )
    assert config.optimizer.steps == 7
    assert config.model["mixer"] == "softmax"
    assert config.bf16 is False


def test_the_digest_covers_what_decides_the_weights_and_nothing_else() -> None:
    def digest(*overrides: str) -> str:
        return load_config(RECIPES / "default.toml", overrides).digest()

    assert digest() == digest("report.save_every=9", "distill.cache='elsewhere'")
    assert len({digest(), digest("seed=1"), digest("model.mixer=softmax")}) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.steps=0", "optimizer.steps: .*greater than or equal to 1"),
        ("optimizer.stepz=5", r"optimizer.stepz: unknown; did you mean optimizer\.steps\?"),
        ("optimizer.steps", "must be section.field=value"),
        ("seed.x=1", "seed is no section"),
        ("data.files=[]", "data.files: .*at least 1"),
        (
            "objective='distil'",
            "objective: .*'distill', 'contrastive', 'mlm' or 'classify'.*did you mean distill",
        ),
        ("objective='mlm'", "section distill does not go with objective 'mlm'"),
        ("start='runs/first'", "start brings its own model and tokenizer"),
        ("optimizer.ema=1", "optimizer.ema: .*less than 1"),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(RECIPES / "default.toml", [override])


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("steps =")
    with pytest.raises(ConfigError, match=r"x.toml is not TOML"):
        load_config(tmp_path / "x.toml")


def test_the_rate_warms_up_and_decays_to_its_final_share() -> None:
    config = load_config(
        RECIPES / "default.toml", ["optimizer.steps=100", "optimizer.warmup=10"]
    ).optimizer
    shares = [rate_share(step, config) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(config.final_share)
