/* A team of threads that share work in chunks. See thread_team.c. */
#ifndef KANSERVE_TEAM_H
#define KANSERVE_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct kanserve_team {
    const void *problem; /* the data of the work function */
    double *target;
    int64_t threads;
    int64_t waiting;     /* from here on internal to thread_team.c */
    uint64_t meetings;
    atomic_llong next;
    pthread_mutex_t lock;
    pthread_cond_t all_here;
} kanserve_team;

/* Call work(team, number of the thread) on this thread and up to `wanted` - 1 more, and wait for all of them. */
void kanserve_team_work(
    const void *problem, double *target, int64_t wanted, void (*work)(kanserve_team *team, int64_t thread));

/* The number of the next free chunk of work, from 0. */
int64_t kanserve_team_next_chunk(kanserve_team *team);

/* Wait for all threads of the team, then count chunks from 0 again. */
void kanserve_team_barrier(kanserve_team *team);

#endif
