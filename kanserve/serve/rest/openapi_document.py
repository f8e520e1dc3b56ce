"""The OpenAPI 3.1 document of the REST calls, served at /openapi.json."""

import json
from functools import cache
from typing import Any

from kanserve import __version__
from kanserve.artifact.naming_rules import NAME, VERSION
from kanserve.serve.methods import ROUTES, Rest
from kanserve.serve.rpc.formula_service import FUNCTIONS, TEXTS

_Json = dict[str, Any]


def _ref(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: _Json, **more: Any) -> _Json:
    return {"type": "array", "items": items, **more}


def _object(properties: _Json, required: tuple[str, ...] = (), **more: Any) -> _Json:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


_TEXT: _Json = {"type": "string"}
_FLAG: _Json = {"type": "boolean"}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_GIVEN: _Json = {"type": ["number", "string", "null"], "description": "A text is the name of a category."}
_NUMBER: _Json = {"type": ["number", "null"], "description": "null for NaN and infinities, which JSON lacks."}
_DATATYPE: _Json = {"type": "string", "enum": ["FP64", "FP32", "FP16", "BF16", "BYTES"]}
_PARAMETERS: _Json = {"type": "object", "additionalProperties": {"type": ["boolean", "integer", "number", "string"]}}
_NAMED: _Json = {"type": "string", "pattern": f"^{NAME}$"}
_NUMBERED: _Json = {"type": "string", "pattern": f"^{VERSION}$"}
_MODEL: _Json = {"name": "model", "in": "path", "required": True, "schema": _NAMED, "description": "The model's name."}
_VERSION: _Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": _NUMBERED,
    "description": "Its version.",
}

