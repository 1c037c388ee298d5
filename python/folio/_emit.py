# SPDX-License-Identifier: Apache-2.0
"""Writing a traced graph of scalars as a text of folio's language: one `let` an operation, types made explicit.

    graph of PyTorch or JAX ── _trace_* ─► Writer ─► "let t1 = kv - q; let t2 = ...; score + t2"
"""
import math
import re
from typing import NamedTuple

F32, I64, BOOL = "f32", "i64", "bool"
_RANK = {BOOL: 0, I64: 1, F32: 2}

# Names the language has, which captures can't have.
RESERVED = frozenset(
    "score b h hk q kv q_len kv_len pos inf true false let min max abs exp exp2 log tanh sqrt rsqrt sigmoid floor "
    "where pow f32 i64 sin cos div_trunc rem_trunc shl shr bit_and bit_or bit_xor bit_not bool".split())


class Untranslatable(Exception):
    """The language has no words for it: names the operation."""


class Value(NamedTuple):
    """A scalar: a name or literal, and its type."""

    text: str
    type: str


ARGUMENTS = {
    "score": Value("score", F32),
    "b": Value("b", I64),
    "h": Value("h", I64),
    "q_idx": Value("q", I64),
    "kv_idx": Value("kv", I64),
}
KV_LEN = Value("kv_len", I64)


def literal(value):
    """A Python number."""
    if isinstance(value, bool):
        return Value("true" if value else "false", BOOL)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Untranslatable(f"the int {value}")
        text = str(abs(value)) if value > -(2**63) else "9223372036854775807 - 1"
        return Value(text if value >= 0 else f"(-{text})", I64)
    if math.isnan(value):
        return Value("(inf - inf)", F32)
    return Value(repr(value) if value >= 0 and not _is_negative_zero(value) else f"(-{abs(value)!r})", F32)


def _is_negative_zero(value):
    return value == 0 and math.copysign(1, value) < 0


class Writer:
    """The statements and captures so far."""

    def __init__(self):
        self.lets = []
        self.captures = {}

    def let(self, text, type):
        name = f"t{len(self.lets) + 1}"
        self.lets.append(f"let {name} = {text};")
        return Value(name, type)

    def capture(self, array, hint):
        """The name of a captured array; `hint` is the one it has in the user's code, or None."""
        for name, known in self.captures.items():
            if known is array:
                return name
        name = hint if hint and re.fullmatch(r"[A-Za-z_]\w{0,50}", hint, re.ASCII) else "captured"
        if name in RESERVED or re.fullmatch(r"t\d+", name):
            name += "_"
        unique, n = name, 1
        while unique in self.captures:
            n += 1
            unique = f"{name}_{n}"
        self.captures[unique] = array
        return unique

    def text(self, result, is_mask):
        """The whole program; of a mask what is not zero keeps."""
        value = self.convert(result, BOOL if is_mask else F32)
        return "\n".join([*self.lets, value.text])

    # -- operations ------------------------------------------------------------------------------------------------

    def convert(self, value, type):
        if value.type == type:
            return value
        if type == BOOL:
            return self.let(f"{value.text} != 0", BOOL)
        return self.let(f"{type}({value.text})", type)

    def common(self, *values):
        """All in the widest of their types."""
        type = max((v.type for v in values), key=_RANK.get)
        return type, [self.convert(v, type) for v in values]

    def operate(self, name, values, type):
        """One of OPERATIONS on values, giving `type`."""
        return OPERATIONS[name](self, values, type)


def _same(symbol, of_bool=None):
    """a symbol b in the result's type."""
    def write(w, values, type):
        a, b = (w.convert(v, type).text for v in values)
        if type != BOOL:
            return w.let(f"{a} {symbol} {b}", type)
        if of_bool is None:
            raise Untranslatable(f"{symbol} of bools")
        return w.let(f"{a} {of_bool} {b}", BOOL)
    return write


def _compare(symbol):
    def write(w, values, type):
        common, (a, b) = w.common(*values)
        if common == BOOL:
            a, b = w.convert(a, I64), w.convert(b, I64)
        return w.let(f"{a.text} {symbol} {b.text}", BOOL)
    return write


def _bits(of_int, of_bool):
    """A bit operation of ints; of bools a logical one."""
    def write(w, values, type):
        values = [w.convert(v, type).text for v in values]
        if type == F32:
            raise Untranslatable(f"{of_int} of floats")
        form = of_bool if type == BOOL else of_int + "({}, {})"
        return w.let(form.format(*values), type)
    return write


def _logical(form):
    """A logical operation: what is not zero is true."""
    def write(w, values, type):
        return w.let(form.format(*(w.convert(v, BOOL).text for v in values)), BOOL)
    return write


