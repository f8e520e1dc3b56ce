/** Calls of the server. The token comes from the fragment of the address, which browsers do not send. */

import type { StudioEvent } from "./types";

const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

export class CallError extends Error {
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message);
  }
}

export async function call<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { "X-Kanserve-Token": token };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(`/api/${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new CallError("The studio does not answer. Is its command still running?", "unreachable");
  }
  const found = await response.json();
  if (!response.ok) throw new CallError(found.error ?? "The studio could not answer.", found.code ?? "");
  return found as T;
}

export const edgePath = (name: string) => `edges/${encodeURIComponent(name)}`;

/** Listen for events until the page goes; `hear` gets null when the connection is lost, before it is made again. */
export async function listen(hear: (event: StudioEvent | null) => void): Promise<never> {
  for (;;) {
    try {
      const response = await fetch("/api/events", { headers: { "X-Kanserve-Token": token }, cache: "no-store" });
      if (!response.ok || !response.body) throw new Error("refused");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      hear({ kind: "connected" });
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop() ?? "";
        for (const part of parts) if (part.startsWith("data: ")) hear(JSON.parse(part.slice(6)));
      }
    } catch {
      // told below
    }
    hear(null);
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}
