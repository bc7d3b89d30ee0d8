import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fresh
from rmeeto import TokenMerge, create_model, flops, save_model
from rmeeto.config import ModelConfig
from rmeeto.cost import count
from rmeeto.cost.dynamic import dynamic_cost
from rmeeto.errors import CheckpointError, ConfigError, UnknownName
from rmeeto.models.dyvm import DynamicConfig, DynamicMamba, load_dynamic
from rmeeto.models.dyvm.decisions import arrange, best, straight_through
from rmeeto.models.dyvm.heads import TokenPredictor
from rmeeto.models.layers import add_residual
from rmeeto.models.vim.backbone import VisionMamba

TINY = ModelConfig(img_size=32, patch_size=8, stride=8, dim=16, depth=4, num_classes=5)
PLACES = ("middle", "first")


def images(batch=3):
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def dynamic(keep=0.7, directions=0.8, blocks=None, **changes) -> DynamicMamba:
    """With heads that have an opinion: about every second direction is open, and patches differ."""
    torch.manual_seed(0)
    model = DynamicMamba(
        VisionMamba(TINY.changed(**changes)), DynamicConfig(keep=keep, directions=directions, blocks=blocks)
    )
    for gates in model.gates:
        nn.init.normal_(gates.linear.weight)
        nn.init.zeros_(gates.linear.bias)
    return model.eval()


def as_in_eval(model):
    """Decisions of a training pass that are those of eval mode."""
    left = iter([model.schedule.tokens[int(block)] - 1 for block in model.predictors])

    def draw(log_odds):
        chosen = log_odds > 0 if log_odds.shape[1] == 2 else best(log_odds, next(left))
        return chosen.to(log_odds.dtype)

    return draw


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_training_sees_what_eval_sees(place, dtype, tolerance):
    model = dynamic(cls_place=place).to(dtype)
    with torch.no_grad():
        trace = model.trace(images().to(dtype))
        found = model.rehearse(images().to(dtype), as_in_eval(model))
    assert 0 < trace.directions.float().mean() < 1, "both open and closed directions are compared"
    assert torch.equal(found.directions.bool(), trace.directions)
    torch.testing.assert_close(found.logits, trace.logits, rtol=0, atol=tolerance)
    full = trace.final.unmerge(trace.final.x)
    there = found.token_mask.nonzero(as_tuple=True)
    assert len(there[0]) == 3 * (model.schedule.tokens[-1] - 1)
    torch.testing.assert_close(found.x[there], full[there], rtol=0, atol=tolerance * 10)


def test_clips_too():
    model = dynamic(img_size=16, frames=4, cls_place="first", halve=False).double()
    clips = torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.rehearse(clips, as_in_eval(model)).logits, model(clips), rtol=0, atol=1e-10)
    assert model.schedule.tokens == (17, 12, 9, 6)


def outstanding(scores, strictness):
    """Of one image: the patches whose score is above the mean of those that are there by so many deviations."""
    there = scores[scores.isfinite()]
    if len(there) < 2:
        return torch.zeros_like(scores)
    return (scores > there.mean() + strictness * there.std()).to(scores.dtype)


@pytest.mark.parametrize("place", PLACES)
def test_training_equals_each_image_alone_without_its_dropped_tokens(place):
    """Another number of patches stays in every image: all of them in the first, none in the last."""
    model, strictness = dynamic(directions=1, cls_place=place).double(), (-100, -0.5, 0.2, 100)

    def draw(scores):
        return torch.stack([outstanding(*pair) for pair in zip(scores, strictness, strict=True)])

    with torch.no_grad():
        found = model.rehearse(images(4).double(), draw)
        alone = [
            slowly(model, image[None], lambda scores, strict=strict: outstanding(scores, strict))
            for image, strict in zip(images(4).double(), strictness, strict=True)
        ]
    torch.testing.assert_close(found.logits, torch.cat([logits for logits, _ in alone]), rtol=0, atol=1e-10)
    assert found.keep.tolist() == [[count / 16 for count in counts] for _, counts in alone]
    assert found.keep[0].tolist() == [1, 1, 1]
    assert found.keep[3].tolist() == [0, 0, 0]
    assert 0 < found.keep[2, 2] < found.keep[1, 2] < 1


