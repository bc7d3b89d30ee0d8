"""Shape annotations as checks, for tests only: ``Float[Tensor, "b l d"]`` is read by jaxtyping and beartype.

The decorator is put on while a module is loaded, innermost, so that nothing sees a function without it. Neither package
is imported outside of tests. A call is checked after it has returned: what an operation refuses by itself it refuses
with its own error. Calls that PyTorch compiles, traces or transforms are not checked.
"""

import ast
import inspect
import sys
from dataclasses import is_dataclass
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader

import jaxtyping
from beartype.door import is_bearable

MARK = "[Tensor,"  # what only annotations with shapes contain


class WrongShape(AssertionError):
    """A value is not as its annotation says, or two values that share a name of an axis do not fit each other."""


def checked(thing):
    """Check a function's parameters and result, or a dataclass's fields, at every call."""
    if isinstance(thing, type):
        if is_dataclass(thing):
            thing.__init__ = checked(thing.__init__)
        return thing

    @wraps(thing)
    def call(*args, **kwargs):
        from rmeeto.ops.select import is_intercepted

        result = thing(*args, **kwargs)
        if not is_intercepted():
            with jaxtyping.jaxtyped("context"):
                compare(thing, signature(thing).bind(*args, **kwargs).arguments | {"return": result})
        return result

    return call


signature = cache(inspect.signature)


def compare(function, values):
    """Raise `WrongShape` unless the values (by parameter, and ``return``) are as annotated, in the present context."""
    found = [
        part
        for name, annotation in function.__annotations__.items()
        if name in values
        for part in parts(name, annotation, values[name], function.__globals__)
    ]
    for field, hint, value in sorted(found, key=lambda part: is_computed(part[1])):
        if not is_bearable(value, hint):
            text = f"{function.__qualname__}: {field} is {describe(value)}, annotated {hint}"
            raise WrongShape(f"{text}; all values: { {name: describe(x) for name, x in values.items()} }")


def is_computed(hint):
    """Whether an axis is computed from others, such as ``2*e``, which other annotations must have named before."""
    return any(sign in str(hint) for sign in "*+")


def parts(name, annotation, value, names):
    """What has a shape: the value itself, or the fields of a named tuple."""
    if MARK in str(annotation):
        yield name, resolved(str(annotation), names), value
    elif hasattr(value, "_fields"):
        owner = sys.modules[type(value).__module__]
        for field, hint in type(value).__annotations__.items():
            yield from parts(
                f"{name}.{field}", getattr(hint, "__forward_arg__", hint), getattr(value, field), vars(owner)
            )


def resolved(text, names):
    """The type that an annotation describes; jaxtyping's names are imported for type checkers only."""
    return _resolved(text, names["__name__"])


@cache
def _resolved(text, module):
    return eval(text, {**vars(jaxtyping), **vars(sys.modules[module])})


def describe(value):
    if isinstance(value, tuple):
        return tuple(map(describe, value))
    return f"{tuple(value.shape)} {value.dtype}" if hasattr(value, "shape") else type(value).__name__


class _Loader(SourceFileLoader):
    """Loads a module with the decorator on all that is annotated with shapes."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)  # not from a cache of bytecode, and into none

    def source_to_code(self, data, path, *, _optimize=-1):
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and has_shapes(node):
                decorator = ast.parse("__import__('shape_checks').checked", mode="eval").body
                node.decorator_list.insert(0 if isinstance(node, ast.ClassDef) else len(node.decorator_list), decorator)
                for child in ast.walk(decorator):
                    ast.copy_location(child, node)
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)


def has_shapes(node):
    if isinstance(node, ast.ClassDef):
        annotations = [field.annotation for field in node.body if isinstance(field, ast.AnnAssign)]
    else:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        annotations = [*(argument.annotation for argument in arguments), node.returns]
    return any(MARK in ast.unparse(annotation) for annotation in annotations if annotation is not None)


class _Finder(MetaPathFinder):
    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        spec.loader = _Loader(name, spec.origin)
        return spec


def install(modules):
    """Check these modules' annotations from their first import on."""
    loaded = modules & {*sys.modules}
    assert not loaded, f"imported before the checks: {loaded}"
    sys.meta_path.insert(0, _Finder(modules))
