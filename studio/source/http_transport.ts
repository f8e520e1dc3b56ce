/** Calls over HTTP. The token comes from the fragment of the address, which browsers do not send. */

import { CallError, type Transport } from "./api";

export function http(token: string): Transport {
  const ask: Transport["ask"] = async (path, body, signal) => {
    const headers: Record<string, string> = { "X-Kanserve-Token": token };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      const response = await fetch(`/api/${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
      });
      return { status: response.status, data: await response.json() };
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new CallError("The studio does not answer. Is its command still running?", "unreachable");
    }
  };

  const listen: Transport["listen"] = (hear) => {
    const end = new AbortController();
    void (async () => {
      while (!end.signal.aborted) {
        try {
          const response = await fetch("/api/events", { headers: { "X-Kanserve-Token": token }, cache: "no-store", signal: end.signal });
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
        if (end.signal.aborted) return;
        hear(null);
        await new Promise((resolve) => setTimeout(resolve, 1500));
      }
    })();
    return () => end.abort();
  };

  return { ask, listen };
}
