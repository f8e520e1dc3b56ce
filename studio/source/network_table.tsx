/** The network as a table: the way of a screen reader, and of whoever wants the numbers. */

import { number, percent } from "./format";
import { byShare, select, selected } from "./store";

export function NetworkTable() {
  return (
    <div class="canvas plain-table" tabIndex={0} role="region" aria-label="Table of the edges">
      <table>
        <caption class="hidden">The edges of the network, the largest share of the signal first</caption>
        <thead>
          <tr>
            {["edge", "function", "share"].map((head) => (
              <th scope="col">{head}</th>
            ))}
            <th scope="col" class="right">
              from
            </th>
            <th scope="col" class="right">
              to
            </th>
            <th scope="col">constants</th>
          </tr>
        </thead>
        <tbody>
          {byShare.value.map((edge) => (
            <tr key={edge.name}>
              <th scope="row">
                <button type="button" aria-pressed={selected.value === edge.name} onClick={() => select(edge.name)}>
                  <span class="hidden">Inspect the edge </span>
                  {edge.name.replace("->", " → ")}
                </button>
              </th>
              <td>{edge.function ? `${edge.function}${edge.spline ? " + spline" : ""}` : "free spline"}</td>
              <td>{percent(edge.share)}</td>
              <td class="right">{number(edge.low)}</td>
              <td class="right">{number(edge.high)}</td>
              <td>{edge.constants.map((value, n) => `${"abcd"[n]} = ${number(value)}`).join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
