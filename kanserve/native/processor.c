/* The level of x86-64 that the processor supports: 4, 3 or 2; 0 on other processors. This is also a library of its own,
   built for any processor, which is called before the kernels are loaded.

   It uses CPUID directly: ziglang's __builtin_cpu_supports always returns 0. */
#if defined(__x86_64__)
#include <cpuid.h>

enum { SAVED_256 = 0x06, SAVED_512 = 0xe6 }; /* bits of XCR0: the registers that the operating system saves */

static unsigned saved_registers(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int all(unsigned bits, unsigned wanted)
{
    return (bits & wanted) == wanted;
}

int kanserve_x86_level(void)
{
    const unsigned first = bit_FMA | bit_MOVBE | bit_OSXSAVE | bit_AVX | bit_F16C;
    const unsigned third = bit_BMI | bit_AVX2 | bit_BMI2;
    const unsigned fourth = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL;
    unsigned a, b, c, d, leaf7, extended;
    if (!__get_cpuid_count(7, 0, &a, &leaf7, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &extended, &d)
        || !__get_cpuid(1, &a, &b, &c, &d))
        return 2;
    if (!all(c, first) || !all(leaf7, third) || !all(extended, bit_LZCNT) || !all(saved_registers(), SAVED_256))
        return 2;
    return all(leaf7, fourth) && all(saved_registers(), SAVED_512) ? 4 : 3;
}
#else
int kanserve_x86_level(void)
{
    return 0;
}
#endif