def slowly(model, image, keep):
    """The wrapped network on one image, token lists cut by hand: its logits, and the patches left at each stage."""
    tokens, counts = model.model.embed(image), []
    for number, block in enumerate(model.model.layers):
        if str(number) in model.predictors:
            cls = tokens.protected.item()
            stream = add_residual(tokens, nn.Identity())[0]
            patches = [place for place in range(tokens.length) if place != cls]
            weight = torch.ones(1, len(patches), dtype=stream.dtype)
            chosen = keep(model.predictors[str(number)](stream[patches][None], weight)[0])
            stay = [place for place, yes in zip(patches, chosen.tolist(), strict=True) if yes]
            counts.append(len(stay))
            middle = len(stay) // 2 if model.config.cls_place == "middle" else 0
            order = [*stay[:middle], cls, *stay[middle:]]
            residual = None if tokens.residual is None else tokens.residual[:, order]
            tokens = tokens.replace(x=tokens.x[:, order], residual=residual, protected=torch.tensor([[middle]]))
        tokens, _ = block(tokens)
    return model.model.classify(model.model.final_norm(tokens)), counts


@pytest.mark.parametrize("place", PLACES)
def test_a_closed_direction_is_as_if_its_output_were_zero(place):
    model = dynamic(keep=1, cls_place=place).double()
    wrapped = model.model
    with torch.no_grad():
        trace = model.trace(images().double())
        for number in range(3):
            tokens = wrapped.embed(images()[number][None].double())
            for block, wanted in zip(wrapped.layers, trace.directions[number].tolist(), strict=True):
                residual = add_residual(tokens, nn.Identity())
                u, gate = block.mixer.project(block.norm(residual))
                both = [block.mixer.direction(u, gate, side) for side in block.mixer.directions()]
                x = block.mixer.combine(sum(yes * y for yes, y in zip(wanted, both, strict=True)))
                tokens = tokens.replace(x=x, residual=residual)
            logits = wrapped.classify(wrapped.final_norm(tokens))
            torch.testing.assert_close(trace.logits[number][None], logits, rtol=0, atol=1e-12)


def test_scans_run_only_on_the_images_that_want_them(monkeypatch):
    model, ran = dynamic(), []
    mixer = type(model.model.layers[0].mixer)
    direction = mixer.direction

    def counting(self, u, gate, side, **rest):
        ran.append(len(u))
        return direction(self, u, gate, side, **rest)

    monkeypatch.setattr(mixer, "direction", counting)
    with torch.no_grad():
        trace = model.trace(images(8))
    assert sum(ran) == trace.directions.sum().item() < 8 * 4 * 2
    assert 0 not in ran


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("heads", ["none", "certain"])
def test_a_network_that_keeps_everything_is_the_wrapped_one(place, heads):
    model = dynamic(keep=1, directions=1 if heads == "none" else 0.5, cls_place=place)
    for gates in model.gates:
        nn.init.constant_(gates.linear.bias, 1e4)
    with torch.no_grad():
        whole = model.model(images())  # whose directions are added before the gate, not behind it
        torch.testing.assert_close(model(images()), whole)
        found = model.train()(images())
        torch.testing.assert_close(found.logits, whole)
    assert found.token_mask.sum() == 3 * 16
    assert len(model.gates) == (0 if heads == "none" else 4)


def test_eval_is_deterministic_and_keeps_the_same_number_everywhere():
    model = dynamic()
    with torch.no_grad():
        first, second = model.trace(images()), model.trace(images())
        assert torch.equal(first.logits, second.logits)
        assert torch.equal(first.logits, model(images()))
        model.train()
        assert not torch.equal(model(images()).logits, model(images()).logits), "training draws"
    assert tuple(tokens.length for tokens in first.blocks) == model.schedule.tokens == (17, 12, 9, 6)
    assert [tokens.cls_index.tolist() for tokens in first.blocks] == [[8] * 3, [5] * 3, [4] * 3, [2] * 3]
    group = first.final.group()
    assert (group >= 0).sum(1).tolist() == [6, 6, 6]
    survivors = [row[row >= 0].tolist() for row in group]
    for row in survivors:  # patches keep their order; the class token (original place 8) stands third
        assert sorted(row) == list(range(6))
        patches = [place for place in row if place != 2]
        assert patches == sorted(patches)
    assert group[:, 8].tolist() == [2, 2, 2]


