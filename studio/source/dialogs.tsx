/** Dialogs: publish a version, write a function, and the list of keys. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { number, plural, spoken } from "./format";
import { busy, dialog, judged, model, publish, selected, snapshot, view, writeOwn } from "./store";
import { ExportMenu } from "./export_menu";
import { Published } from "./published";
import { focused } from "./surroundings";

function Dialog({ title, children, wide }: { title: string; children: ComponentChildren; wide?: boolean }) {
  const place = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const before = focused();
    place.current!.showModal();
    return () => before?.focus();
  }, []);
  return (
    <dialog ref={place} class={wide ? "wide" : ""} aria-labelledby="dialog-title" onClose={() => (dialog.value = "")} onKeyDown={(event) => event.stopPropagation()}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

const close = () => (dialog.value = "");

export function Dialogs() {
  switch (dialog.value) {
    case "publish":
      return <Publish />;
    case "export":
      return (
        <Dialog title="Export" wide>
          <ExportMenu />
          <div class="row">
            <button type="button" class="button main" autoFocus onClick={close}>
              Done
            </button>
          </div>
        </Dialog>
      );
    case "own":
      return <Own />;
    case "keys":
      return <Keys />;
    default:
      return null;
  }
}

function Publish() {
  const source = model.value!;
  const now = view.value!;
  const [fault, setFault] = useState("");
  const [done, setDone] = useState(false);
  const [name, setName] = useState(source.name || "model");
  const [folder, setFolder] = useState(source.repository || "models");
  const knows = source.repository !== "";
  const own = snapshot.value!.own_functions;
  const measured = source.drawn ? "without data, its fit is not measured" : `${judged.value} ${now.measure.kind} ${number(now.measure.value)}`;
  const send = async (event: Event) => {
    event.preventDefault();
    setFault("");
    const failed = await publish(folder.trim(), name.trim());
    if (failed) setFault(failed);
    else setDone(true);
  };
  if (done)
    return (
      <Dialog title={`Version ${source.published} is published`}>
        <Published close={close} />
      </Dialog>
    );
  return (
    <Dialog title={`Publish version ${source.next_version}`}>
      <form onSubmit={send}>
        <p>
          {source.name && knows ? `${source.name}, ` : ""}
          {plural(now.edges, "edge")}, {measured}. {knows ? `It becomes the next version in ${source.repository}. ` : ""}Published versions never change.
        </p>
        {!knows && (
          <label>
            The folder that it is published in; it is made if it is not there
            <input class="mono" value={folder} required autoFocus onInput={(event) => setFolder(event.currentTarget.value)} />
          </label>
        )}
        {!(source.name && knows) && (
          <label>
            The model's name: lower-case letters, digits, - and _
            <input class="mono" value={name} required onInput={(event) => setName(event.currentTarget.value)} />
          </label>
        )}
        <p>ONNX, C and NumPy are written and each is compared with the network first.</p>
        {own.length > 0 && (
          <p>
            It has {own.length === 1 ? "a function of your own" : "functions of your own"}, {own.join(", ")}: a server registers {own.length === 1 ? "it" : "them"} by
            kanserve.register_function before it loads this version.
          </p>
        )}
        <p class="fault" role="alert">
          {fault}
        </p>
        <div class="row">
          <button type="button" class="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="button main" disabled={!!busy.value}>
            {busy.value ? "Publishing" : `Publish v${source.next_version}`}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Own() {
  const [fault, setFault] = useState("");
  const [name, setName] = useState("own1");
  const [formula, setFormula] = useState("");
  const [waiting, setWaiting] = useState(false);
  const send = async (event: Event) => {
    event.preventDefault();
    setFault("");
    setWaiting(true);
    const failed = await writeOwn(name, formula);
    setWaiting(false);
    if (failed) setFault(failed);
    else close();
  };
  return (
    <Dialog title={`A function for ${spoken(selected.value)}`}>
      <form onSubmit={send}>
        <p>Write f in x. The edge becomes the closest c·f(a·x + b) + d. A power is x^2. There are sin, cos, tan, exp, log, sqrt, tanh, abs and more.</p>
        <label>
          f(x) =
          <input class="mono" value={formula} placeholder="x/(1 + x^2)" required autoFocus onInput={(event) => setFormula(event.currentTarget.value)} />
        </label>
        <label>
          Its name, up to 12 letters and digits
          <input class="mono" value={name} required maxLength={12} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <p class="fault mono" role="alert" style={{ whiteSpace: "pre-wrap" }}>
          {fault}
        </p>
        <div class="row">
          <button type="button" class="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="button main" disabled={waiting}>
            {waiting ? "≈ trying it" : "Try it"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

const KEYS: [string, string][] = [
  ["J, K", "the next edge, the edge before, by share of the signal"],
  ["↑, ↓", "preview the candidate before, the next one"],
  ["Enter", "snap the edge to the previewed candidate"],
  ["Backspace", "replace the function of a snapped edge by a spline that equals it"],
  ["0", "set the edge to zero"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
  ["arrows, Page Up, Page Down, Home, End", "change the value of a slider, or move over a map of edges, where Enter selects"],
  ["?", "this list"],
];

const WORDS: [string, string][] = [
  ["edge", "a curve of one input, or of a hidden node; the network adds them up"],
  ["share", "how much of what the network says goes through an edge, from the spread of its values on the rows"],
  ["free spline", "a curve as it was fitted, s with a number in the formula"],
  ["snap", "replace a curve by a named function, c·f(a·x + b) + d"],
  ["prune", "remove edges that the rows do not need"],
  ["validation", "measured on rows that no fit has seen"],
  ["RMSE", "the typical error of a prediction, in the unit of the target"],
  ["size", "how complex a formula or a function is: its constants, variables and operations, weighted"],
];

function Keys() {
  return (
    <Dialog title="Keys and words">
      <table>
        <tbody>
          {KEYS.map(([key, what]) => (
            <tr>
              <th scope="row" style={{ whiteSpace: "normal", width: "46%", lineHeight: "20px", paddingRight: "14px" }}>
                {key.split(", ").map((one, n) => (
                  <>
                    {n > 0 && " "}
                    <kbd>{one}</kbd>
                  </>
                ))}
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <h3>Words</h3>
      <dl>
        {WORDS.map(([word, what]) => (
          <>
            <dt>{word}</dt>
            <dd>{what}</dd>
          </>
        ))}
      </dl>
      <p class="quiet">kanserve {snapshot.value?.model.kanserve}</p>
      <div class="row">
        <button type="button" class="button" onClick={close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