_SCHEMAS: _Json = {
    "Error": _object({"error": _TEXT}, ("error",)),
    "Live": _object({"live": _FLAG}, ("live",)),
    "Ready": _object({"name": _TEXT, "ready": _FLAG}, ("ready",)),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)}, ("name", "version")),
    "TensorMetadata": _object(
        {"name": _TEXT, "datatype": _DATATYPE, "shape": _array({"type": "integer"}, description="-1: any size.")},
        ("name", "datatype", "shape"),
    ),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _array(_TEXT),
            "platform": _TEXT,
            "inputs": _array(_ref("TensorMetadata")),
            "outputs": _array(_ref("TensorMetadata")),
            "properties": {"type": "object", "additionalProperties": _TEXT},
        },
        ("name", "versions", "platform", "inputs", "outputs"),
    ),
    "ModelConfig": _object(
        {"name": _TEXT, "platform": _TEXT, "backend": _TEXT, "max_batch_size": _COUNT},
        ("name",),
        description="As Triton's ModelConfig message.",
    ),
    "Statistics": _object(
        {"model_stats": _array({"type": "object", "description": "As Triton's ModelStatistics message."})},
        ("model_stats",),
    ),
    "InferRequest": _object(
        {
            "id": {**_TEXT, "description": "Comes back in the response."},
            "parameters": {**_PARAMETERS, "description": "binary_data_output: whether all outputs come in binary."},
            "inputs": _array(_ref("InferInput"), minItems=1),
            "outputs": _array(_ref("InferRequestedOutput"), description="Absent: all of them."),
        },
        ("inputs",),
    ),
    "InferInput": _object(
        {
            "name": _TEXT,
            "datatype": {**_DATATYPE, "description": "In JSON FP64 or FP32."},
            "shape": _array(_COUNT, minItems=2, maxItems=2, description="Rows, and inputs of the model."),
            "parameters": {**_PARAMETERS, "description": "binary_data_size: the bytes of this input in binary."},
            "data": {
                "description": "The numbers, row after row, flat or as rows; null for a missing value.",
                "oneOf": [_array(_GIVEN), _array(_array(_GIVEN), minItems=1)],
            },
        },
        ("name", "datatype", "shape"),
        anyOf=[
            {"required": ["data"], "properties": {"datatype": {"enum": ["FP64", "FP32"]}}},
            {"required": ["parameters"], "properties": {"parameters": {"required": ["binary_data_size"]}}},
        ],
    ),
    "InferRequestedOutput": _object(
        {
            "name": _TEXT,
            "parameters": {**_PARAMETERS, "description": "binary_data: whether this output comes in binary."},
        },
        ("name",),
    ),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _object(
                {
                    "outside_training_range": {**_COUNT, "description": "Rows outside the training range."},
                    "outside_rows": {**_TEXT, "description": "The first hundred of them, as 0,3,17."},
                }
            ),
            "outputs": _array(
                _object(
                    {
                        "name": _TEXT,
                        "datatype": _DATATYPE,
                        "shape": _array(_COUNT),
                        "parameters": _PARAMETERS,
                        "data": _array({"type": ["number", "null", "string"]}),
                    },
                    ("name", "datatype", "shape"),
                )
            ),
        },
        ("model_name", "model_version", "outputs"),
    ),
    "Formula": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "outputs": _array(
                _object(
                    {"name": _TEXT, "text": _TEXT, "latex": _TEXT, "python": _TEXT, "c": _TEXT, "closed_form": _FLAG},
                    ("name",),
                    description="As the message kanserve.v1.OutputFormula.",
                )
            ),
            "classes": _array(_TEXT),
            "functions": {"type": "object", "additionalProperties": _TEXT},
        },
        ("model_name", "model_version", "outputs"),
    ),
    "GradientRequest": _object(
        {
            "rows": _array(
                _array({"type": "number"}, minItems=1), minItems=1, description="Raw features, as many in each row."
            ),
            "hessian": {**_FLAG, "description": "Whether the second derivatives are wanted too."},
        },
        ("rows",),
    ),
    "ExplainRequest": _object(
        {
            "rows": _array(
                _array({"type": "number"}, minItems=1), minItems=1, description="Raw features, as many in each row."
            ),
        },
        ("rows",),
    ),
    "ExplainResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "inputs": _array(_object({"name": _TEXT}, ("name",), description="As the message kanserve.v1.Variable.")),
            "outputs": _array(_TEXT, description="What is explained: outputs, log-odds of a class, or scores."),
            "base": _array(_NUMBER, description="[output]: the mean prediction."),
            "contributions": _array(
                _array(_array(_NUMBER)),
                description="[row][output][input]: base and contributions add up to the prediction.",
            ),
            "standard_errors": _array(_array(_array(_NUMBER)), description="[row][output][input]: 0: exact."),
        },
        ("model_name", "model_version", "inputs", "outputs", "base", "contributions", "standard_errors"),
    ),
    "Drift": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "inputs": _array(
                _object(
                    {
                        "name": _TEXT,
                        "rows": _COUNT,
                        "psi": _NUMBER,
                        "psi_above_chance": _NUMBER,
                        "outside_share": _NUMBER,
                    },
                    ("name", "rows", "psi", "psi_above_chance", "outside_share"),
                    description="The population stability index, and the share outside the training range.",
                )
            ),
        },
        ("model_name", "model_version", "inputs"),
    ),
    "FeedbackRequest": _object(
        {
            "rows": _array(
                _array({"type": "number"}, minItems=1), minItems=1, description="Raw features, as many in each row."
            ),
            "measured": _array(
                _array({"type": "number"}, minItems=1), minItems=1, description="[row][output]: what was measured."
            ),
        },
        ("rows", "measured"),
    ),
    "FeedbackResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "coverage": _array(
                _object(
                    {"level": _NUMBER, "values": _COUNT, "covered": _COUNT},
                    ("level", "values", "covered"),
                    description="Of a prediction interval: the values compared with it, and those of them within it.",
                )
            ),
        },
        ("model_name", "model_version", "coverage"),
    ),
    "GradientResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "values": _array(_array(_NUMBER), description="[row][output]"),
            "jacobian": _array(
                _array(_array(_NUMBER)),
                description="[row][output][input]: the derivative of the output by the input.",
            ),
            "hessian": _array(
                _array(_array(_array(_NUMBER))),
                description="[row][output][input][input]: the second derivatives, if they were asked for.",
            ),
            "outside_rows": _array(_COUNT, description="Rows outside the training range."),
        },
        ("model_name", "model_version", "values", "jacobian"),
    ),
    "IndexRequest": _object({"ready": {**_FLAG, "description": "Only versions that take requests."}}),
    "Index": _array(
        _object(
            {
                "name": _TEXT,
                "version": _TEXT,
                "state": {"type": "string", "enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
                "reason": _TEXT,
            },
            ("name", "version", "state"),
        )
    ),
    "LoadRequest": _object({"parameters": {"type": "object", "maxProperties": 0, "description": "There are none."}}),
    "UnloadRequest": _object(
        {
            "parameters": {
                "type": "object",
                "additionalProperties": {
                    "type": ["boolean", "integer", "string"],
                    "minimum": -(2**63),
                    "maximum": 2**63 - 1,
                },
            }
        },
    ),
    "Nothing": {"type": "object"},
}

