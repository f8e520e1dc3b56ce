/* What Debian's archives need beyond the glibc of a wheel's tag. They are linked into published wheels alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

/* strtol as C23 has it, from glibc 2.38 on; OpenSSL reads a number of the environment with it. */
long __isoc23_strtol(const char *text, char **end, int base);

long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }

/* libnghttp2.a is for programs, not libraries: its stderr must be within what it is linked into. */
void *kanserve_stderr __asm__("stderr");

__attribute__((constructor)) static void find_stderr(void) {
    void **real = dlsym(RTLD_NEXT, "stderr");
    if (real != NULL) kanserve_stderr = *real;
}
