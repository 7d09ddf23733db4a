"""Text Generation Inference's contract: what serve.py and the simulated server answer, and what our client asks."""

import json
from pathlib import Path
from typing import Any

import jsonschema

CONTRACT = json.loads(Path(__file__).with_name("tgi_openapi_subset.json").read_text())


def validate(message: Any, schema: str) -> None:
    """Raises if a request or an answer breaks TGI's contract."""
    jsonschema.validate(message, {"$ref": f"#/components/schemas/{schema}", **as_json_schema(CONTRACT)})


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has a type null."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    return {"anyOf": [{"type": "null"}, node]} if node.pop("nullable", False) else node
