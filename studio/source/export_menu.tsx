/** Every form of the network as a file: how large it is, how fast, whether it gives what the network gives. */

import { useEffect } from "preact/hooks";
import { ALL, download, exported, get } from "./exports";
import { bytes, number, plural } from "./format";
import type { Exported } from "./types";

const COMPILED = "wasm_module"; // by a compiler that few have, so only when it is asked for

export function ExportMenu() {
  useEffect(() => {
    let open = true;
    void (async () => {
      for (const [format] of ALL) if (open && format !== COMPILED) await get(format);
    })();
    return () => void (open = false);
  }, []);
  return (
    <table class="exports">
      <thead>
        <tr>
          <th scope="col">form</th>
          <th scope="col" class="right">size</th>
          <th scope="col" class="right">a row</th>
          <th scope="col">on the test rows</th>
          <th scope="col">
            <span class="hidden">Download</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {ALL.map(([format, name, about]) => {
          const kept = exported.value[format];
          const done = kept && kept !== "waiting" && !("error" in kept) ? kept : null;
          return (
            <tr key={format}>
              <th scope="row">
                <b>{name}</b> <span class="quiet">{about}</span>
              </th>
              <td class="right">{done ? bytes(done.files.reduce((sum, file) => sum + file.bytes, 0)) : kept === "waiting" ? "≈" : ""}</td>
              <td class="right">{done?.microseconds ? `${number(done.microseconds, 2)} µs` : ""}</td>
              <td class={done && done.largest_gap !== null ? "ok" : "quiet"}>
                {done ? checked(done) : kept && kept !== "waiting" ? (kept as { error: string }).error : ""}
              </td>
              <td class="right">
                <button
                  type="button"
                  class="button small"
                  disabled={!done && (format !== COMPILED || !!kept)}
                  title={done ? plural(done.files.length, "file") : ""}
                  onClick={() => (done ? done.files.forEach(download) : void get(format))}
                >
                  {done || format !== COMPILED ? "Download" : "Write"}
                  <span class="hidden"> {name}</span>
                </button>
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

const checked = (done: Exported) => (done.largest_gap === null ? done.note : done.largest_gap === 0 ? "the same ✓" : `gap ${done.largest_gap.toExponential(0).replace("-", "−")} ✓`);
