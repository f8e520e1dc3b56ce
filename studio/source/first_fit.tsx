/** The first fit of a table: live progress, and a way to stop with the best network so far. */

import { number, plural } from "./format";
import { linear } from "./shapes";
import { cancelFit, chooseAgain, fitting, model, snapshot, trouble } from "./store";

export function FirstFit() {
  const now = fitting.value;
  const source = model.value!;
  const failed = snapshot.value?.trouble || (trouble.value && !now ? trouble.value : "");
  const trace = (now?.trace ?? []).filter((loss) => loss > 0);
  const logs = trace.map(Math.log);
  const sx = linear([0, Math.max(trace.length - 1, 1)], [0, 560]);
  const sy = linear([Math.min(...logs), Math.max(...logs, Math.min(...logs) + 0.1)], [86, 4]);
  return (
    <main class="first-fit" id="main">
      <h2>
        Fitting a network to {source.title}, {plural(source.total_rows, "row")}
      </h2>
      {failed ? (
        <>
          <p class="fault" role="alert">
            {failed}
          </p>
          {source.has_table && (
            <div>
              <button type="button" class="button main" onClick={() => void chooseAgain()}>
                Choose other columns
              </button>
            </div>
          )}
        </>
      ) : (
        <>
          <div class="progress" role="progressbar" aria-label="The fit" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * (now?.share ?? 0))}>
            <i style={{ width: `${100 * (now?.share ?? 0)}%` }} />
          </div>
          {trace.length > 1 && (
            <svg viewBox="0 0 560 90" role="img" aria-label={`The loss has come down to ${number(trace[trace.length - 1], 3)}.`}>
              <path d={logs.map((loss, n) => `${n ? "L" : "M"}${sx(n).toFixed(1)} ${sy(loss).toFixed(1)}`).join("")} fill="none" stroke="var(--snapped)" stroke-width="1.8" />
            </svg>
          )}
          <p>{now ? now.line.replace(/\s*\[[#.]*\]\s*/, ": ").replace(/ +(validation|\d+ s left)/g, ", $1") : "≈ starting"}</p>
          <div>
            <button type="button" class="button" onClick={() => cancelFit()}>
              Stop, keep the best so far
            </button>
          </div>
        </>
      )}
    </main>
  );
}
