#include "row_time.h"

/* Longer times in a row before the estimate rises. Of a thousand calls at most one is interrupted, even if the core is
 * taken away every few milliseconds, so four in a row are not chance. A model that really is slow holds up the loop in as
 * many calls. */
#define LONGER 4

/* A trial that takes a millisecond is followed by none for a second: at most a thousandth of the calls of other models
 * wait for one. Less would hardly be noticed, and an estimate would stay wrong for longer. */
#define TRIAL_PAUSE 1000.0

/* Budgets, with 0.2 ms 10 ms: requests that should take longer are no trials, as other callers would notice them. For the
 * same reason rows count for no more when the estimate rises: a request of as many rows can still be tried. */
#define LONGEST_TRIAL 50.0

void row_time_note(row_time *time, int64_t rows, int64_t took, double budget)
{
    double each = (double)took / (double)rows, most = LONGEST_TRIAL * budget / (double)rows;
    if (each <= time->nanoseconds) {
        time->nanoseconds = each;
        time->longer = 0;
        return;
    }
    if (each > most) each = most > time->nanoseconds ? most : time->nanoseconds;
    if (time->longer == 0 || each < time->shortest) time->shortest = each;
    if (++time->longer < LONGER) return;
    time->nanoseconds = time->shortest;
    time->longer = 0;
}

void row_time_note_inline(row_time *time, int64_t rows, int64_t took, double budget, int64_t now)
{
    row_time_note(time, rows, took, budget);
    time->next_trial = (double)took > budget ? now + (int64_t)(TRIAL_PAUSE * (double)took) : 0;
}

int row_time_allows(row_time *time, int64_t rows, double writing, double budget, int64_t now)
{
    double computing = (double)rows * time->nanoseconds, besides = (double)rows * writing;
    if (computing + besides <= budget) return 1;
    if (besides > budget || computing > LONGEST_TRIAL * budget) return 0;
    if (!time->next_trial) time->next_trial = now + (int64_t)(TRIAL_PAUSE * computing);
    return now >= time->next_trial;
}
