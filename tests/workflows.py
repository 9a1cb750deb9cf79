"""An interpreter of the part of Google Workflows' language that infra/workflows uses; it refuses
what it does not know.

Those that exist do not fit: workflows-emulator needs another FastAPI than MLflow does, really
sleeps, and gives up where `max_delay` should only stop the delay from growing; the ones in Go
cannot be handed fakes.
"""

import ast
import copy
import json
import operator
import re
from urllib.parse import quote

import yaml


class WorkflowError(Exception):
    """What a workflow raised, or a call that it made."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


class _Next(Exception):
    def __init__(self, step):
        self.step = step


class _Return(Exception):
    def __init__(self, value):
        self.value = value


STEP_KEYS = {
    "assign",
    "call",
    "args",
    "result",
    "switch",
    "for",
    "try",
    "retry",
    "except",
    "return",
    "raise",
    "next",
    "steps",
}
RETRIES = {
    "http.default_retry": {429, 502, 503, 504},
    "http.default_retry_non_idempotent": {429, 503},
}
LIBRARY = {
    "default": lambda value, other: other if value is None else value,
    "get_type": lambda value: {
        dict: "map",
        list: "list",
        str: "string",
        bytes: "bytes",
        int: "integer",
    }[type(value)],
    "int": int,
    "json.decode": json.loads,
    "json.encode_to_string": json.dumps,
    "keys": list,
    "len": len,
    "list.concat": lambda values, value: [*values, value],
    "map.get": lambda value, key: value.get(key) if isinstance(value, dict) else None,
    "map.merge": lambda one, other: one | other,
    "string": str,
    "text.match_regex": lambda text, regex: re.search(regex, text) is not None,
    "text.split": lambda text, separator: text.split(separator),
    "text.substring": lambda text, start, end: text[start:end],
    "text.url_encode": lambda text: quote(text, safe=""),
}
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt, ast.In: lambda item, holder: item in holder,
}  # fmt: skip
CONSTANTS = {"true": True, "false": False, "null": None}


class Workflow:
    """A workflow to run with fakes: `calls` has a function by the name of each call that is no
    subworkflow."""

    def __init__(self, text, calls, environment=None):
        self._subworkflows = yaml.safe_load(text)
        self._calls = calls
        self._library = LIBRARY | {
            "sys.get_env": (environment or {}).__getitem__,
            "sys.now": lambda: 1_800_000_000.5,
        }

    def run(self, **arguments):
        return self.subworkflow("main", arguments)

    def subworkflow(self, name, arguments):
        declared = self._subworkflows[name]
        assert set(declared) <= {"params", "steps"}, f"{name}: {set(declared)}"
        variables = {}
        for param in declared.get("params", []):
            if isinstance(param, dict):
                ((param, variables[param]),) = param.items()
                if param not in arguments:
                    continue
            variables[param] = arguments[param]
        assert set(arguments) <= set(variables), (
            f"{name} has no parameter {set(arguments) - set(variables)}"
        )
        try:
            self._steps(declared["steps"], variables)
        except _Return as end:
            return end.value

    def _steps(self, steps, variables):
        names = [next(iter(step)) for step in steps]
        at = 0
        while at < len(steps):
            ((_, step),) = steps[at].items()
            try:
                self._step(step, variables)
                at = names.index(step["next"]) if "next" in step else at + 1
            except _Next as jump:
                if jump.step not in names:
                    raise
                at = names.index(jump.step)

    def _step(self, step, variables):
        assert set(step) <= STEP_KEYS, f"unknown: {set(step) - STEP_KEYS}"
        if "try" in step:
            self._try(step, variables)
        elif "steps" in step:
            self._steps(step["steps"], variables)
        elif "for" in step:
            self._for(step["for"], variables)
        elif "switch" in step:
            self._switch(step["switch"], variables)
        elif "call" in step:
            result = self._call(step["call"], self._value(step.get("args", {}), variables))
            if "result" in step:
                variables[step["result"]] = copy.deepcopy(result)
        elif "assign" in step:
            self._assign(step["assign"], variables)
        elif "return" in step:
            raise _Return(self._value(step["return"], variables))
        elif "raise" in step:
            raise WorkflowError(self._value(step["raise"], variables))

    def _switch(self, cases, variables):
        for case in cases:
            if self._value(case["condition"], variables):
                step = {key: value for key, value in case.items() if key != "condition"}
                self._step(step, variables)
                if "next" in step:
                    raise _Next(step["next"])
                return

    def _for(self, loop, variables):
        assert set(loop) <= {"value", "range", "in", "steps"}, f"unknown: {set(loop)}"
        if "range" in loop:
            first, last = self._value(loop["range"], variables)
            values = range(first, last + 1)
        else:
            values = self._value(loop["in"], variables)
        inner = _Scope(variables)
        for value in values:
            inner[loop["value"]] = value
            try:
                self._steps(loop["steps"], inner)
            except _Next as jump:
                if jump.step == "break":
                    break
                if jump.step != "continue":
                    raise

    def _try(self, step, variables):
        retry, failures = step.get("retry"), 0
        while True:
            try:
                return self._step(step["try"], variables)
            except WorkflowError as error:
                if (
                    retry is not None
                    and failures < self._retries(retry)
                    and self._retryable(retry, error.value)
                ):
                    failures += 1
                    self._calls["sys.sleep"](seconds=self._delay(retry, failures))
                elif "except" in step:
                    variables[step["except"]["as"]] = error.value
                    return self._steps(step["except"]["steps"], variables)
                else:
                    raise

    @staticmethod
    def _retries(retry):
        return 5 if isinstance(retry, str) else retry["max_retries"]

    def _retryable(self, retry, error):
        if isinstance(retry, str):
            return isinstance(error, dict) and error.get("code") in RETRIES[retry[2:-1]]
        return self.subworkflow(retry["predicate"][2:-1], {"e": error})

    @staticmethod
    def _delay(retry, failures):
        backoff = (
            {"initial_delay": 1, "max_delay": 60, "multiplier": 1.25}
            if isinstance(retry, str)
            else retry["backoff"]
        )
        return min(
            backoff["max_delay"], backoff["initial_delay"] * backoff["multiplier"] ** (failures - 1)
        )

    def _call(self, name, arguments):
        if name in self._subworkflows:
            return self.subworkflow(name, arguments)
        return self._calls[name](**arguments)

    def _assign(self, assignments, variables):
        for assignment in assignments:
            ((target, value),) = assignment.items()
            holder, *path = target.split(".")
            value = copy.deepcopy(self._value(value, variables))
            if path:
                (key,) = path
                variables[holder] = variables[holder] | {key: value}
            else:
                variables[holder] = value

    def _value(self, value, variables):
        if isinstance(value, dict):
            return {key: self._value(item, variables) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, variables) for item in value]
        if isinstance(value, str) and value.startswith("${"):
            assert value.endswith("}"), value
            assert len(value) <= 400, f"an expression has at most 400 characters: {value}"
            return self._evaluate(ast.parse(value[2:-1], mode="eval").body, variables)
        assert not (isinstance(value, str) and "${" in value), (
            f"an expression inside a text: {value}"
        )
        return value

    def _evaluate(self, node, variables):
        def of(inner):
            return self._evaluate(inner, variables)

        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return CONSTANTS[name] if name in CONSTANTS else variables[name]
            case ast.List(elts=items):
                return [of(item) for item in items]
            case ast.Attribute(value=holder, attr=key):
                return self._member(of(holder), key)
            case ast.Subscript(value=holder, slice=key):
                return self._member(of(holder), of(key))
            case ast.Call(func=function, args=args, keywords=[]):
                return self._library[ast.unparse(function)](*map(of, args))
            case ast.BoolOp(op=ast.And(), values=values):
                return all(of(value) for value in values)
            case ast.BoolOp(op=ast.Or(), values=values):
                return any(of(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not of(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](of(left), of(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return OPERATORS[type(op)](of(left), of(right))
        raise NotImplementedError(ast.unparse(node))

    @staticmethod
    def _member(holder, key):
        try:
            return holder[key]
        except (KeyError, IndexError):
            raise WorkflowError(
                {"tags": ["KeyError"], "message": f"{key} is not in {holder}"}
            ) from None


class _Scope(dict):
    """Variables of a loop: those from outside are shared, new ones end with it."""

    def __init__(self, outer):
        super().__init__()
        self._outer = outer

    def __missing__(self, name):
        return self._outer[name]

    def __setitem__(self, name, value):
        if name in self._outer:
            self._outer[name] = value
        else:
            super().__setitem__(name, value)

    def __contains__(self, name):
        return super().__contains__(name) or name in self._outer
