/* How long a row takes: a robust estimate, which decides whether rows are computed on the loop's thread.
 *
 * A measured time is never too short, but it is too long whenever the thread lost its core meanwhile. So the estimate falls
 * to a shorter time at once, and rises only after several longer ones in a row, to the shortest of them. The clock of the
 * thread's CPU time would leave such waits out, but one look at it takes longer than a row: 580 ns here, 24 for now_ns().
 *
 * An estimate that is too long even so is corrected by trials: now and then rows that seem to take too long are computed on
 * the loop's thread all the same. */

#ifndef KANSERVE_ROW_TIME_H
#define KANSERVE_ROW_TIME_H

#include <stdint.h>

typedef struct {
    double nanoseconds; /* the estimate; at first a guess */
    double shortest;    /* of the longer times in a row */
    int32_t longer;     /* how many there are */
    int64_t next_trial; /* when rows may be tried again; 0: not decided */
} row_time;

/* Note that some rows took so many nanoseconds, on any thread. `budget`: what a request may take on the loop's thread. */
void row_time_note(row_time *time, int64_t rows, int64_t took, double budget);

/* The same, for rows that were computed on the loop's thread until `now`. */
void row_time_note_inline(row_time *time, int64_t rows, int64_t took, double budget, int64_t now);

/* Whether to compute a request on the loop's thread: it should fit the budget, or it is a trial. `writing`: nanoseconds that
 * its rows take besides. */
int row_time_allows(row_time *time, int64_t rows, double writing, double budget, int64_t now);

#endif
