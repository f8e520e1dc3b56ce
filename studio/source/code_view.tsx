/** The real text of an export, to read, to copy and to download. */

import { useState } from "preact/hooks";
import { download, exported, mainFile } from "./exports";
import { bytes, number, plural } from "./format";
import { say } from "./store";

const SHOWN = 60_000; // characters

export function CodeView({ format }: { format: string }) {
  const kept = exported.value[format];
  const [copied, setCopied] = useState(false);
  if (!kept || kept === "waiting") return <p class="empty" role="status">≈ writing and checking it</p>;
  if ("error" in kept) return <p class="empty">{kept.error}</p>;
  const file = mainFile(kept);
  if (!file) return <p class="empty">This format has no file.</p>;
  const copy = async () => {
    await navigator.clipboard.writeText(file.text ?? "");
    setCopied(true);
    say(`${file.path} is copied.`);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <>
      <div class="row bar-of-file">
        <span class="mono">{file.path}</span>
        <span class="quiet">
          {bytes(file.bytes)}
          {kept.files.length > 1 && `, ${plural(kept.files.length, "file")} in all`}
          {kept.largest_gap !== null && `, largest gap ${number(kept.largest_gap, 2)}`}
        </span>
        <span class="grow" />
        {file.text !== null && (
          <button type="button" class="button small" onClick={copy}>
            {copied ? "Copied" : "Copy"}
          </button>
        )}
        <button type="button" class="button small" onClick={() => kept.files.forEach(download)}>
          Download
        </button>
      </div>
      {file.text !== null ? (
        <pre class="code mono" tabIndex={0} aria-label={`The text of ${file.path}`}>
          {file.text.length > SHOWN ? `${file.text.slice(0, SHOWN)}\n… ${bytes(file.text.length - SHOWN)} more: copy or download it` : file.text}
        </pre>
      ) : (
        <p class="empty">
          {file.path} is not text. {kept.note || "It gives what the network gives on the test rows."}
        </p>
      )}
    </>
  );
}
