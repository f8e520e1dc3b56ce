"""Reduce CustomResourceDefinitions to what validation needs, one JSON file for each kind.

    python deploy/schemas/reduce.py crds/*.yaml

Descriptions go, which are most of a definition; objects refuse fields that they do not name, so that a misspelt one is
found; and subtrees that occur more than once, such as a container's, are written once. The files beside this one came
from KServe 0.20's and the Prometheus operator 0.93's definitions. Run it again for newer versions.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

SHARED = 200  # characters from which a subtree that occurs again is written once
KEPT = ("type", "enum", "format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def main(paths: list[str]) -> None:
    for path in paths:
        for definition in yaml.safe_load_all(Path(path).read_text()):
            if definition and definition["kind"] == "CustomResourceDefinition":
                _write(definition["spec"])


def _write(spec: dict[str, Any]) -> None:
    kind, group = spec["names"]["kind"], spec["group"]
    for version in spec["versions"]:
        schema = reduced(version["schema"]["openAPIV3Schema"])
        schema["title"] = f"{group}/{version['name']} {kind}"
        target = Path(__file__).with_name(f"{kind}.json".lower())
        target.write_text(json.dumps(shared(schema), sort_keys=True, separators=(",", ":")) + "\n")
        print(f"{target.name}: {schema['title']}, {target.stat().st_size // 1000} kB")


def reduced(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of JSON Schema's with the same meaning, which refuses unknown fields where the API server drops them."""
    made = {key: schema[key] for key in KEPT if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "properties" in schema:
        made["properties"] = {name: reduced(part) for name, part in schema["properties"].items()}
        made["required"] = schema.get("required", [])
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = reduced(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = reduced(schema["items"])
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def shared(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with schemas that occur in it more than once in `$defs`."""
    counts = Counter(text for text in map(_text, _within(schema)) if len(text) >= SHARED)
    names = {text: f"s{number}" for number, text in enumerate(text for text, count in counts.items() if count > 1)}
    definitions: dict[str, Any] = {}

    def reference(part: dict[str, Any]) -> dict[str, Any]:
        name = names.get(_text(part))
        if name is None:
            return _mapped(part, reference)
        if name not in definitions:
            definitions[name] = _mapped(part, reference)
        return {"$ref": f"#/$defs/{name}"}

    made = _mapped(schema, reference)
    return made | {"$defs": definitions} if definitions else made


def _within(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas in a schema, at any depth."""
    parts = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for part in parts:
        if isinstance(part, dict):
            yield part
            yield from _within(part)


def _mapped(schema: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A schema with a change made to the schemas that it consists of."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: change(part) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = change(schema[key])
    return made


def _text(part: dict[str, Any]) -> str:
    return json.dumps(part, sort_keys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
