// On a phone a table of words that is wider than the page becomes a list: the cells of a row below each other, each with
// the name of its column. Tables of numbers scroll within the page.
const phone = window.matchMedia("(max-width: 46em)");

function stack() {
  for (const table of document.querySelectorAll("article table.docutils:not(.autosummary)")) {
    table.classList.remove("kan-stacked");
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    const wide = table.offsetWidth > table.parentElement.clientWidth + 1;
    if (!phone.matches || !wide || heads.length < 2 || table.querySelector("td.text-right")) continue;
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, i) => {
        cell.classList.toggle("kan-empty", !cell.textContent.trim());
        if (i && heads[i]) cell.setAttribute("data-head", heads[i]);
      });
    table.classList.add("kan-stacked");
  }
}

document.addEventListener("DOMContentLoaded", stack);
phone.addEventListener("change", stack);