_PROBLEMS = {
    "400": "The request is not valid; the error says what to change.",
    "401": "The call needs a bearer token, or the token is not known.",
    "403": "The caller may not make this call, or not without TLS.",
    "404": "The model, version or path does not exist.",
    "409": "It cannot be done as things are, as with a formula that is too long.",
    "413": "The request, or its answer, would be larger than the server's limit.",
    "415": "The content type or encoding of the body is not supported.",
    "429": "The server or the model is at its limit. Try again later.",
    "500": "An error in the server, which its log has.",
    "503": "The server is stopping. Try again, or another server.",
    "504": "The caller has left.",
}


_FORMAT = "|".join((*TEXTS, *sorted(FUNCTIONS)))
_FORMATS: _Json = {
    "name": "formats",
    "in": "query",
    "schema": {"type": "string", "pattern": f"^(({_FORMAT})?(,({_FORMAT})?)*)$"},
    "description": f"Of {', '.join((*TEXTS, *sorted(FUNCTIONS)))}; several are separated by commas. Absent: "
    f"{', '.join(TEXTS)}.",
}
_QUERIES = {"formats": _FORMATS}
_BINARY = ("InferRequest", "InferResponse")  # may come with binary data
_SAYS = {
    "InferResponse": "The outputs; those in binary follow the JSON, whose length Inference-Header-Content-Length is.",
    "Metrics": "The metrics.",
}


def _content(schema: str) -> _Json:
    if schema == "Metrics":
        return {"text/plain": {"schema": _TEXT}}
    return {
        "application/json": {"schema": _ref(schema)},
        **({"application/octet-stream": {}} if schema in _BINARY else {}),
    }


def _item(path: str, rest: Rest) -> _Json:
    """The path item of a path, with its single operation."""
    tag = next((tag for tag in ("models", "repository") if path.startswith(f"/v2/{tag}")), "server")
    made: _Json = {"summary": rest.about, "tags": [tag]}
    if rest.body:
        made["requestBody"] = {"required": "required" in _SCHEMAS[rest.body], "content": _content(rest.body)}
    made["responses"] = {
        "200": {"description": _SAYS.get(rest.answer, "The answer."), "content": _content(rest.answer)},
        **{
            code: {"description": text, "content": _content("Error")}
            for code, text in _PROBLEMS.items()
            if (code in ("404", "503") if rest.aside else rest.body or code not in ("413", "415"))
        },
    }
    if rest.query:
        made["parameters"] = [_QUERIES[rest.query]]
    if rest.aside:  # it needs no rights
        made["security"] = []
    parameters = [parameter for parameter in (_MODEL, _VERSION) if f"{{{parameter['name']}}}" in path]
    return {rest.verb.lower(): made, **({"parameters": parameters} if parameters else {})}


def _place(path: str) -> tuple[bool, bool, int]:
    """The sort key of paths: the server, its models, their versions, the repository, pages."""
    return not path.startswith("/v2"), path.startswith("/v2/repository"), path.count("{")


@cache
def text() -> bytes:
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "kanserve",
                "version": __version__,
                "summary": "Kolmogorov-Arnold networks by the Open Inference Protocol, with formulas and derivatives.",
            },
            "paths": {path: _item(path, ROUTES[path][0]) for path in sorted(ROUTES, key=_place)},
            "components": {
                "schemas": _SCHEMAS,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"token": []}],
        }
    ).encode()
