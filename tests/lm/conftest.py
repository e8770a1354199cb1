"""Small language models that several test files share."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sublearn.lm import corpus, model


def save_random_llama(path, *, tied=True, seed=0):
    """A small Llama with random weights; its tokenizer splits as Llama 3's, also before numbers."""
    torch.manual_seed(seed)
    tokenizer = corpus.build_tokenizer(space_token=True)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    llama = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, **shape)
    )
    with torch.no_grad():
        for weight in llama.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    llama.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def random_llama():
    return save_random_llama


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def lm(folder):
    return model.load(folder)
