/** The constants of named functions: to set, or to round at a price that is said before. */

import { change, changeMark, number, spoken } from "./format";
import { busy, constants, hovered, select, setConstant, tried } from "./store";
import type { Constant } from "./types";

/** A constant as its field shows it: at most ten characters, which fit. */
function typed(value: number): string {
  const text = String(Number(value.toPrecision(6)));
  return text.length > 10 ? Number(value.toPrecision(5)).toExponential().replace("e+", "e") : text;
}

const dragged = (one: Constant) => (tried.value?.edge === one.edge && tried.value.constant === one.constant ? tried.value.value : null);

export function ConstantsTable() {
  const all = constants.value;
  if (!all) return <p class="empty">≈ reading the constants</p>;
  if (!all.length) return <p class="empty">Constants appear here as edges are snapped to functions: each with its standard error, and a simpler number with its price.</p>;
  return (
    <div class="constants">
      <table>
        <thead>
          <tr>
            <th scope="col">constant</th>
            <th scope="col">value</th>
            <th scope="col" title="Twice the standard error on the training rows, the splines as they are">
              ± 2 s.e.
            </th>
            <th scope="col">round to</th>
            <th scope="col" class="right">
              RMSE change
            </th>
          </tr>
        </thead>
        <tbody>
          {all.map((one) => (
            <tr
              key={`${one.edge} ${one.constant}`}
              class={hovered.value === one.edge ? "lit" : ""}
              onPointerEnter={() => (hovered.value = one.edge)}
              onPointerLeave={() => (hovered.value = "")}
            >
              <td>
                <button type="button" style={{ minHeight: "24px" }} onClick={() => select(one.edge)}>
                  <span class="hidden">Inspect the edge of </span>
                  {one.constant === "d" ? `${one.edge.split("->")[1]}, constant term` : one.edge.replace("->", " → ")} <b>{one.constant === "d" ? "" : one.constant}</b>
                </button>
              </td>
              <td>
                <input
                  key={`${one.value} ${dragged(one)}`}
                  aria-label={`${one.constant} of ${spoken(one.edge)}`}
                  inputMode="decimal"
                  defaultValue={typed(dragged(one) ?? one.value)}
                  disabled={!!busy.value}
                  onKeyDown={(event) => {
                    event.stopPropagation();
                    if (event.key === "Enter") event.currentTarget.blur();
                    if (event.key === "Escape") event.currentTarget.value = typed(one.value);
                  }}
                  onBlur={(event) => {
                    const value = Number(event.currentTarget.value.replace(",", ".").replace("−", "-"));
                    if (Number.isFinite(value) && value !== Number(typed(one.value))) void setConstant(one.edge, one.constant, value - one.shift);
                  }}
                />
              </td>
              <td title={one.error === null ? "The rows do not determine this constant alone: another one can make up for it" : undefined}>
                {one.error === null ? "–" : number(2 * one.error, 2)}
              </td>
              <td>
                {one.nice && one.nice_value !== null ? (
                  <button
                    type="button"
                    class={`chip ${changeMark(one.nice_change) === "worse" && (one.nice_change ?? 0) > 0.02 ? "dear" : ""}`}
                    disabled={!!busy.value}
                    onClick={() => setConstant(one.edge, one.constant, one.nice_value! - one.shift)}
                  >
                    <span class="hidden">{`Round ${one.constant} of ${spoken(one.edge)} to `}</span>
                    {one.nice.replace(/-/g, "−")}
                  </button>
                ) : (
                  <span class="quiet">–</span>
                )}
              </td>
              <td class={`right ${one.nice ? changeMark(one.nice_change) : ""}`}>{one.nice ? change(one.nice_change) : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
