#define _POSIX_C_SOURCE 200809L
#include "thread_team.h"

#include <stddef.h>

#define MOST_THREADS 64

typedef struct {
    kanserve_team *team;
    int64_t number;
    void (*work)(kanserve_team *, int64_t);
} member;

int64_t kanserve_team_next_chunk(kanserve_team *team)
{
    return atomic_fetch_add(&team->next, 1);
}

void kanserve_team_barrier(kanserve_team *team)
{
    if (team->threads == 1) {
        team->next = 0;
        return;
    }
    pthread_mutex_lock(&team->lock);
    if (++team->waiting == team->threads) {
        team->waiting = 0;
        team->next = 0;
        team->meetings++;
        pthread_cond_broadcast(&team->all_here);
    } else
        for (const uint64_t now = team->meetings; team->meetings == now;)
            pthread_cond_wait(&team->all_here, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

static void *run(void *given)
{
    member *own = given;
    pthread_mutex_lock(&own->team->lock); /* held until the number of threads is known */
    pthread_mutex_unlock(&own->team->lock);
    own->work(own->team, own->number);
    return NULL;
}

void kanserve_team_work(
    const void *problem, double *target, int64_t wanted, void (*work)(kanserve_team *team, int64_t thread))
{
    kanserve_team team = {.problem = problem, .target = target, .threads = 1};
    pthread_t threads[MOST_THREADS];
    member members[MOST_THREADS];
    if (wanted <= 1) {
        work(&team, 0);
        return;
    }
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.all_here, NULL);
    pthread_mutex_lock(&team.lock);
    for (int64_t t = 1; t < wanted && t < MOST_THREADS; t++) {
        members[t] = (member){&team, t, work};
        if (pthread_create(&threads[t], NULL, run, &members[t]) != 0)
            break; /* go on with fewer threads */
        team.threads++;
    }
    pthread_mutex_unlock(&team.lock);
    work(&team, 0);
    for (int64_t t = 1; t < team.threads; t++)
        pthread_join(threads[t], NULL);
    pthread_cond_destroy(&team.all_here);
    pthread_mutex_destroy(&team.lock);
}
