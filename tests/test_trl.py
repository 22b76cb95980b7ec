"""A language model of transformers that TRL has trained, against the exact answer for its own reference.

The reference is a small model, made and fitted on the spot. The table of its logits after all prefixes makes it a
``Reference``, so that everything is exact. What a trainer follows was read in ``trl/trainer`` of TRL 1.16.0:

    RLOOTrainer                      k1 in the reward, of the whole text (``rloo_trainer.py`` 1669-1673), less the mean
                                     of the others of the group (1688)
    GRPOTrainer                      ratio × k3 in the loss (``grpo_trainer.py`` 3101, 3105 and 3150), since
                                     ``use_bias_correction_kl`` is True unless given (``grpo_config.py`` 972)
    … use_bias_correction_kl=False   k3 in the loss (3101 and 3150)

GRPO takes the mean of the group, the own text among them (2765 and 2785), and ``loss_type="dapo"`` divides by the
tokens of the batch (3168). Here it does not divide by the standard deviation: ``scale_rewards="none"``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, pad

import cai
from cai import language
from tests.test_conditional import all_texts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of options that will be renamed
WHY = "the extra [trl] is not installed"

VOCABULARY = language.characters(".abc")  # token 0, the full stop, begins a text and ends it
PAID = language.containing("bb", VOCABULARY)
T, ALPHA, GROUP = 5, 0.2, 16
OBJECTIVES = {
    "RLOO": cai.KLObjective("k1", "reward", "leave_one_out", group=GROUP),
    "GRPO": cai.KLObjective("ratio_k3", "loss", "group_mean", length="batch", group=GROUP),
    "GRPO, k3": cai.KLObjective("k3", "loss", "group_mean", length="batch", group=GROUP),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "RLOO": {},
    "GRPO": {"scale_rewards": "none"},
    "GRPO, k3": {"scale_rewards": "none", "use_bias_correction_kl": False},
}


def logits_of(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the logits after a full stop and a prefix."""
    return lambda prefixes: model(pad(prefixes, (1, 0))).logits[:, -1].detach()


def world_of(model: Any) -> language.LanguageWorld:
    """Return the world whose reference is the model: its log-probabilities after every prefix."""
    function, none = logits_of(model), torch.zeros(1, 0, dtype=torch.long)
    some = (torch.cartesian_prod(*[torch.arange(len(VOCABULARY))] * t).reshape(-1, t) for t in range(1, T))
    log_p = torch.cat([function(none), *map(function, some)]).double().log_softmax(-1)
    reference = language.NGram(VOCABULARY, T, log_p)
    return language.language_world(language.Remembering(reference, T - 1), PAID, horizon=T, end=".")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of 13,408 weights, fitted by maximum likelihood to a thousand texts of a bigram."""
    transformers = pytest.importorskip("transformers", reason=WHY)
    torch.manual_seed(0)
    shape = {"vocab_size": len(VOCABULARY), "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2}
    rest = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **rest, pad_token_id=0))
    bigram = language.fit_ngram("cab.bac.abbac.cabcab.ba.caac.bcab.acb.abcac.cabbac.", 2, vocabulary=VOCABULARY)
    world = language.language_world(bigram, PAID, horizon=T, end=".")
    texts = language.sample(world, None, 1000, torch.Generator().manual_seed(0))
    read, ends = pad(texts, (1, 0))[:, :-1], (texts == 0).long()
    written = ends.cumsum(-1) == ends  # what comes after the first end is no part of the text
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(model(read).logits[written], texts[written]).backward()
        optimizer.step()
    model.save_pretrained(folder := tmp_path_factory.mktemp("fitted"))
    return folder


def loaded(folder: Path) -> Any:
    """Return the saved model."""
    return pytest.importorskip("transformers", reason=WHY).AutoModelForCausalLM.from_pretrained(folder)


def tokenizer() -> Any:
    """Return a tokenizer of single characters."""
    tokenizers = pytest.importorskip("tokenizers", reason=WHY)
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(VOCABULARY.number, unk_token="."))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    own.decoder = tokenizers.decoders.Fuse()
    fast = pytest.importorskip("transformers", reason=WHY).PreTrainedTokenizerFast
    return fast(tokenizer_object=own, bos_token=".", eos_token=".", pad_token=".")


def contains(completions: list[str], **_: Any) -> list[float]:
    """Return the rewards of texts, as a user of TRL writes them."""
    return [float("bb" in text) for text in completions]


def trained(name: str, fitted: Path, folder: Path) -> Any:
    """Return the fitted model after three hundred steps of TRL, of 512 texts each, saved and loaded again."""
    trl, datasets = (pytest.importorskip(package, reason=WHY) for package in ("trl", "datasets"))
    how, kind = SETTINGS[name], name[:4]
    how = how | {"beta": ALPHA, "num_generations": GROUP, "max_completion_length": T, "learning_rate": 1e-2, "seed": 2}
    how |= {"max_steps": 300, "per_device_train_batch_size": 512, "gradient_accumulation_steps": 1}
    how |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "save_strategy": "no"}
    how |= {"report_to": "none", "logging_strategy": "no", "disable_tqdm": True}
    trainer = getattr(trl, f"{kind}Trainer")(
        loaded(fitted),
        contains,
        args=getattr(trl, f"{kind}Config")(str(folder), **how),
        train_dataset=datasets.Dataset.from_dict({"prompt": ["."] * 512}),
        processing_class=tokenizer(),
    )
    trainer.train()
    trainer.model.save_pretrained(folder)
    return loaded(folder)


def kl(world: language.LanguageWorld, one: Any, other: Any) -> float:
    """Return KL(one ‖ other) by the sum over all texts, nats."""
    log_p, log_q = (language.log_prob(world, policy, all_texts(world)) for policy in (one, other))
    return float((log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_model_that_trl_trained_is_nearest_to_its_own_fixed_point(name: str, fitted: Path, tmp_path: Path) -> None:
    before = loaded(fitted).double()  # in float32 logits depend on how many prefixes are asked at once
    world = world_of(before)
    exact = language.conditional(world, temperature=ALPHA)
    log_z, start = exact.log_evidence, cai.from_logits(logits_of(before), world)
    assert kl(world, start, None) == pytest.approx(0, abs=1e-9)  # the reference is the model itself
    fixed = {each: cai.kl_fixed_point(world, own, temperature=ALPHA) for each, own in OBJECTIVES.items()}
    assert kl(world, fixed["RLOO"], exact) == pytest.approx(0, abs=1e-9)

    after = cai.from_logits(logits_of(trained(name, fitted, tmp_path).double()), world)
    elbo = float(cai.evaluate(world, after, temperature=ALPHA).elbo)
    found, first = (language.distance(exact, policy) for policy in (after, start))
    assert elbo < log_z
    assert found.reverse.value == pytest.approx(log_z - elbo, abs=1e-9)
    assert found.reverse.value == pytest.approx(kl(world, after, exact), abs=1e-9)
    nats = {each: kl(world, after, policy) for each, policy in fixed.items()}
    print(f"{name}: ELBO {elbo:.3f} of {log_z:.3f} nats, {first.elbo.value:.3f} before; to the fixed points {nats}")
    assert found.reverse.value < first.reverse.value / 2
    assert all(nats[name] < other for each, other in nats.items() if each != name)
