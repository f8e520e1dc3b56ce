/* Some threads at the same work, and how they share it. See thread_team.c. */
#ifndef KANSERVE_TEAM_H
#define KANSERVE_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct kanserve_team {
    const void *problem; /* what the work is about */
    double *target;
    int64_t threads;
    int64_t waiting;     /* the rest is of team.c */
    uint64_t meetings;
    atomic_llong next;
    pthread_mutex_t lock;
    pthread_cond_t all_here;
} kanserve_team;

/* Call work(team, number of the thread) on this thread and up to `wanted` - 1 more, and wait for all of them. */
void kanserve_team_work(
    const void *problem, double *target, int64_t wanted, void (*work)(kanserve_team *team, int64_t thread));

/* The next piece of work, from 0 on, that nobody has. */
int64_t kanserve_team_next_chunk(kanserve_team *team);

/* Wait until all are here, then count pieces from 0 again. */
void kanserve_team_barrier(kanserve_team *team);

#endif