def test_gradients_reach_every_head_and_every_weight():
    model = dynamic().train()
    for gates in model.gates:  # a gate that never opens gets no gradient
        nn.init.zeros_(gates.linear.weight)
    found = model(images(8))
    (found.logits.square().sum() + found.keep.sum() + found.directions.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_answer_alone_teaches_predictors_and_gates():
    model = dynamic().train()
    model(images(8)).logits.square().sum().backward()
    for part in (*model.predictors.values(), *model.gates):
        for name, parameter in part.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


def test_straight_through_draws_hard_and_teaches_softly():
    log_odds = torch.tensor([0.0, 2.0, -2.0, -math.inf]).repeat(20_000, 1).requires_grad_()
    drawn = straight_through(log_odds)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    shares = drawn.mean(0)
    torch.testing.assert_close(shares, torch.sigmoid(log_odds[0]), rtol=0, atol=0.02)
    assert shares[3] == 0
    drawn.sum().backward()
    # E σ'(x + logistic noise), by numbers
    p = torch.linspace(1e-6, 1 - 1e-6, 200_001, dtype=torch.float64)
    for column, mean in enumerate((0.0, 2.0, -2.0)):
        y = torch.sigmoid(torch.logit(p) + mean)
        assert log_odds.grad[:, column].mean().item() == pytest.approx((y * (1 - y)).mean().item(), abs=0.005)
    assert log_odds.grad[:, 3].abs().max() == 0


@pytest.mark.parametrize("middle", [True, False])
def test_arrange_against_lists(middle):
    generator = torch.Generator().manual_seed(2)
    keep = torch.rand(40, 9, generator=generator) < torch.linspace(0, 1, 40)[:, None]
    cls = torch.randint(9, (40, 1), generator=generator)
    order, place = arrange(keep, cls, middle=middle)
    rows = zip(order.tolist(), keep.tolist(), cls.flatten().tolist(), place.flatten().tolist(), strict=True)
    for row, yes, cls_at, found in rows:
        stay = [i for i in range(9) if yes[i] and i != cls_at]
        go = [i for i in range(9) if not yes[i] and i != cls_at]
        half = len(stay) // 2 if middle else 0
        assert row == [*stay[:half], cls_at, *stay[half:], *go]
        assert found == half


def test_fresh_heads_start_at_their_aim():
    torch.manual_seed(0)
    model = DynamicMamba(VisionMamba(TINY), DynamicConfig(keep=0.8, directions=0.6)).train()
    with torch.no_grad():
        found = model(images(200))
    assert found.keep.mean(0).tolist() == pytest.approx([0.8, 0.64, 0.512], abs=0.08)
    assert found.directions.mean().item() == pytest.approx(0.6, abs=0.05)


def test_the_wrapped_weights_keep_their_names():
    model = dynamic()
    wrapped = {name.removeprefix("model.") for name in model.state_dict() if name.startswith("model.")}
    assert wrapped == set(VisionMamba(TINY).state_dict())
    rest = {name.split(".")[0] for name in model.state_dict()} - {"model"}
    assert rest == {"predictors", "gates"}
    assert model.no_weight_decay() == {f"model.{name}" for name in model.model.no_weight_decay()}
    assert model.no_weight_decay() < {name for name, _ in model.named_parameters()}
    other = dynamic(keep=0.7)
    nn.init.normal_(other.model.cls_token)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(images()), model(images()))


def test_saved_and_loaded(tmp_path):
    model = dynamic(keep=0.6, directions=0.5, blocks=(1, 3))
    folder = save_model(model, tmp_path / "dyvm", name="vim_toy")
    other = load_dynamic(folder)
    assert other.dynamic == model.dynamic
    with torch.no_grad():
        assert torch.equal(other(images()), model(images()))
    with pytest.raises(CheckpointError, match="load_dynamic"):
        create_model(str(folder))


