/** Exports of the present network, asked for once each. */

import { effect, signal } from "@preact/signals";
import { call } from "./api";
import { fail, model, say, view } from "./store";
import type { Exported, ExportFile } from "./types";

export const FORMS: [format: string, name: string][] = [
  ["numpy_source", "NumPy"],
  ["c_source", "C"],
  ["onnx_graph", "ONNX"],
  ["latex", "LaTeX"],
];
export const CHECKED: typeof FORMS = [...FORMS.slice(0, 3), ["javascript_source", "JavaScript"]];

/** All forms, with what they are for. */
export const ALL: [format: string, name: string, about: string][] = [
  ["network", "Network", ".safetensors, to open again and to train on"],
  ["numpy_source", "NumPy", "one Python file"],
  ["c_source", "C", "no library"],
  ["onnx_graph", "ONNX", "for ONNX Runtime"],
  ["javascript_source", "JavaScript", "for a browser"],
  ["wasm_module", "WebAssembly", ""],
  ["latex", "LaTeX", "the formula"],
  ["python", "Steps", "Python that repeats them"],
];

export type Kept = Exported | { format: string; error: string } | "waiting";
export const exported = signal<Record<string, Kept>>({});
export const tab = signal("formula");

let revision = -1;
effect(() => {
  const now = view.value?.revision ?? -1;
  if (now !== revision) {
    revision = now;
    exported.value = {};
  }
});
effect(() => {
  if (!["formula", "text"].includes(tab.value) && view.value) void get(tab.value);
});

export async function get(format: string): Promise<void> {
  if (exported.peek()[format]) return;
  const asked = revision;
  exported.value = { ...exported.peek(), [format]: "waiting" };
  let kept: Kept;
  try {
    kept = await call<Exported>(`export/${format}`);
  } catch (error) {
    kept = { format, error: error instanceof Error ? error.message : String(error) };
  }
  if (asked === revision) exported.value = { ...exported.peek(), [format]: kept };
}

export async function checkAll() {
  for (const [format] of CHECKED) await get(format);
  say("The exports are checked.");
}

/** The file that a reader wants to see: the longest text of the format, of its sources alone. */
export function mainFile(one: Exported): ExportFile | undefined {
  const wanted = { c_source: /\.c$/, numpy_source: /\.py$/, javascript_source: /\.m?js$/ }[one.format];
  const texts = one.files.filter((file) => file.text !== null && (!wanted || wanted.test(file.path)));
  return texts.sort((a, b) => b.bytes - a.bytes)[0] ?? one.files[0];
}

export function download(file: ExportFile) {
  const data = file.text ?? Uint8Array.from(atob(file.base64!), (letter) => letter.charCodeAt(0));
  keep(new Blob([data]), file.path.split("/").pop()!);
}

/** The network as one HTML file that needs no server. */
export async function share() {
  try {
    const { html } = await call<{ html: string }>("share");
    keep(new Blob([html], { type: "text/html" }), `${model.value?.title || "network"}.html`);
    say("The page is saved as one HTML file.");
  } catch (error) {
    fail(error);
  }
}

/** Give a file to the browser to keep. */
export function keep(data: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
