"""Plans: what is understood, what is refused and in which words, and what the hash depends on."""

import hashlib
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played import PLAN, workplace
from radscore.errors import ArgumentError
from radscore.rehearsal.plan import Plan
from radscore.rehearsal.settings import TrainingSettings


@pytest.fixture
def place(tmp_path):
    base = tmp_path / "model"
    base.mkdir()
    (base / "config.json").write_text('{"vocab_size": 400}')
    return workplace(tmp_path / "work", base)


def test_a_plan_is_understood(place):
    plan = Plan.read(place)
    assert plan.bases == {"base": place.parent / "base"}
    assert plan.data.settings.n_records == 64
    assert plan.data.settings.sampling.max_tokens == 32
    assert plan.training == TrainingSettings(
        template="plain", loss_on="all", learning_rate=4e-3, epochs=4.0, length=64
    )
    assert plan.marks["alice"].delta == 6.0
    assert plan.tests.curve == (100, 200)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[data]", "[dat]", "has no field 'dat'; did you mean data?"),
        ("n_records", "n_record", "[data] has no field 'n_record'; did you mean n_records?"),
        ("n_records = 64", "n_records = 4.5", "[data] n_records must be an integer, not 4.5"),
        ("n_records = 64", "n_records = 0", "[data] n_records must be from 1 to 2147483648, not 0"),
        ('prompts = "prompts.jsonl"', 'prompts = "no"', "[data] prompts: there is no "),
        ('prompts = "prompts.jsonl"\n', "", "[data] prompts is missing"),
        ("max_tokens = 32", 'kind = "essays"', "[data] kind must be continuations, answers or"),
        ('base = "base"', 'base = "gone"', "base: there is no "),
        ('base = "base"', 'base = "base"\ntokenizer = "t"', "tokenizer: there is no "),
        ("n_records", "prompt_words = 0\nn_records", "[data] prompt_words must be an integer from"),
        ("n_records", 'model = "gone"\nn_records', "[data] model: there is no "),
        ('base = "base"', "", "base is missing: the folder of a model"),
        ('scheme = "scheme.toml"', "", "[marks.alice] scheme is missing"),
        ("delta = 6.0", "delta = -1", "[marks.alice] delta must be a number from 0 to 100, not -1"),
        ("delta = 6.0", 'deltas = "x"', "[marks.alice] has no field 'deltas'; did you mean delta?"),
        ("epochs = 4", "epochs = true", "[training] epochs must be a number, not True"),
        ('"plain"', '"vicuna"', "[training] template must be one of"),
        ("learning_rate", "lerning_rate", "[training] has no field 'lerning_rate'; did you mean"),
        ("share = 1.0", "share = 5", "[grid] share must be numbers from 0 to 1 (5 % is 0.05), not"),
        ("share = 1.0", "shares = 0.1", "[grid] has no field 'shares'; did you mean share?"),
        ("share = 1.0", 'mark = ["bob"]', "[grid] mark: there is no 'bob'; there are alice"),
        ("share = 1.0", "supervision = 0", "[grid] supervision must be above 0, not 0"),
        ("share = 1.0", "seed = []", "[grid] seed must have a value at least, not []"),
        ("share = 1.0", "key = -1", "[grid] key must be numbers from 0 to 999, not -1"),
        ("share = 1.0", 'method = "qlora"', "[grid] method must be one of"),
        ("n_texts = 24", "n_texts = 0", "[tests] n_texts must be an integer from 1 to"),
        ("n_texts = 24", "open = 1", "[tests] open must be true or false, not 1"),
        ("[100, 200]", "[0]", "[tests] curve must be numbers of tokens, not [0]"),
        ("seed = 7", "seed = 7.5", "seed must be an integer from 0 to"),
        ("seed = 7", "seed = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(place, old, new, message):
    assert PLAN.count(old)
    place.write_text(PLAN.replace(old, new, 1))
    with pytest.raises(ArgumentError) as error:
        Plan.read(place)
    text = str(error.value)
    assert text.startswith(f"{place}: ")
    assert message in text
    assert "\n" not in text


def test_every_cell_stands_once_and_has_a_control(place):
    grid = "[[grid]]\nshare = [0.1, 1.0]\nseed = [0, 1]\n[[grid]]\nshare = 0.1\nmethod = "
    place.write_text(PLAN.replace("[grid]\nshare = 1.0", grid + '["full", "lora"]'))
    cells = Plan.read(place).cells()
    assert len(cells) == len(set(cells)) == 4 + 1 + 3
    for one in cells:
        controls = [
            other
            for other in cells
            if not other.share and other.training == one.training and other.seed == one.seed
        ]
        assert len(controls) == 1


def test_a_base_of_the_command_line_takes_the_place_of_the_plans(place, tmp_path):
    plan = Plan.read(place, base=tmp_path / "model")
    assert plan.bases == {"model": tmp_path / "model"}
    with pytest.raises(ArgumentError, match="there is no"):
        Plan.read(place, base=tmp_path / "none")


def test_the_hash_depends_on_what_is_played_and_not_on_where(place, tmp_path):
    first = Plan.read(place)
    again = tmp_path / "elsewhere"
    elsewhere = workplace(again, tmp_path / "model")
    assert first.digest == Plan.read(elsewhere).digest
    assert json.loads(json.dumps(first.to_dict())) == first.to_dict()
    elsewhere.write_text(PLAN.replace("seed = 7", "seed = 8"))
    assert first.digest != Plan.read(elsewhere).digest
    # comments and order are nothing
    values = tomllib.loads(PLAN)
    turned = dict(reversed(values.items()))
    assert Plan.of(turned, place.parent, str(place)).digest == first.digest


def test_keys_beyond_files_are_decoys_of_the_first(place):
    plan = Plan.read(place)
    schemes = [plan.scheme("alice", key) for key in range(4)]
    assert len({one.fingerprint for one in schemes}) == 4
    assert [one.fingerprint for one in schemes[0].decoys(3, seed=plan.derived("keys"))] == [
        one.fingerprint for one in schemes[1:]
    ]
    assert plan.scheme("alice", 2).fingerprint == schemes[2].fingerprint


@given(st.integers(0, 2**63 - 1), st.text(max_size=20))
def test_seeds_are_a_sha_256_of_the_plans_seed_and_a_name(seed, name):
    plan = Plan("x", {}, None, {}, seed=seed)
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="strict")).digest()
    assert plan.derived(name) == int.from_bytes(digest[:4], "big") // 2
