"""The fixed text of the fast form, which `@FAST` switches on: the compiler's vector types, and functions of them.
Vectors are as wide as the target's registers. Infinities and NaN only affect their own row, which is refused
afterwards. Compilers other than gcc and clang compile the plain form instead."""

from fractions import Fraction
from math import factorial

from kanserve_exporters._shared.expressions import Dialect

BEGIN = """
#if defined @FAST && !(defined __clang__ || (defined __GNUC__ && __GNUC__ >= 9))
#undef @FAST /* it needs vectors as gcc and clang have them */
#endif

#ifdef @FAST
#if defined __AVX2__
#include <immintrin.h>
#elif defined __SSE2__
#include <emmintrin.h>
#endif

#if defined __AVX512F__
#define @BYTES 64
#define @X86(name) _mm512_##name##_{ending}
#elif defined __AVX2__
#define @BYTES 32
#define @X86(name) _mm256_##name##_{ending}
#else
#define @BYTES 16
#define @X86(name) _mm_##name##_{ending}
#endif
#define @LANES (@BYTES/{size})
#undef @SLACK
#define @SLACK @LANES /* numbers behind a table that the last vector of it may take in */
#define @INLINE static inline __attribute__((always_inline, unused))

#ifndef @TILE
#define @TILE {tile} /* rows at once */
#endif
#define @MOST (@TILE*@LANES) /* inputs of all rows at once */
#define @WIDEST 4 /* vectors of sums that stay in registers */
#ifdef __clang__
#define @UNROLL _Pragma("clang loop unroll(full)")
#else
#define @UNROLL _Pragma("GCC unroll 8")
#endif
/* How many inputs go on at once: their coefficients stay in the first cache. */
#define @NEAR (@LANES > 8 ? 8 : @LANES)

typedef @real @vector __attribute__((vector_size(@BYTES)));
typedef {whole} @whole __attribute__((vector_size(@BYTES))); /* what comparisons give: all bits or none */
typedef int @index __attribute__((vector_size(@LANES*4)));
/* The same at any address. */
typedef @real @vector_at __attribute__((vector_size(@BYTES), aligned({size}), may_alias));
typedef int @index_at __attribute__((vector_size(@LANES*4), aligned(4), may_alias));
/* Four outputs or fewer have vectors of four. */
#if @BYTES > 4*{size}
typedef @real @four __attribute__((vector_size(4*{size})));
typedef @real @four_at __attribute__((vector_size(4*{size}), aligned({size}), may_alias));
#define @PADDED(n) ((n) <= 4 ? 4 : ((n) + @LANES - 1)/@LANES*@LANES)
#else
#define @PADDED(n) (((n) + @LANES - 1)/@LANES*@LANES)
#endif

@INLINE @vector @load(const @real *from)
{{
    return *(const @vector_at *)from;
}}

@INLINE void @store(@real *to, @vector value)
{{
    *(@vector_at *)to = value;
}}

@INLINE @vector @pick(@whole choice, @vector yes, @vector no)
{{
    return (@vector)((choice & (@whole)yes) | (~choice & (@whole)no));
}}

/* The larger and the smaller; b where a is NaN, so that none is left after one of each. */
@INLINE @vector @larger(@vector a, @vector b)
{{
#if defined __AVX512F__ || defined __AVX2__ || defined __SSE2__
    return @X86(max)(a, b);
#else
    return @pick((@whole)(a > b), a, b);
#endif
}}

@INLINE @vector @smaller(@vector a, @vector b)
{{
#if defined __AVX512F__ || defined __AVX2__ || defined __SSE2__
    return @X86(min)(a, b);
#else
    return @pick((@whole)(a < b), a, b);
#endif
}}

/* x/(1 + exp(-x)). With e = exp(-|x|), at most 1, it is x*e/(1 + e) or x/(1 + e). e = 2^n*exp(f), |f| <= log(2)/2, by
 * Taylor's series, whose next term is below a unit in the last place; where e would be subnormal it is 0. */
@INLINE @vector @silu(@vector x)
{{
    const @vector none = {{0}}, one = none + 1, least = none - {least};
    const @vector away = @pick((@whole)(x < 0), x, -x), bounded = @larger(away, least);
    const @index n = __builtin_convertvector(bounded*{per_log2} - {half}, @index); /* rounds, because it is negative */
    const @vector whole = __builtin_convertvector(n, @vector);
    const @vector f = (bounded - whole*{high}) - whole*{low}, f2 = f*f, f4 = f2*f2{f8};
    const @whole power = (__builtin_convertvector(n, @whole) + {exponent}) << {mantissa};
    const @vector series = {series};
    const @vector e = (@vector)((@whole)(series*(@vector)power) & (@whole)(away > least));
    return x*@pick((@whole)(x < 0), e, one)/(one + e);
}}

/* The first values, fewer than make a vector, and zeros behind them. */
@INLINE @vector @first(const @real *from, int count)
{{
#if defined __AVX512F__
    return _mm512_maskz_loadu_{ending}((__mmask{lanes})((1u << count) - 1), from);
#elif defined __AVX2__
    const @whole places = {{{places}}};
    return _mm256_maskload_{ending}(from, (__m256i)(places < count));
#else
    @vector some = {{0}};
    int i;
    for (i = 0; i < count; i++) some[i] = from[i];
    return some;
#endif
}}

/* Four values or fewer, which may have been written one by one just now: to wait for a vector of them takes longer. */
@INLINE @vector @single(const @real *from, int count)
{{
    @vector some = {{0}};
    int i;
    for (i = 0; i < 4 && i < @LANES; i++) some[i] = i < count ? from[i] : 0;
    return some;
}}

/* Whether any lane is chosen. */
@INLINE int @any(@whole choice)
{{
#if defined __AVX512F__
    return _mm512_test_epi{bits}_mask((__m512i)choice, (__m512i)choice) != 0;
#elif defined __AVX2__
    return _mm256_movemask_{ending}((__m256{d})choice) != 0;
#elif defined __SSE2__
    return _mm_movemask_{ending}((__m128{d})choice) != 0;
#else
    int j, any = 0;
    for (j = 0; j < @LANES; j++) any |= choice[j] != 0;
    return any;
#endif
}}

/* Whether any of the rows' values is not finite. */
@INLINE int @broken(const @real *v, int rows, size_t stride, int count)
{{
    @whole bad = {{0}};
    int n, j;
    if (rows == 1 && count <= 4) {{
        @real none = 0;
        for (j = 0; j < count; j++) none += 0*v[j];
        return !(none == 0);
    }}
    for (n = 0; n < rows; n++) {{
        const @real *row = v + (size_t)n*stride;
        for (j = 0; j < count; j += @LANES) {{
            const @vector value = count - j < @LANES ? @first(row + j, count - j) : @load(row + j);
            bad |= (@whole)(value - value != 0);
        }}
    }}
    return @any(bad);
}}

/* Say of each row that is not finite what is wrong with it, unless something was already, and make it 0. */
static __attribute__((unused)) void @refuse(@real *v, int rows, int stride, int count, int *status,
    const int *outside, int code)
{{
    int n, j;
    for (n = 0; n < rows; n++) {{
        @real *row = v + n*stride;
        if (@finite(row, count)) continue;
        if (status[n] == @OK) status[n] = outside && outside[n] ? @ERROR_DOMAIN : code;
        for (j = 0; j < count; j++) row[j] = 0;
    }}
}}
#endif /* @FAST */
"""

