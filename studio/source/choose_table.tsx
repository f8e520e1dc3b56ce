/** The beginning without a network: drop a table, see its columns, choose what to learn from what, and fit. */

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { call } from "./api";
import { number, plural, whole } from "./format";
import { area } from "./shapes";
import { fail, refresh, resume, say, snapshot } from "./store";
import type { Column, Saved, Table } from "./types";

const table = signal<Table | null>(null);
const saved = signal<Saved | null>(null);
const recent = signal<Saved[]>([]);
const fault = signal("");
const opening = signal(false);
const MOST_BYTES = 120e6;

const EXAMPLES: [key: string, name: string, about: string][] = [
  ["houses", "Houses", "900 made-up prices by area, distance, energy class and year"],
  ["flowers", "Flowers", "three kinds by four lengths, made up after Fisher's irises"],
  ["pendulum", "Pendulum", "200 made-up periods: find the law"],
];

async function open(body: object) {
  opening.value = true;
  fault.value = "";
  try {
    const got = await call<{ table: Table; saved: Saved | null }>("table", body);
    [table.value, saved.value] = [got.table, got.saved];
    say(`${table.value.title} has ${plural(table.value.rows, "row")} and ${plural(table.value.columns.length, "column")}.`);
  } catch (error) {
    fault.value = error instanceof Error ? error.message : String(error);
  } finally {
    opening.value = false;
  }
}

async function openFile(file: File | undefined) {
  if (!file) return;
  if (/\.(parquet|pq|gz|xlsx?)$/i.test(file.name)) fault.value = `${file.name} is no text. Give its path below, or save it as CSV.`;
  else if (file.size > MOST_BYTES) fault.value = `${file.name} is larger than a page can send. Give its path below.`;
  else await open({ name: file.name, text: await file.text() });
}

export function ChooseTable() {
  useEffect(() => {
    void call<{ table: Table | null; saved: Saved | null; recent: Saved[] }>("table").then(
      (got) => ([table.value, saved.value, recent.value] = [got.table, got.saved, got.recent]),
      (error) => (fault.value = String(error.message)),
    );
  }, []);
  return (
    <main class="choose" id="main">
      {table.value ? <Columns key={table.value.title} table={table.value} /> : <Drop />}
      {(fault.value || snapshot.value?.trouble) && (
        <p class="fault" role="alert">
          {fault.value || snapshot.value?.trouble}
        </p>
      )}
    </main>
  );
}

function Drop() {
  const [over, setOver] = useState(false);
  const [path, setPath] = useState("");
  return (
    <>
      <h2>From a table to a formula</h2>
      <label
        class={`drop ${over ? "over" : ""}`}
        onDragOver={(event) => (event.preventDefault(), setOver(true))}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          void openFile(event.dataTransfer?.files[0]);
        }}
      >
        <b>{opening.value ? "≈ reading the table" : "Drop a CSV file here"}</b>
        <span class="quiet">or choose one. It stays on this machine.</span>
        <input type="file" accept=".csv,.tsv,.txt,text/csv" disabled={opening.value} onChange={(event) => void openFile(event.currentTarget.files?.[0])} />
      </label>
      <form
        class="path"
        onSubmit={(event) => {
          event.preventDefault();
          void open({ path });
        }}
      >
        <label>
          or its path on this machine, CSV or Parquet
          <input class="mono" value={path} placeholder="houses.csv" onInput={(event) => setPath(event.currentTarget.value)} />
        </label>
        <button type="submit" class="button" disabled={!path || opening.value}>
          Open
        </button>
      </form>
      {recent.value.length > 0 && (
        <>
          <h3>or go on with</h3>
          <div class="examples">
            {recent.value.map((one) => (
              <button type="button" key={one.path} class="example" title={one.path} disabled={opening.value} onClick={() => void open({ path: one.path }).then(() => (fault.value ? undefined : resume()))}>
                <b>{one.title}</b>
                <span class="quiet">{told(one)}</span>
              </button>
            ))}
          </div>
        </>
      )}
      <h3>or try one</h3>
      <div class="examples">
        {EXAMPLES.map(([key, name, about]) => (
          <button type="button" key={key} class="example" disabled={opening.value} onClick={() => void open({ example: key })}>
            <b>{name}</b>
            <span class="quiet">{about}</span>
          </button>
        ))}
      </div>
    </>
  );
}

/** What is kept, in words. */
export const told = (one: Saved) =>
  `${one.target ? `${one.target} from ${plural(one.inputs?.length ?? 0, "input")}, ` : ""}${plural(one.edges, "edge")}, ${plural(one.steps, "step")}, ${new Date(1000 * one.when).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}`;

const SIZES: [value: string, text: string][] = [
  ["", "no hidden nodes: a sum of curves"],
  ["1", "1 hidden node: a function of a sum of curves"],
  ["2", "2 hidden nodes"],
  ["5", "5 hidden nodes"],
  ["10", "10 hidden nodes"],
];

