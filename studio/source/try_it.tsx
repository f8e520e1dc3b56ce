/** Ask a server for the prediction at the sliders, and show its answer beside the page's. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { call } from "./api";
import { number, percent } from "./format";
import { model, predicted, say, served, view } from "./store";
import type { Num } from "./types";

interface Asked {
  version: number;
  values: Num[];
  milliseconds: number;
}

const address = signal("");
/** How the server is reached, while the page is open: a token is kept nowhere else. */
const access = signal({ tls: false, authority: "", token: "" });
const AS_GOOD = 1e-6; // relative: single precision

export function TryIt({ row }: { row: Record<string, number | string | null> }) {
  const [answer, setAnswer] = useState<Asked | null>(null);
  const [fault, setFault] = useState("");
  const [waiting, setWaiting] = useState(false);
  const at = address.value || served.value?.server || "localhost:8001";
  const ask = async (event: Event) => {
    event.preventDefault();
    setFault("");
    setAnswer(null);
    setWaiting(true);
    try {
      const got = await call<Asked>("ask", { server: at.trim(), row, ...access.value, authority: access.value.tls ? access.value.authority : "" });
      setAnswer(got);
      say(`Version ${got.version} of the server answers ${got.values.map((value) => number(value)).join(", ")}.`);
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
    } finally {
      setWaiting(false);
    }
  };
  const change = (part: Partial<typeof access.value>) => (access.value = { ...access.value, ...part });
  const classes = model.value!.classes;
  const now = view.value!;
  const show = (value: Num) => (classes.length ? percent(value ?? 0) : number(value, 6));
  const same = (a: Num, b: Num) => a !== null && b !== null && Math.abs(a - b) <= AS_GOOD * Math.max(Math.abs(a), Math.abs(b), 1e-12);
  return (
    <form onSubmit={ask} class="try">
      <label>
        The gRPC address of a server that has the model
        <input class="mono" value={at} required onInput={(event) => (address.value = event.currentTarget.value)} />
      </label>
      <details open={access.value.tls || access.value.token !== ""}>
        <summary>TLS and a token</summary>
        <label class="inline">
          <input type="checkbox" checked={access.value.tls} onChange={(event) => change({ tls: event.currentTarget.checked })} /> The server has TLS
        </label>
        <label>
          The file of the authority that signed its certificate, if your system does not know it
          <input class="mono" disabled={!access.value.tls} value={access.value.authority} onInput={(event) => change({ authority: event.currentTarget.value })} />
        </label>
        <label>
          The token, if it asks for one
          <input class="mono" type="password" autocomplete="off" value={access.value.token} onInput={(event) => change({ token: event.currentTarget.value })} />
        </label>
      </details>
      <p class="fault" role="alert">
        {fault}
      </p>
      {answer && (
        <table data-testid="asked">
          <thead>
            <tr>
              <th scope="col" />
              <th scope="col" class="right">this page</th>
              <th scope="col" class="right">the server, v{answer.version}</th>
              <th scope="col" />
            </tr>
          </thead>
          <tbody>
            {answer.values.map((value, q) => {
              const own = predicted.value?.value[q] ?? null;
              return (
                <tr key={q}>
                  <th scope="row">{classes[q] ?? now.nodes[now.arity.length][q].name}</th>
                  <td class="right">{show(own)}</td>
                  <td class="right">{show(value)}</td>
                  <td class={same(own, value) ? "ok" : ""}>{same(own, value) ? "the same ✓" : "differs: the page has steps since, or the server another version"}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
      <div class="row">
        <span class="quiet grow">{answer && `answered in ${number(answer.milliseconds, 2)} ms`}</span>
        <button type="submit" class="button" disabled={waiting}>
          {waiting ? "≈ asking" : "Ask the server"}
        </button>
      </div>
    </form>
  );
}
