/** The steps so far as the Python that repeats them, each with the loss after it; a click goes back to it. */

import { useState } from "preact/hooks";
import { number } from "./format";
import { busy, changes, edge, model, previewed, redo, say, undo, view } from "./store";

/** What simplifying has changed, one change after another. */
function Changes() {
  const { lines } = changes.value!;
  const [at, setAt] = useState(lines.length);
  return (
    <div class="changes">
      <label>
        <span class="quiet">
          change {at} of {lines.length}
        </span>
        <input type="range" min={1} max={lines.length} value={at} aria-valuetext={`change ${at} of ${lines.length}: ${lines[at - 1]}`} onInput={(event) => setAt(Number(event.currentTarget.value))} />
      </label>
      <p>{lines[at - 1]}</p>
    </div>
  );
}

export function Steps() {
  const now = view.value!;
  const [copied, setCopied] = useState(false);
  const history = now.snapshot.history;
  const name = previewed.value?.suggestion.function;
  const root = (loss: number | null) => (loss === null ? null : model.value!.classes.length ? loss : Math.sqrt(loss));
  const scale = now.measure.value !== null && root(now.snapshot.loss) ? now.measure.value / root(now.snapshot.loss)! : 1;
  const copy = async () => {
    await navigator.clipboard.writeText(now.python);
    setCopied(true);
    say("The steps are copied as Python.");
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <section class="section" aria-label="Steps">
      <div class="head">
        <h2>Steps</h2>
        <span class="quiet">the Python that repeats them</span>
        <span class="grow" />
        <button type="button" class="button small" onClick={copy}>
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
      <ol class="steps">
        <li class="first">
          <button type="button" disabled={!history.length || !!busy.value} onClick={() => undo(history.length)}>
            <i />
            <span class="hidden">Go back to the network as it was opened: </span>
            <code class="mono">session = kanserve.Session(kan, data)</code>
            <small>{number(now.first.value, 3)}</small>
          </button>
        </li>
        {history.map((done, n) => (
          <li key={n}>
            <button
              type="button"
              disabled={n === history.length - 1 || !!busy.value}
              title={done.step}
              onClick={() => undo(history.length - 1 - n)}
            >
              <i />
              <span class="hidden">Go back to this step: </span>
              <code class="mono">session.{done.step}</code>
              <small>{number((root(done.loss) ?? NaN) * scale, 3)}</small>
            </button>
          </li>
        ))}
        {now.snapshot.undone > 0 && (
          <li>
            <button type="button" disabled={!!busy.value} onClick={() => redo()}>
              <i style={{ background: "var(--frame)" }} />
              <span class="quiet">redo {now.snapshot.undone === 1 ? "the undone step" : `${now.snapshot.undone} undone steps`}</span>
            </button>
          </li>
        )}
        {name && edge.value && (
          <li class="now">
            <button type="button" disabled tabIndex={-1}>
              <i />
              <code class="mono">
                session.snap('{edge.value.name}', '{name}')
              </code>
              <small>preview</small>
            </button>
          </li>
        )}
      </ol>
      {changes.value?.at === now.revision && <Changes />}
    </section>
  );
}
