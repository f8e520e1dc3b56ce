/* The system as the code that is fuzzed sees it: time passes when the input says so, nothing waits, and the allocation that
 * the input names fails. FUZZ_SYSTEM of fuzzers.py gives the functions of the system these names. */

#ifndef KANSERVE_FUZZ_SYSTEM_H
#define KANSERVE_FUZZ_SYSTEM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#undef malloc
#undef calloc
#undef realloc
#undef free
#undef strdup
#undef clock_gettime
#undef epoll_wait
#undef nghttp2_session_server_new2

#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum { PASSES = 50, PASSES_SLOWLY = 500000 }; /* nanoseconds, each time that somebody asks for the time */

static int64_t fuzz_system_passes = PASSES; /* more on a machine that is slow: then every turn ends after one step */
enum { FUZZ_SYSTEM_BEGIN = 1000000000000 }; /* nanoseconds */
static int64_t fuzz_system_time = FUZZ_SYSTEM_BEGIN;
static long fuzz_system_blocks;               /* that are allocated */
static int fuzz_system_left, fuzz_system_armed; /* allocations until one fails; whether it may fail now */

/* Let the allocation after so many fail; 0: none. */
static void fuzz_system_fails(int after)
{
    fuzz_system_left = after;
}

static void fuzz_system_begins(void)
{
    fuzz_system_armed = 1;
}

static void fuzz_system_ends(void)
{
    fuzz_system_armed = 0;
}

static int fails(void)
{
    return fuzz_system_armed && fuzz_system_left && --fuzz_system_left == 0;
}

void *fuzz_malloc(size_t size)
{
    void *made = fails() ? NULL : malloc(size);
    fuzz_system_blocks += made != NULL;
    return made;
}

void *fuzz_calloc(size_t count, size_t size)
{
    void *made = fails() ? NULL : calloc(count, size);
    fuzz_system_blocks += made != NULL;
    return made;
}

void *fuzz_realloc(void *from, size_t size)
{
    void *made = fails() ? NULL : realloc(from, size);
    fuzz_system_blocks += made != NULL && !from;
    return made;
}

void fuzz_free(void *from)
{
    fuzz_system_blocks -= from != NULL;
    free(from);
}

char *fuzz_strdup(const char *text)
{
    char *made = fuzz_malloc(strlen(text) + 1);
    return made ? strcpy(made, text) : NULL;
}

int fuzz_clock_gettime(clockid_t which, struct timespec *to)
{
    (void)which;
    fuzz_system_time += fuzz_system_passes;
    *to = (struct timespec){fuzz_system_time / 1000000000, fuzz_system_time % 1000000000};
    return 0;
}

int fuzz_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    (void)timeout;
    return epoll_wait(epoll, events, most, 0);
}

static void *for_nghttp2(size_t size, void *data)
{
    (void)data;
    return fuzz_malloc(size);
}

static void free_of_nghttp2(void *from, void *data)
{
    (void)data;
    fuzz_free(from);
}

static void *cleared_for_nghttp2(size_t count, size_t size, void *data)
{
    (void)data;
    return fuzz_calloc(count, size);
}

static void *larger_for_nghttp2(void *from, size_t size, void *data)
{
    (void)data;
    return fuzz_realloc(from, size);
}

int fuzz_nghttp2_session_server_new2(nghttp2_session **to, const nghttp2_session_callbacks *callbacks, void *data,
                                     const nghttp2_option *options)
{
    static nghttp2_mem memory = {NULL, for_nghttp2, free_of_nghttp2, cleared_for_nghttp2, larger_for_nghttp2};
    return nghttp2_session_server_new3(to, callbacks, data, options, &memory);
}

#define malloc fuzz_malloc
#define calloc fuzz_calloc
#define realloc fuzz_realloc
#define free fuzz_free
#define strdup fuzz_strdup
#define clock_gettime fuzz_clock_gettime
#define epoll_wait fuzz_epoll_wait
#define nghttp2_session_server_new2 fuzz_nghttp2_session_server_new2

#endif
