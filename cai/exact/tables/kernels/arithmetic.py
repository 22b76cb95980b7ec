"""exp, expm1 and log in plain arithmetic, so that a loop over them becomes vector instructions.

Compiled loops call the C library's exp once for each number, at several times the cost of all the rest of a soft
backup; polynomials vectorise. Errors stay below 2 units in the last place on the ranges named (tests/test_kernels.py
asks mpmath).
"""

from contextlib import suppress
from typing import Any, no_type_check

from numba import njit, types
from numba.extending import intrinsic


@no_type_check
def kernel(function: Any) -> Any:
    """Compile a kernel: free of the interpreter's lock, kept on disk if it can be; inf and NaN as IEEE has them."""
    compiled = njit(function, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
    with suppress(RuntimeError):  # numba's word for no folder that it may write to
        compiled.enable_caching()
    return compiled


inlined = njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})
"""How the parts of a kernel are compiled."""

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01  # fdlibm's split of ln 2: a whole number times the first is exact
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 · 2^52: adding it leaves the nearest whole number in the low bits
_SMALLEST = -708.0


@intrinsic
@no_type_check
def bits(context: Any, x: Any) -> Any:
    """Reinterpret a float64 as an int64."""
    return types.int64(types.float64), lambda _c, build, _s, args: build.bitcast(args[0], _ir().IntType(64))


@intrinsic
@no_type_check
def double(context: Any, n: Any) -> Any:
    """Reinterpret an int64 as a float64."""
    return types.float64(types.int64), lambda _c, build, _s, args: build.bitcast(args[0], _ir().DoubleType())


@intrinsic
@no_type_check
def prefetch(context: Any, array: Any, i: Any) -> Any:
    """Ask for the memory of ``array[i]``, soon to be read once; beyond the end it asks for nothing useful."""

    def generate(context: Any, build: Any, signature: Any, args: Any) -> Any:
        from numba.core import cgutils

        kind = signature.args[0]
        data = context.make_array(kind)(context, build, args[0]).data
        place = build.gep(data, [args[1]])
        ir = _ir()
        pointer = ir.PointerType(ir.IntType(8))
        i32 = ir.IntType(32)
        ask = cgutils.get_or_insert_function(
            build.module, ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32]), "llvm.prefetch.p0"
        )
        build.call(ask, [build.bitcast(place, pointer), i32(0), i32(0), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _ir() -> Any:
    import llvmlite.ir

    return llvmlite.ir


@inlined
@no_type_check
def expm1_and_scale(y):
    """Return t and 2^n with ``exp(y) = 2^n (1 + t)``, t of full relative precision; for y from -708 to 708."""
    z = y * _LOG2_E + _ROUND
    n = z - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = 2.510038549551032e-08  # interpolates (e^r - 1 - r)/r² on |r| <= ln(2)/2 at Chebyshev's nodes, to 1.7e-17
    p = p * r + 2.7620088445409746e-07
    p = p * r + 2.7557268459997064e-06
    p = p * r + 2.4801521295954376e-05
    p = p * r + 1.9841269863053618e-04
    p = p * r + 1.3888888917213717e-03
    p = p * r + 8.333333333330062e-03
    p = p * r + 4.166666666662413e-02
    p = p * r + 1.6666666666666669e-01
    p = p * r + 0.5
    return p * r * r + r, double((bits(z) << 52) + 0x3FF0000000000000)


@inlined
@no_type_check
def exp(y):
    """Return e^y for y <= 708; 0 below -708, where it would leave the normal numbers."""
    t, scale = expm1_and_scale(max(y, _SMALLEST))
    return scale * t + scale if y >= _SMALLEST else 0.0


@inlined
@no_type_check
def log(x, doublings=0):
    """Return log(x 2^-doublings) for a positive normal x, by fdlibm's series; for any other x no number of meaning."""
    whole = bits(x)
    k = (whole - 0x3FE6A09E667F3BCD) >> 52
    f = double(whole - (k << 52)) - 1.0
    k -= doublings
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = 2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)
    half = 0.5 * f * f
    correction = s * (half + even + z * (6.666666666666735130e-01 + w * odd)) + k * _LN2_LOW
    return k * _LN2_HIGH - ((half - correction) - f)


@inlined
@no_type_check
def log1p(t):
    """Return log(1 + t) for t > -1: the logarithm of the rounded sum, and what the rounding left out."""
    u = 1.0 + t
    return log(u) + (t - (u - 1.0)) / u
