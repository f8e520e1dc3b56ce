/** Calls as messages of a notebook's kernel, over the model of an anywidget. */

import { CallError, type Answer, type Transport } from "./api";
import type { StudioEvent } from "./types";

/** What is used of the model that anywidget gives. */
export interface Model {
  get(name: string): unknown;
  send(content: unknown): void;
  on(name: string, heard: (content: Message) => void): void;
  off(name: string, heard: (content: Message) => void): void;
}

interface Message {
  id?: string;
  status?: number;
  data?: unknown;
  event?: StudioEvent;
}

const PATIENCE = 10_000; // ms for the first answer; a kernel that is busy answers later

export function comm(model: Model, told: (text: string) => void): Transport {
  const own = Math.random().toString(36).slice(2); // two views of one model hear the same messages
  const waiting = new Map<string, (answer: Answer) => void>();
  let count = 0;
  let hear: ((event: StudioEvent | null) => void) | null = null;
  let late: ReturnType<typeof setTimeout> | undefined = setTimeout(
    () => told("The kernel does not answer. It may be busy with a cell; if it was restarted, run this cell again."),
    PATIENCE,
  );
  const heard = (content: Message) => {
    if (content.event) hear?.(content.event);
    if (content.id === undefined || !waiting.has(content.id)) return;
    if (late !== undefined) {
      clearTimeout(late);
      late = undefined;
      told("");
    }
    waiting.get(content.id)!({ status: content.status ?? 500, data: content.data });
    waiting.delete(content.id);
  };
  model.on("msg:custom", heard);

  const ask: Transport["ask"] = (path, body, signal) =>
    new Promise((resolve, reject) => {
      const id = `${own}.${count++}`;
      signal?.addEventListener("abort", () => {
        waiting.delete(id);
        reject(new DOMException("aborted", "AbortError"));
      });
      waiting.set(id, resolve);
      try {
        model.send({ id, method: body === undefined ? "GET" : "POST", path, body: body ?? {} });
      } catch {
        waiting.delete(id);
        reject(new CallError("The kernel is gone. Run this cell again.", "unreachable"));
      }
    });

  const listen: Transport["listen"] = (listener) => {
    hear = listener;
    listener({ kind: "connected" });
    return () => {
      clearTimeout(late);
      model.off("msg:custom", heard);
      hear = null;
    };
  };

  return { ask, listen };
}