function Columns({ table: now }: { table: Table }) {
  const [target, setTarget] = useState(now.target);
  const [used, setUsed] = useState(() => new Set(now.columns.filter((one) => one.use).map((one) => one.name)));
  const [copies, setCopies] = useState<string[]>([]);
  const [classes, setClasses] = useState(false);
  const [hidden, setHidden] = useState("2");
  const [sending, setSending] = useState(false);
  const goal = now.columns.find((one) => one.name === target);
  useEffect(() => {
    if (goal) setClasses(goal.kind === "categories" || goal.classes);
    if (!target) return;
    void call<{ copies: string[] }>("table/copies", { target }).then(({ copies: found }) => {
      setCopies(found);
      setUsed((before) => new Set([...before].filter((name) => !found.includes(name))));
    }, fail);
  }, [target]);
  const inputs = now.columns.filter((one) => used.has(one.name) && one.name !== target);
  const missing = goal?.missing ?? 0;
  const send = async (event: Event) => {
    event.preventDefault();
    setSending(true);
    fault.value = "";
    try {
      const shape = hidden ? [Number(hidden)] : [];
      await call("table/fit", { target, inputs: inputs.map((one) => one.name), kind: classes ? "classification" : "regression", hidden: shape });
      table.value = null;
      await refresh();
    } catch (error) {
      fault.value = error instanceof Error ? error.message : String(error);
    } finally {
      setSending(false);
    }
  };
  const toggle = (one: Column) => setUsed((before) => new Set(before.has(one.name) ? [...before].filter((name) => name !== one.name) : [...before, one.name]));
  const say = (one: Column) => (copies.includes(one.name) ? `looks like a copy of ${target}` : one.note);
  return (
    <form onSubmit={send}>
      <div class="choose-head">
        <h2>
          {now.title}, {plural(now.rows, "row")}
        </h2>
        <span class="grow" />
        <button type="button" class="button small" onClick={() => (table.value = null)}>
          Another table
        </button>
      </div>
      {saved.value && (
        <p class="kept-bar">
          <span>Kept from before: {told(saved.value)}</span>
          <button type="button" class="button small" onClick={() => void resume()}>
            Resume
          </button>
        </p>
      )}
      <div class="choose-row">
        <label>
          learn
          <select value={target} onChange={(event) => setTarget(event.currentTarget.value)} aria-label="The column to learn">
            {now.columns
              .filter((one) => one.kind === "numbers" || one.kind === "categories")
              .map((one) => (
                <option key={one.name} value={one.name}>
                  {one.name}
                </option>
              ))}
          </select>
        </label>
        <span class="segments" role="group" aria-label="What the target is">
          <button type="button" aria-pressed={!classes} disabled={goal?.kind !== "numbers"} onClick={() => setClasses(false)}>
            as a number
          </button>
          <button type="button" aria-pressed={classes} onClick={() => setClasses(true)}>
            as classes
          </button>
        </span>
        <label>
          with
          <select value={hidden} onChange={(event) => setHidden(event.currentTarget.value)} aria-label="The size of the network">
            {SIZES.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <span class="grow" />
        <button type="submit" class="button main" disabled={sending || !inputs.length || !target}>
          {sending ? "≈ reading" : `Fit ${target} from ${plural(inputs.length, "input")}`}
        </button>
      </div>
      {goal?.classes && goal.kind === "numbers" && (
        <p class="quiet">
          {target} has {goal.different} different whole values. As classes the network gives a probability for each; as a number it gives a number between them.
        </p>
      )}
      {missing > 0 && (
        <p class="quiet">
          {plural(missing, "row")} without {target} {missing === 1 ? "is" : "are"} left out.
        </p>
      )}
      <div class="columns" tabIndex={0} role="group" aria-label="The columns">
        <table>
          <thead>
            <tr>
              <th scope="col">input</th>
              <th scope="col">column</th>
              <th scope="col">kind</th>
              <th scope="col">values</th>
              <th scope="col" class="right">
                missing
              </th>
              <th scope="col">note</th>
            </tr>
          </thead>
          <tbody>
            {now.columns.map((one) => (
              <tr key={one.name} class={one.name === target ? "target" : ""}>
                <td>
                  {one.name === target ? (
                    <b>target</b>
                  ) : (
                    <input
                      type="checkbox"
                      aria-label={`Use ${one.name} as an input`}
                      checked={used.has(one.name)}
                      disabled={one.kind === "dates" || one.kind === "constant"}
                      onChange={() => toggle(one)}
                    />
                  )}
                </td>
                <th scope="row">{one.name}</th>
                <td>{one.kind}</td>
                <td>
                  {one.density.length ? (
                    <span class="values">
                      <svg width="76" height="18" aria-hidden="true">
                        <path d={area(one.density, 76, 17)} fill="var(--snapped)" opacity=".35" />
                        <line x2="76" y1="17.5" y2="17.5" stroke="var(--frame)" />
                      </svg>
                      {number(one.low)} to {number(one.high)}
                    </span>
                  ) : (
                    <span title={one.samples.join(", ")}>
                      {one.samples.join(", ")}
                      {one.different > one.samples.length && `, ${whole(one.different)} in all`}
                    </span>
                  )}
                </td>
                <td class="right">{one.missing ? whole(one.missing) : ""}</td>
                <td class="why">{say(one)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {now.more_columns > 0 && <p class="quiet">and {plural(now.more_columns, "more column")}, which are not used.</p>}
      </div>
    </form>
  );
}
