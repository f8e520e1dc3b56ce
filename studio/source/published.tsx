/** What to do with a published version: serve it, and ask it for the prediction at the sliders. */

import { useState } from "preact/hooks";
import { clientRow, model, say, view } from "./store";
import { TryIt } from "./try_it";

const quoted = (text: string) => `'${text.replace(/'/g, "'\\''")}'`;

function ways(folder: string, name: string, version: number | null): [string, string][] {
  const values = clientRow();
  const body = JSON.stringify({ inputs: [{ name: "x", datatype: "FP64", shape: [1, values.length], data: [values] }] });
  const names = JSON.stringify(view.value!.nodes[0].map((node) => node.name));
  const rows = `rows = pd.DataFrame([${JSON.stringify(values).replace(/null/g, "None")}], columns=${names})`;
  return [
    ["Serve", `kanserve serve ${quoted(folder)} --port 8001 --http-port 8002`],
    ["curl", `curl -s localhost:8002/v2/models/${name}/infer -H 'Content-Type: application/json' -d ${quoted(body)}`],
    ["Python client", `import kanserve\nimport pandas as pd\n\n${rows}\nwith kanserve.Client("localhost:8001") as client:\n    print(client.predict("${name}", rows))`],
    ["Without a server", `import kanserve\nimport pandas as pd\n\n${rows}\nmodel = kanserve.load_model(${JSON.stringify(`${folder}/${name}`)})\nprint(model.predict(rows))`],
    ["C", `kanserve export ${quoted(`${folder}/${name}/${version}/kan.safetensors`)} --formats c_source --name ${name} --out ${name}_c`],
  ];
}

const TRY = "Try it";

export function Published({ close }: { close: () => void }) {
  const source = model.value!;
  const all = [...ways(source.repository, source.name, source.published), [TRY, ""]];
  const [chosen, setChosen] = useState(0);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(all[chosen][1]);
    setCopied(true);
    say(`${all[chosen][0]} is copied.`);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <>
      <p>
        {source.name}, version {source.published}, is in <code class="mono">{source.repository}</code>. Ask it at the values of the sliders:
      </p>
      <div class="segments" role="group" aria-label="Ways to use it">
        {all.map(([name], n) => (
          <button type="button" key={name} aria-pressed={n === chosen} onClick={() => setChosen(n)}>
            {name}
          </button>
        ))}
      </div>
      {all[chosen][0] === TRY ? (
        <TryIt row={Object.fromEntries(clientRow().map((value, i) => [view.value!.nodes[0][i].name, value]))} />
      ) : (
        <pre class="code wrapped mono" tabIndex={0} aria-label={all[chosen][0]}>
          {all[chosen][1]}
        </pre>
      )}
      <div class="row">
        {all[chosen][0] !== TRY && (
          <button type="button" class="button" onClick={() => void copy()}>
            {copied ? "Copied" : "Copy"}
          </button>
        )}
        <button type="button" class="button main" onClick={close}>
          Done
        </button>
      </div>
    </>
  );
}
