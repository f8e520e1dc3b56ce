// Builds the studio into kanserve/studio/static: the bundle, which is the page's and the notebook widget's, style sheets,
// fonts and licenses.

import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const out = join(here, "..", "kanserve", "studio", "static");
const FONTS = {
  "inter-latin.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  "inter-greek.woff2": "@fontsource-variable/inter/files/inter-greek-wght-normal.woff2",
  "jetbrains-mono.woff2": "@fontsource/jetbrains-mono/files/jetbrains-mono-latin-400-normal.woff2",
};
const BUNDLED = ["preact", "@preact/signals", "@preact/signals-core", "katex", "@fontsource-variable/inter", "@fontsource/jetbrains-mono"];

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "fonts"), { recursive: true });

const common = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning", write: false };
const bundle = await build({
  ...common,
  entryPoints: [join(here, "source", "studio.tsx")],
  format: "iife",
  globalName: "studio",
  jsx: "automatic",
  jsxImportSource: "preact",
});
// Each studio of a page has a state of its own, so the bundle is a function that makes one. anywidget calls `render`.
writeFileSync(
  join(out, "studio.js"),
  `export const make = () => {\n${bundle.outputFiles[0].text}return studio;\n};\n` +
    "export default { render: (context) => make().openWidget(context) };\n",
);
const page = await build({ ...common, entryPoints: [join(here, "source", "page.ts")], format: "esm", external: ["./studio.js"] });
writeFileSync(join(out, "page.js"), page.outputFiles[0].text);

const katexFonts = join(modules, "katex", "dist", "fonts");
for (const name of readdirSync(katexFonts).filter((name) => name.endsWith(".woff2")))
  cpSync(join(katexFonts, name), join(out, "fonts", name));
for (const [name, path] of Object.entries(FONTS)) cpSync(join(modules, path), join(out, "fonts", name));

// KaTeX offers three formats of each font; every browser that runs the page reads woff2.
const katex = readFileSync(join(modules, "katex", "dist", "katex.min.css"), "utf8").replace(
  /,url\(fonts\/[^)]*\.(woff|ttf)\) format\("[^"]*"\)/g,
  "",
);
const own = await build({ stdin: { contents: readFileSync(join(here, "source", "page.css"), "utf8"), loader: "css" }, minify: true, write: false });
writeFileSync(join(out, "katex.css"), katex);
writeFileSync(join(out, "studio.css"), own.outputFiles[0].text);
cpSync(join(here, "source", "index.html"), join(out, "index.html"));

const notes = BUNDLED.map((name) => {
  const folder = join(modules, name);
  const { version, license, homepage } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} has no license file`);
  return `${name} ${version}, ${license}${homepage ? `, ${homepage}` : ""}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(out, "THIRD_PARTY_LICENSES.txt"), notes.join(`\n${"-".repeat(80)}\n\n`));
