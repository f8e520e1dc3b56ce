/** Each exported form beside the network: its size, the largest gap on the test rows, the time of a row. */

import { CHECKED, checkAll, exported } from "./exports";
import { bytes, number } from "./format";

export function ExportCheck() {
  const waiting = CHECKED.some(([format]) => exported.value[format] === "waiting");
  return (
    <section class="section" aria-label="Export check">
      <div class="head">
        <h2>Export check</h2>
        <span class="quiet">on the test rows</span>
        <span class="grow" />
        <button type="button" class="button small" disabled={waiting} onClick={() => checkAll()}>
          {waiting ? "Checking" : "Check"}
        </button>
      </div>
      <div class="checks">
        <table>
          <caption class="hidden">Exports and how far they are from the network</caption>
          <tbody>
            {CHECKED.map(([format, name]) => {
              const kept = exported.value[format];
              const done = kept && kept !== "waiting" && !("error" in kept) ? kept : null;
              return (
                <tr key={format}>
                  <th scope="row" style={{ color: "var(--ink)", fontSize: "12px" }}>
                    {name}
                  </th>
                  <td>{done ? bytes(done.files.reduce((sum, file) => sum + file.bytes, 0)) : kept === "waiting" ? "≈" : ""}</td>
                  <td>{done?.microseconds ? `${number(done.microseconds, 2)} µs a row` : ""}</td>
                  <td class={`right ${done?.largest_gap !== null && done ? "ok" : "why"}`}>
                    {done
                      ? done.largest_gap !== null
                        ? `gap ${done.largest_gap === 0 ? "0" : done.largest_gap.toExponential(0).replace("-", "−")} ✓`
                        : done.note || "not run here"
                      : kept && kept !== "waiting"
                        ? (kept as { error: string }).error
                        : "not checked"}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}