_EXPONENT = {
    "float": {
        "least": "87.0f",
        "per_log2": "1.44269504f",
        "half": "0.5f",
        "high": "0.693145752f",
        "low": "1.42860677e-06f",
        "exponent": "127",
        "mantissa": "23",
    },
    "double": {
        "least": "708.0",
        "per_log2": "1.4426950408889634",
        "half": "0.5",
        "high": "0.693147180369123816490",
        "low": "1.90821492927058770002e-10",
        "exponent": "1023",
        "mantissa": "52",
    },
}


def begin(dialect: Dialect, tile: int) -> str:
    """The types and functions for vectors of this precision."""
    size = 4 if dialect.single else 8
    terms = 7 if dialect.single else 13
    return BEGIN.format(
        ending="ps" if dialect.single else "pd",
        size=size,
        lanes=64 // size,
        bits=8 * size,
        d="" if dialect.single else "d",
        places=", ".join(str(n) for n in range(32 // size)),
        tile=tile,
        whole="int" if dialect.single else "long long",
        f8="" if dialect.single else ", f8 = f4*f4",
        series=_series(terms, dialect),
        **_EXPONENT[dialect.precision],
    )


def _series(terms: int, dialect: Dialect) -> str:
    """The Taylor series of exp in f by Estrin's scheme: the halves of each polynomial are independent."""

    def part(low: int, count: int) -> str:
        if count == 1:
            return dialect.literal(float(Fraction(1, factorial(low))))
        half = 1 << (count - 1).bit_length() - 1
        name = "f" if half == 1 else f"f{half}"
        return f"({part(low, half)} + {name}*{part(low + half, count - half)})"

    return part(0, terms + 1)
