/** What the bundle offers: the page in a window of its own, and the same in a cell of a notebook. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { connect, type Transport } from "./api";
import { comm, type Model } from "./comm_transport";
import { http } from "./http_transport";
import { listenForKeys } from "./keys";
import { Page } from "./main";
import { shared, type Shared } from "./shared_transport";
import { start, theme, trouble } from "./store";
import { settle } from "./surroundings";

/** Show the studio in an element; what it returns ends that. */
function mount(element: HTMLElement, root: Document | ShadowRoot, transport: Transport): () => void {
  settle({ root, element });
  connect(transport);
  element.classList.add("studio");
  const ends = [effect(() => void (element.dataset.theme = theme.value)), listenForKeys(root instanceof Document ? root : element)];
  render(<Page />, element);
  ends.push(start(), () => render(null, element));
  return () => ends.forEach((end) => end());
}

const kept = "kanserve-studio-theme";

export function openPage(element: HTMLElement): () => void {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  theme.value = localStorage.getItem(kept) ?? theme.value;
  const end = mount(element, document, http(token));
  const system = matchMedia("(prefers-color-scheme: dark)");
  let first = theme.peek();
  const follow = () => {
    if (localStorage.getItem(kept) === null) theme.value = first = system.matches ? "dark" : "light";
  };
  system.addEventListener("change", follow);
  const still = effect(() => void (theme.value !== first && localStorage.setItem(kept, theme.value)));
  return () => (system.removeEventListener("change", follow), still(), end());
}

/** A page that was saved, which shows a network and moves its sliders. */
export const openShared = (element: HTMLElement, data: Shared): (() => void) => mount(element, document, shared(data));

/** A view of an anywidget's model; its styles and those of the notebook do not reach each other. */
export function openWidget({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const host = document.createElement("div");
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take 0, J, K and Enter for its own
  const root = host.attachShadow({ mode: "open" });
  const styles = document.createElement("style");
  styles.textContent = String(model.get("styles"));
  const element = document.createElement("div");
  element.classList.add("cell");
  element.tabIndex = -1;
  element.style.setProperty("--height", `${Number(model.get("height"))}px`);
  root.append(styles, element);
  addFont(model.get("font"));
  el.append(host);
  const notebook = new MutationObserver(() => (theme.value = themeOfNotebook()));
  notebook.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-vscode-theme-kind"] });
  theme.value = themeOfNotebook();
  const end = mount(element, root, comm(model, (text) => (trouble.value = text)));
  return () => (notebook.disconnect(), end(), host.remove());
}

/** Fonts belong to the document, also those of a shadow root; the name is our own, so nothing else changes. */
function addFont(data: unknown) {
  const name = "Kanserve Inter";
  const known = [...document.fonts].some((face) => face.family.replace(/"/g, "") === name);
  if (!(data instanceof DataView) || known) return;
  document.fonts.add(new FontFace(name, data as DataView<ArrayBuffer>, { weight: "100 900" })); // a message is not shared memory
}

/** The theme of JupyterLab, of VS Code, or of the browser. */
function themeOfNotebook(): "light" | "dark" {
  const body = document.body;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false" ? "dark" : "light";
  if (/vscode-(light|dark|high-contrast)/.test(body.className)) return /vscode-(dark|high-contrast(?!-light))/.test(body.className) ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
