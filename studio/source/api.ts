/** Calls of the studio, over whatever brings them: HTTP in a page, messages of the kernel in a notebook. */

import type { StudioEvent } from "./types";

export class CallError extends Error {
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message);
  }
}

export interface Answer {
  status: number;
  data: unknown;
}

export interface Transport {
  /** The answer of a call, with a body by POST, without one by GET; CallError where nobody answers. */
  ask(path: string, body: unknown, signal?: AbortSignal): Promise<Answer>;
  /** Give `hear` every event from now on, null when the connection is lost; what it returns ends that. */
  listen(hear: (event: StudioEvent | null) => void): () => void;
}

let transport: Transport;

export const connect = (chosen: Transport) => (transport = chosen);
export const listen: Transport["listen"] = (hear) => transport.listen(hear);

export async function call<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const { status, data } = await transport.ask(path, body, signal);
  if (status === 200) return data as T;
  const { error, code } = (data ?? {}) as { error?: string; code?: string };
  throw new CallError(error ?? "The studio could not answer.", code ?? "");
}

export const edgePath = (name: string) => `edges/${encodeURIComponent(name)}`;
