"""Text Generation Inference's contract: what serve.py and the simulated server answer, and what our client asks."""

import json
from pathlib import Path
from typing import Any

import jsonschema

CONTRACT = json.loads(Path(__file__).with_name("tgi_openapi_subset.json").read_text())


def validate(message: Any, schema: str) -> None:
    """Raises if a request or an answer breaks TGI's contract."""
    jsonschema.validate(message, {"$ref": f"#/components/schemas/{schema}", **CONTRACT})