def test_only_its_own_folders_are_loaded(tmp_path):
    save_model(VisionMamba(TINY), tmp_path / "vim")
    for source in (tmp_path / "vim", "vim_tiny"):
        with pytest.raises(CheckpointError, match="create_model"):
            load_dynamic(source)
    folder = save_model(dynamic(), tmp_path / "dyvm")
    (folder / "model.safetensors").write_bytes((tmp_path / "vim" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="predictors and gates are not there"):  # the weights say what they are
        load_dynamic(folder)
    save_file(VisionMamba(TINY).state_dict(), folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="knows none of these names"):
        load_dynamic(folder)


@pytest.mark.parametrize("low", ["autocast", "weights"])
def test_bfloat16_stays_close(low):
    """Of a network that keeps its patches: close scores may choose others."""
    model, dropping = dynamic(directions=0.8, keep=1), dynamic().train()
    for gates in model.gates:
        nn.init.constant_(gates.linear.bias, 1e4)
    with torch.no_grad():
        exact = model(images())
        if low == "weights":
            rough = model.bfloat16()(images().bfloat16())
            found = dropping.bfloat16()(images().bfloat16())
        else:
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(images())
                found = dropping(images())
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()
    assert found.logits.isfinite().all()
    assert found.keep.dtype == torch.float32


def test_predictor_reads_the_mean_of_what_is_there():
    torch.manual_seed(0)
    predictor = TokenPredictor(8, keep=0.5).double()
    stream = torch.randn(1, 5, 8, dtype=torch.float64)
    weight = torch.tensor([[1.0, 0, 1, 1, 0]])
    short = predictor(stream[:, [0, 2, 3]], torch.ones(1, 3))
    full = predictor(stream, weight)
    torch.testing.assert_close(full[:, [0, 2, 3]], short)
    assert full[:, [1, 4]].tolist() == [[-math.inf, -math.inf]]
    moved = predictor(stream.index_add(1, torch.tensor([2]), torch.ones(1, 1, 8).double().cumsum(-1)), weight)
    assert not torch.allclose(moved[:, 0], full[:, 0]), "the mean moved with a patch that is there"


COMPILED = """
import torch
from rmeeto.config import ModelConfig
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.dyvm import DynamicConfig, DynamicMamba

torch.manual_seed(0)
config = ModelConfig(img_size=32, patch_size=8, stride=8, dim=16, depth=2, num_classes=5)
model = DynamicMamba(VisionMamba(config), DynamicConfig(blocks=(0, 1))).train()
images = torch.randn(2, 3, 32, 32)

def loss(found):
    return found.logits.square().sum() + found.keep.sum() + found.directions.sum() + found.x.square().sum()

def gradients(run):
    model.zero_grad()
    torch.manual_seed(1)
    found = run(images)
    loss(found).backward()
    return found, [p.grad.clone() for p in model.parameters()]

compiled, ours = gradients(torch.compile(model, fullgraph=True, backend="aot_eager"))
plain, theirs = gradients(model)
assert compiled.keep_aim == plain.keep_aim
assert torch.equal(compiled.token_mask, plain.token_mask)
torch.testing.assert_close(compiled.logits, plain.logits, rtol=1e-4, atol=1e-5)
for one, other in zip(ours, theirs, strict=True):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
"""


def test_a_training_pass_compiles_to_one_graph():
    fresh.run(COMPILED, quiet=True)


# Sizes and costs


def test_stages_are_the_quarters_of_the_depth():
    assert DynamicConfig(keep=0.7).stages(24) == pytest.approx({6: 0.7, 12: 0.49, 18: 0.343})
    assert list(DynamicConfig().stages(32)) == [8, 16, 24]
    assert list(DynamicConfig(blocks=[1, 5]).stages(6)) == [1, 5]
    assert DynamicConfig(keep=1).stages(2) == {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"keep": 0}, "share"),
        ({"keep": 1.2}, "share"),
        ({"directions": 0.0}, "share"),
        ({"directions": math.nan}, "share"),
        ({"blocks": ()}, "at least one"),
        ({"blocks": (3, 2)}, "rising"),
        ({"blocks": (-1, 2)}, "rising"),
        ({"blocks": (1, 4)}, "0 to 3"),
        ({"blocks": None, "depth": 2}, "share one"),
    ],
)
def test_impossible_settings_are_named(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        dynamic(**settings)


def test_a_network_that_reduces_already_is_refused():
    with pytest.raises(ConfigError, match="merge:r=3"):
        DynamicMamba(VisionMamba(TINY, TokenMerge(r=3)), DynamicConfig())


@pytest.mark.parametrize("convention", ["exact", "paper"])
def test_cost_of_a_network_that_keeps_everything_is_that_of_the_wrapped_one(convention):
    model = dynamic(keep=1, directions=1)
    assert flops(model, convention=convention).total == count(TINY, convention=convention).total


def test_cost_is_that_of_the_schedule_with_fewer_scans_and_the_heads():
    cost = flops(dynamic(directions=0.5))
    assert cost == dynamic(directions=0.5).cost("exact")
    assert [block.tokens for block in cost.blocks] == [17, 12, 9, 6]
    whole = count(TINY)
    first, before = cost.blocks[0].terms, whole.blocks[0].terms
    for name in ("conv", "x_proj", "dt_proj", "scan"):
        assert first[name] == before[name] / 2
    for name in ("in_proj", "out_proj", "norm and residual", "sum of directions"):
        assert first[name] == before[name]
    assert first["direction gates"] == 2 * (64 * 2)
    # stream, layer norm, embedding, mean, three layers of scoring, activations, selection
    per_token = 16 + 7 * 16 + 2 * 16 * 16 + 2 * 8 + 2 * (16 * 8 + 8 * 4 + 4) + 5 * (16 + 8 + 4)
    assert cost.blocks[1].terms["predictor"] == pytest.approx(17 * (per_token + math.log2(17)))
    assert "predictor" not in first
    measured = dynamic(directions=0.5).cost(directions=1.0)
    assert measured.blocks[0].terms["scan"] == before["scan"]


def test_the_published_saving_of_vim_small():
    """DyVM's authors print 35.2 % fewer operations for Vim-S, counting one direction."""
    config = ModelConfig(dim=384)
    saved = (
        1 - dynamic_cost(config, DynamicConfig(), convention="paper").total / count(config, convention="paper").total
    )
    assert saved == pytest.approx(0.352, abs=0.02)


def test_unknown_convention_is_named():
    with pytest.raises(UnknownName, match="exakt"):
        flops(dynamic(), convention="exakt")
