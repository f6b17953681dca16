"""The published service model, which botocore contains: checks of responses, and the constraints of inputs."""

import re
from dataclasses import dataclass

import botocore.session

from .wire import Epoch

SERVICE = botocore.session.get_session().get_service_model("servicediscovery")
OPERATIONS = list(SERVICE.operation_names)
YEAR_2020, YEAR_2100 = 1577836800, 4102444800
# AWS omits these members in responses, although the model marks them as required.
INCOMPLETE = ("DnsConfig", "SOA")


# -- responses --------------------------------------------------------------------------------------------------------

def check_output(operation, data, protocol):
    """Checks an output strictly: no unknown members, right types, no nulls, valid enum values, all required members."""
    shape = SERVICE.operation_model(operation).output_shape
    if shape is None:
        assert data == {}, f"{operation} has no output: {data!r}"
    else:
        _check(shape, data, operation, protocol)


def check_error(code, data, protocol):
    """Checks the body of an error: it has the modelled members and `__type`; `message` in lower case is tolerated."""
    extra = {name: value for name, value in data.items() if name not in ("__type", "message")}
    if code in SERVICE.shape_names and SERVICE.shape_for(code).metadata.get("exception"):
        _check(SERVICE.shape_for(code), extra, code, protocol)
    else:
        assert set(extra) <= {"Message"}, f"{code} with {extra}"


def modelled_status(code):
    return SERVICE.shape_for(code).metadata["error"]["httpStatusCode"]


def errors_of(operation):
    return {shape.name for shape in SERVICE.operation_model(operation).error_shapes}


def _check(shape, value, path, protocol):
    checks = {"structure": _check_structure, "list": _check_list, "map": _check_map, "timestamp": _check_timestamp}
    if shape.type_name in checks:
        checks[shape.type_name](shape, value, path, protocol)
        return
    if shape.type_name == "string":
        assert isinstance(value, str), f"{path}: {value!r} is no string"
        enum = shape.metadata.get("enum")
        assert not enum or value in enum, f"{path}: {value!r} is none of {enum}"
        assert len(value) <= shape.metadata.get("max", len(value)), f"{path}: {value!r} is longer than the model allows"
    elif shape.type_name in ("integer", "long"):
        assert type(value) is int, f"{path}: {value!r} is no integer"
        assert shape.type_name == "integer" or value <= 2**53 - 1, f"{path}: {value} does not fit a JavaScript number"
    else:
        raise AssertionError(f"{path}: a {shape.type_name} is not expected in this model")


def _check_structure(shape, value, path, protocol):
    assert isinstance(value, dict), f"{path}: {value!r} is no structure"
    unknown = set(value) - set(shape.members)
    assert not unknown, f"{path}: members that the model does not know: {unknown}"
    missing = set(shape.required_members) - set(value)
    assert not missing or shape.name in INCOMPLETE, f"{path}: required members are missing: {missing}"
    for name, member in value.items():
        _check(shape.members[name], member, f"{path}.{name}", protocol)


def _check_list(shape, value, path, protocol):
    assert isinstance(value, list), f"{path}: {value!r} is no list"
    for index, member in enumerate(value):
        _check(shape.member, member, f"{path}[{index}]", protocol)


def _check_map(shape, value, path, protocol):
    assert isinstance(value, dict), f"{path}: {value!r} is no map"
    for key, member in value.items():
        _check(shape.key, key, f"{path}.{key}", protocol)
        _check(shape.value, member, f"{path}.{key}", protocol)


def _check_timestamp(shape, value, path, protocol):
    if protocol == "json":
        assert type(value) in (int, float), f"{path}: timestamps are numbers in JSON, not {value!r}"
    else:
        assert isinstance(value, Epoch), f"{path}: timestamps have tag 1 in CBOR, not {value!r}"
    assert YEAR_2020 < value < YEAR_2100, f"{path}: {value} is not in epoch seconds"


# -- constraints of inputs --------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Violation:
    """A request that breaks one constraint: the parameters, the path of the member, and words of the expected message."""

    operation: str
    path: tuple
    kind: str
    params: dict
    expected: str

    def __str__(self):
        return f"{self.operation}-{'.'.join(map(str, self.path))}-{self.kind}"


def violations(operation, valid):
    """All ways to break exactly one published constraint of `valid`, a complete valid input of the operation."""
    shape = SERVICE.operation_model(operation).input_shape
    found = []
    _collect(operation, shape, valid, (), lambda value: value, found)
    return found


def _collect(operation, shape, value, path, rebuild, found):
    """Walks `value` along its shape. `rebuild(new)` returns the whole input with `new` instead of `value`."""
    for kind, bad, expected in _broken(shape, value):
        found.append(Violation(operation, path, kind, rebuild(bad), expected))
    if shape.type_name == "structure":
        untried = set(shape.members) - set(value)
        assert not untried, f"{operation}: the example input lacks {untried} at {path}"
        for name in shape.required_members:
            without = {key: member for key, member in value.items() if key != name}
            found.append(Violation(operation, (*path, name), "required", rebuild(without), "Member must not be null"))
        for name, member in value.items():
            _collect(operation, shape.members[name], member, (*path, name),
                     lambda new, name=name: rebuild({**value, name: new}), found)
    elif shape.type_name == "list":
        _collect(operation, shape.member, value[0], (*path, "*"), lambda new: rebuild([new, *value[1:]]), found)
    elif shape.type_name == "map":
        key, member = next(iter(value.items()))
        rest = {name: other for name, other in value.items() if name != key}
        _collect(operation, shape.key, key, (*path, "*key"), lambda new: rebuild({new: member, **rest}), found)
        _collect(operation, shape.value, member, (*path, "*value"), lambda new: rebuild({key: new, **rest}), found)


def _broken(shape, value):
    """(kind, broken value, words of the message) for the constraints of this shape, without its members."""
    limits = shape.metadata
    minimum, maximum = limits.get("min"), limits.get("max")
    sized = shape.type_name in ("string", "list", "map")
    noun = "length" if sized else "value"
    if maximum is not None:
        bad = _sized(shape, value, maximum + 1) if sized else maximum + 1
        yield "max", bad, f"Member must have {noun} less than or equal to {maximum}"
    if minimum:
        bad = _sized(shape, value, minimum - 1) if sized else minimum - 1
        yield "min", bad, f"Member must have {noun} greater than or equal to {minimum}"
    elif minimum == 0 and not sized:
        yield "min", -1, "Member must have value greater than or equal to 0"
    if "enum" in limits:
        yield "enum", "NO_SUCH_VALUE", "Member must satisfy enum value set: ["
    if "pattern" in limits:
        yield "pattern", _mismatch(limits["pattern"]), "Member must satisfy regular expression pattern: "


def _sized(shape, value, size):
    if shape.type_name == "string":
        return ("a" * size) if "pattern" not in shape.metadata else _matching(value, size)
    if shape.type_name == "list":
        return [_variant(value[0], index) for index in range(size)]
    key, member = next(iter(value.items()))
    return {f"{key}{index}": member for index in range(size)}


def _matching(value, size):
    """A longer text that matches the pattern too: all but the first letter is repeated."""
    return (value + "a" * size)[:size]


def _variant(member, index):
    """A copy of a list's member, with another key if it is a tag."""
    return {**member, "Key": f"{member['Key']}{index}"} if isinstance(member, dict) and "Key" in member else member


def _mismatch(pattern):
    """A short text that neither matches the pattern nor is accepted by lenient validation."""
    candidates = ("\u00e4", "a b", " ", "a!b", "a\nb", "-")
    return next(text for text in candidates if not re.fullmatch(pattern, text))