def _not(w, values, type):
    value = w.convert(values[0], type)
    return w.let(f"!{value.text}" if type == BOOL else f"bit_not({value.text})", type)


def _function(name):
    """name(x) of a float."""
    def write(w, values, type):
        return w.let(f"{name}({', '.join(w.convert(v, F32).text for v in values)})", F32)
    return write


def _of_ints(name):
    def write(w, values, type):
        if type != I64:
            raise Untranslatable(f"{name} of {type}")
        return w.let(f"{name}({', '.join(w.convert(v, I64).text for v in values)})", I64)
    return write


def _keeps_type(name):
    """min, max, abs: in the result's type; of bools by way of ints."""
    def write(w, values, type):
        inner = I64 if type == BOOL else type
        return w.convert(w.let(f"{name}({', '.join(w.convert(v, inner).text for v in values)})", inner), type)
    return write


def _form(form, only=None):
    """A formula of the values in the result's type."""
    def write(w, values, type):
        if only and type != only:
            raise Untranslatable(f"{form} of {type}")
        return w.let(form.format(*(w.convert(v, type).text for v in values)), type)
    return write


def _whole(form_of_float):
    """floor, ceil, trunc: ints stay as they are."""
    def write(w, values, type):
        if values[0].type != F32:
            return w.convert(values[0], type)
        return w.let(form_of_float.format(values[0].text), F32)
    return write


def _sign(w, values, type):
    value = w.convert(values[0], type).text
    return w.convert(w.let(f"{value} > 0 ? 1 : ({value} < 0 ? -1 : 0)", I64), type)


def _div_trunc(w, values, type):
    if type == I64:
        return _of_ints("div_trunc")(w, values, type)
    return _whole(_TRUNC)(w, [_div(w, values, F32)], F32)


def _div(w, values, type):
    a, b = (w.convert(v, F32).text for v in values)
    return w.let(f"{a} / {b}", F32)


def _where(w, values, type):
    condition, a, b = w.convert(values[0], BOOL), w.convert(values[1], type), w.convert(values[2], type)
    return w.let(f"{condition.text} ? {a.text} : {b.text}", type)


def _clamp(w, values, type):
    """(x, low or None, high or None)"""
    value, low, high = (v and w.convert(v, type) for v in values)
    if low:
        value = w.let(f"max({value.text}, {low.text})", type)
    return w.let(f"min({value.text}, {high.text})", type) if high else value


def power(w, base, exponent, type):
    """base ** exponent, of which the exponent is a number: small whole ones are products."""
    if float(exponent).is_integer() and 0 <= exponent <= 8 and type != BOOL:
        base = w.convert(base, type)
        value = base if exponent else w.convert(literal(1), type)
        for _ in range(int(exponent) - 1):
            value = w.let(f"{value.text} * {base.text}", type)
        return value
    if type != F32:
        raise Untranslatable(f"a power {exponent} of ints")
    return w.let(f"pow({w.convert(base, F32).text}, {literal(float(exponent)).text})", F32)


_TRUNC = "({0} < 0 ? -floor(-{0}) : floor({0}))"

OPERATIONS = {
    "add": _same("+", "||"), "sub": _same("-"), "mul": _same("*", "&&"),
    "div": _div, "floor_div": _same("//"), "rem_floor": _same("%"),
    "div_trunc": _div_trunc, "rem_trunc": _of_ints("rem_trunc"),
    "eq": _compare("=="), "ne": _compare("!="), "lt": _compare("<"), "le": _compare("<="), "gt": _compare(">"),
    "ge": _compare(">="),
    "and": _bits("bit_and", "{} && {}"), "or": _bits("bit_or", "{} || {}"), "xor": _bits("bit_xor", "bit_xor({}, {})"),
    "not": _not, "shl": _of_ints("shl"), "shr": _of_ints("shr"),
    "logical_and": _logical("{} && {}"), "logical_or": _logical("{} || {}"), "logical_not": _logical("!{}"),
    "logical_xor": _logical("bit_xor({}, {})"),
    "max": _keeps_type("max"), "min": _keeps_type("min"), "abs": _keeps_type("abs"),
    "neg": _form("-{0}"), "square": _form("{0} * {0}"), "relu": _form("max({0}, 0)"),
    "sign": _sign, "reciprocal": _form("1 / {0}", F32),
    "floor": _whole("floor({0})"), "ceil": _whole("-floor(-{0})"), "trunc": _whole(_TRUNC),
    "where": _where, "clamp": _clamp,
    **{name: _function(name) for name in "exp exp2 log tanh sqrt rsqrt sigmoid sin cos".split()},
    "pow": _function("pow"),
}
