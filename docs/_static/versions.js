// The other versions of this site: .ci/docs_site.py puts their list here when it puts several versions side by side.
const VERSIONS = [];

addEventListener("DOMContentLoaded", () => {
  if (!VERSIONS.length) return;
  const own = DOCUMENTATION_OPTIONS.VERSION;
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const page = location.href.slice(root.href.length).split(/[?#]/)[0];
  const leave = async (version) => {
    const there = new URL(`../${version}/${page}`, root);
    const known = location.protocol === "file:" || (await fetch(there, { method: "HEAD" })).ok;
    location.href = known ? there : new URL(`../${version}/index.html`, root);
  };

  const choice = document.createElement("select");
  choice.className = "kan-versions";
  choice.setAttribute("aria-label", "Version of the documentation");
  for (const version of VERSIONS) choice.add(new Option(version, version, false, version === own));
  choice.addEventListener("change", () => leave(choice.value));
  document.querySelector(".sidebar-brand")?.after(choice);

  if (own !== VERSIONS[0]) {
    const note = document.createElement("p");
    const link = document.createElement("a");
    note.className = "kan-older";
    link.textContent = `${VERSIONS[0]} is the newest`;
    link.href = new URL(`../${VERSIONS[0]}/index.html`, root);
    link.addEventListener("click", (event) => (event.preventDefault(), leave(VERSIONS[0])));
    note.append(`This is version ${own}; `, link, ".");
    document.querySelector("article")?.prepend(note);
  }
});
