"""Weights in and out: Hugging Face's own implementation is what ours is compared with."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medaudit.errors import DataError, UsageError
from medaudit.networks.vit import ViT, ViTShape
from medaudit.networks.vit_weights import Preprocessing, read_preprocessing, read_vit, write_huggingface

transformers = pytest.importorskip("transformers")

MANY = ViTShape(dim=48, depth=2, heads=3, patch=4, side=16, registers=4, offset=0.0, antialias=True)
SHAPES = {
    "registers": MANY,
    "no registers": replace(MANY, registers=0, antialias=False),
    "three channels": replace(MANY, channels=3, patch=8, side=32, heads=4),
    "swiglu": replace(MANY, ffn="swiglu", registers=1, mlp_ratio=2.0),
    "no layer scale": replace(MANY, layer_scale=None),
}


def net(shape: ViTShape, seed: int = 0) -> ViT:
    torch.manual_seed(seed)
    made = ViT(shape).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def how(shape: ViTShape) -> Preprocessing:
    return Preprocessing(shape.side, shape.channels, (0.2,) * shape.channels, (0.25,) * shape.channels)


def images(shape: ViTShape, side: int) -> torch.Tensor:
    return torch.randn(2, shape.channels, side, side, generator=torch.Generator().manual_seed(7))


def saved(path: Path, state: dict) -> Path:
    torch.save(state, path)
    return path


def differ(theirs, vit: ViT, x: torch.Tensor) -> float:
    with torch.no_grad():
        a, b = theirs(pixel_values=x).last_hidden_state, torch.cat([vit(x).cls[:, None], *vit(x)[1:]], 1)
    assert a.std() > 0.1
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_what_we_write_transformers_reads_and_computes_the_same(name, tmp_path):
    shape = SHAPES[name]
    vit = net(shape)
    write_huggingface(vit, tmp_path, how(shape))
    theirs, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for side in (shape.side, 2 * shape.side, shape.side // 2):
        assert differ(theirs.eval(), vit, images(shape, side)) < 1e-5
    back, about = read_vit(tmp_path)
    assert replace(back.shape, layer_scale=shape.layer_scale) == shape
    assert (about["format"], about["mask_token"]) == ("huggingface", True)
    assert read_preprocessing(tmp_path) == how(shape)
    with torch.no_grad():
        assert torch.allclose(back(images(shape, 16)).cls, vit(images(shape, 16)).cls, atol=1e-6)


@pytest.mark.parametrize("name", ["registers", "no registers", "swiglu"])
@pytest.mark.parametrize("safe", [True, False])
def test_what_transformers_writes_we_read_and_compute_the_same(name, safe, tmp_path):
    shape, registers = SHAPES[name], SHAPES[name].registers
    kind = ("Dinov2WithRegisters" if registers else "Dinov2") + "{}"
    torch.manual_seed(1)
    config = getattr(transformers, kind.format("Config"))(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=4, num_channels=1,
        mlp_ratio=int(shape.mlp_ratio), use_swiglu_ffn=shape.ffn == "swiglu",
        **({"num_register_tokens": registers} if registers else {}),
    )  # fmt: skip
    theirs = getattr(transformers, kind.format("Model"))(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    if not safe:
        from safetensors.torch import load_file

        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    vit, _ = read_vit(tmp_path)
    for side in (16, 24, 8):
        assert differ(theirs, vit, images(shape, side)) < 1e-5


def test_dinov2s_offset_differs_from_transformers_off_the_native_size_only(tmp_path):
    vit = net(replace(MANY, offset=0.1, antialias=False))
    write_huggingface(vit, tmp_path, how(vit.shape))
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert differ(theirs, vit, images(MANY, 16)) < 1e-5
    assert differ(theirs, vit, images(MANY, 8)) > 1e-4
    assert read_vit(tmp_path)[0].shape == vit.shape


def test_transformers_prepares_an_image_as_the_record_says(tmp_path):
    write_huggingface(net(MANY), tmp_path, how(MANY))
    processor = transformers.BitImageProcessorPil.from_pretrained(tmp_path)
    grey = torch.randint(0, 256, (1, 16, 16), dtype=torch.uint8)
    made = processor(grey.numpy(), input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(made[0], (grey / 255 - 0.2) / 0.25, atol=1e-5, rtol=0)


def chunked(state: dict, chunk: int) -> dict:
    return {
        ".".join(["blocks", str(int(parts[1]) // chunk), *parts[1:]]) if parts[0] == "blocks" else name: value
        for name, value in state.items()
        for parts in [name.split(".")]
    }


def under(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


def wrapped(state: dict) -> dict:
    return {
        name.replace("blocks.1.", "blocks.1._fsdp_wrapped_module.") if name.startswith("blocks") else name: value
        for name, value in state.items()
    }


FORMS = {
    "official": lambda s: s,
    "chunked": lambda s: chunked(s, 1),
    "teacher": lambda s: {
        "teacher": {**under("backbone.", s), "dino_head.mlp.0.weight": torch.ones(2), "ibot_head.a": torch.ones(1)}
    },
    "flat, beside a student": lambda s: {
        **under("student.backbone.", {name: value + 1 for name, value in s.items()}),
        **under("teacher.backbone.", s),
    },
    "fsdp and ddp": lambda s: {
        "model": under("module.teacher.backbone._fsdp_wrapped_module.", wrapped(s)),
        "iteration": 7,
    },
    "half": lambda s: {name: value.half() for name, value in s.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_gives_the_same_net(form, tmp_path):
    vit = net(replace(MANY, offset=0.1, antialias=False))
    path = saved(tmp_path / "x.pth", FORMS[form](vit.state_dict()))
    found, about = read_vit(path, heads=3)
    assert found.shape == vit.shape
    assert about["format"] == ("state dict" if form in ("official", "chunked", "half") else "checkpoint")
    x = images(MANY, 16)
    with torch.no_grad():
        torch.testing.assert_close(found(x).cls, vit(x).cls, atol=1e-2 if form == "half" else 0, rtol=0)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("ratio", [4.0, 100 / 96, 2.5, 1.7])
def test_the_shape_is_seen_in_the_tensors(ffn, ratio, tmp_path):
    shape = ViTShape(96, 3, 3, patch=6, side=24, channels=2, registers=0, mlp_ratio=ratio, ffn=ffn, layer_scale=None)
    found = read_vit(saved(tmp_path / "x.pth", net(shape).state_dict()), heads=3)[0].shape
    assert replace(found, mlp_ratio=ratio) == shape


@pytest.mark.parametrize(
    ("registers", "channels", "patch", "offset", "antialias"),
    [(4, 3, 14, 0.0, True), (0, 3, 14, 0.1, False), (4, 1, 14, 0.1, False), (4, 3, 16, 0.1, False)],
)
def test_positions_are_interpolated_as_by_those_who_made_the_weights(
    registers, channels, patch, offset, antialias, tmp_path
):
    vit = net(ViTShape(64, 1, 1, patch=patch, side=2 * patch, channels=channels, registers=registers))
    shape = read_vit(saved(tmp_path / "x.pth", vit.state_dict()))[0].shape
    assert (shape.offset, shape.antialias, shape.heads) == (offset, antialias, 1)


def test_heads_are_dinov2s_for_its_widths(tmp_path):
    for dim, heads in ((384, 6), (128, 2)):
        vit = net(ViTShape(dim, 1, heads, patch=4, side=8, mlp_ratio=1.0))
        assert read_vit(saved(tmp_path / "x.pth", vit.state_dict()))[0].shape.heads == heads


def test_a_mask_token_may_be_missing_and_is_zero(tmp_path):
    state = net(MANY).state_dict()
    del state["mask_token"]
    vit, about = read_vit(saved(tmp_path / "x.pth", state), heads=3)
    assert not about["mask_token"]
    assert vit.mask_token.abs().max() == 0


def other_width(state: dict) -> None:
    state["blocks.1.attn.qkv.weight"] = torch.zeros(72, 24)


def no_square(state: dict) -> None:
    state["pos_embed"] = state["pos_embed"][:, :-1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_width, r"its 'blocks\.1\.attn\.qkv\.weight' is \(72, 24\), the net's \(144, 48\)"),
        (no_square, "its 'pos_embed' has 15 patches"),
        (lambda s: s.pop("blocks.0.norm1.weight"), r"it has no 'blocks\.0\.norm1\.weight'"),
        (lambda s: s.pop("cls_token"), "it has no 'cls_token'"),
        (lambda s: s.pop("blocks.1.ls1.gamma"), r"it has no 'blocks\.1\.ls1\.gamma'"),
        (lambda s: s.update({"head.weight": torch.ones(2)}), r"its 'head\.weight' is no part"),
        (lambda s: s.update({"register_tokens": torch.ones(1, 4, 24)}), r"its 'register_tokens' is \(1, 4, 24\)"),
        (lambda s: s.update({"pos_embed": torch.ones(17, 48)}), "expected 3 dimensions"),
        (lambda s: [s.pop(name) for name in list(s) if name.startswith("blocks")], "it has no 'blocks"),
    ],
)
def test_what_differs_is_named_on_one_line(spoil, message, tmp_path):
    state = net(MANY).state_dict()
    spoil(state)
    with pytest.raises(DataError, match=message) as caught:
        read_vit(saved(tmp_path / "x.pth", state), heads=3)
    assert "x.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_runs_code_is_refused(tmp_path):
    saved(tmp_path / "x.pth", {"cls_token": Path("/")})
    with pytest.raises(DataError, match="cannot be read as weights"):
        read_vit(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "vit", "model_type is 'vit'"),
        ("num_hidden_layers", 3, "num_hidden_layers is 2 there, 3 here"),
        ("num_register_tokens", 0, "num_register_tokens is 4 there, 0 here"),
        ("layer_norm_eps", 1e-12, "layer_norm_eps"),
        ("num_attention_heads", 5, "5 heads"),
    ],
)
def test_a_config_of_another_net_is_refused(key, value, message, tmp_path):
    write_huggingface(net(MANY), tmp_path, how(MANY))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(DataError, match=message):
        read_vit(tmp_path)


def test_where_safetensors_is_not_installed_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UsageError, match="pip install safetensors"):
        write_huggingface(net(MANY), tmp_path, how(MANY))


def test_a_cut_safetensors_is_refused(tmp_path):
    write_huggingface(net(MANY), tmp_path, how(MANY))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        read_vit(tmp_path)
