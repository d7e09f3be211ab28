"""How a report looks, and the few lines of script that scroll its slices. Both stand in the page itself, which needs no network."""

STYLE = """
:root { --ink: #1d2125; --faint: #56606a; --line: #d5dae0; --paper: #ffffff; --page: #f4f6f8; --accent: #0b5cab; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --faint: #a9b3bd; --line: #39424c; --paper: #1b2127; --page: #12161a; --accent: #7db8f2; }
  /* Plots are drawn on white paper; turned over they keep their hues and do not glare. */
  .plot img { filter: invert(0.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
body { margin: 0; }
main { max-width: 1040px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { border-bottom: 3px solid var(--accent); margin-bottom: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; margin: 0 0 1rem; padding: 0; font-size: .95rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 1.1rem 1.25rem; margin: 0 0 1.25rem; }
p { margin: .5rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.subtitle { color: var(--faint); margin: 0 0 1rem; }
.note { border-left: 4px solid var(--accent); padding: .1rem 0 .1rem .75rem; color: var(--faint); font-size: .93rem; }
.headline { font-size: 1.25rem; max-width: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; max-width: 75ch; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; min-width: 60%; }
caption { text-align: left; color: var(--faint); font-size: .93rem; padding-bottom: .4rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--faint); }
tbody th { font-weight: 500; overflow-wrap: break-word; max-width: 18rem; }
table.numbers td, table.numbers thead th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
table.numbers td { white-space: nowrap; }
figure { margin: .9rem 0; }
img { width: 100%; height: auto; display: block; }
.plot img { border-radius: 6px; }
figcaption { color: var(--faint); font-size: .93rem; margin-top: .35rem; max-width: 75ch; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.25rem; align-items: flex-start; }
.row > * { flex: 1 1 340px; min-width: 0; max-width: 100%; }
summary { cursor: pointer; color: var(--accent); padding: .2rem 0; }
pre { overflow-x: auto; font: .85rem/1.45 ui-monospace, "Liberation Mono", "DejaVu Sans Mono", monospace; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; list-style: none; margin: .5rem 0; padding: 0; font-size: .95rem; }
.legend svg { width: 1.6em; height: .9em; vertical-align: -.05em; margin-right: .4em; border: 1px solid var(--line); background: #000; }
.view { position: relative; width: 100%; background: #000; overflow: hidden; border-radius: 6px; }
.view img { position: absolute; inset: 0; height: 100%; border-radius: 0; }
.view .edge { position: absolute; color: #fff; font-weight: 700; line-height: 1; text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 5px #000; }
.edge.left { left: .5rem; top: 50%; transform: translateY(-50%); } .edge.right { right: .5rem; top: 50%; transform: translateY(-50%); }
.edge.top { top: .45rem; left: 50%; transform: translateX(-50%); } .edge.bottom { bottom: .45rem; left: 50%; transform: translateX(-50%); }
.view:focus-visible, summary:focus-visible, a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.controls { display: none; flex-wrap: wrap; max-width: 720px; margin-top: .4rem;
  align-items: center; gap: .3rem 1.1rem; font-size: .95rem; }
.js .controls { display: flex; }
.controls .slider { flex: 1 1 260px; }
.controls input[type=range] { width: 100%; accent-color: var(--accent); }
.js .printed-position { display: none; }
[hidden] { display: none !important; }
@media (max-width: 600px) {
  main { padding: 1rem .6rem 3rem; }
  section { padding: .8rem .7rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  th, td { padding: .3rem .5rem; }
}
@media print {
  :root { --ink: #000; --faint: #333; --line: #bbb; --paper: #fff; --page: #fff; --accent: #000; }
  html { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  section { border: 0; padding: 0; border-radius: 0; }
  nav, .js .controls { display: none; }
  .js .printed-position { display: block; }
  .plot img { filter: none; width: auto; max-width: 100%; max-height: 95mm; }
  figure, tr, .scroll, .part, .row > * { break-inside: avoid; }
  .row > * { flex: 0 1 47%; }
  .view { max-height: 95mm; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .legend svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { overflow: visible; }
  table { font-size: .88em; }
  table.numbers td { white-space: normal; }
  tbody th { overflow-wrap: anywhere; }
  th, td { padding: .2rem .45rem; }
  h2, h3 { break-after: avoid; }
  a { text-decoration: none; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
  @page { margin: 15mm; }
}
"""

SCRIPT = """
"use strict";
document.documentElement.classList.add("js");
for (const stack of document.querySelectorAll(".stack")) {
  const view = stack.querySelector(".view"), slices = [...stack.querySelectorAll(".slice")];
  const slider = stack.querySelector("input[type=range]"), told = [...stack.querySelectorAll("output, .printed-position")];
  let shown = Number(slider.value), turned = 0;
  const show = (number) => {
    const next = Math.min(Math.max(number, 0), slices.length - 1);
    slices[shown].hidden = true;
    slices[next].hidden = false;
    shown = next;
    slider.value = next;
    slider.setAttribute("aria-valuetext", slices[next].dataset.position);
    for (const place of told) place.textContent = slices[next].dataset.position;
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  view.addEventListener("wheel", (event) => {
    const next = shown + Math.sign(event.deltaY);
    if (event.ctrlKey || next < 0 || next >= slices.length) return;  // zooming, or at an end: the page scrolls on
    event.preventDefault();
    turned += event.deltaMode === 0 ? event.deltaY : 40 * event.deltaY;
    if (Math.abs(turned) >= 40) { show(next); turned = 0; }
  }, { passive: false });
  view.addEventListener("keydown", (event) => {
    const steps = {
      ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1,
      PageUp: -10, PageDown: 10, Home: -slices.length, End: slices.length,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(shown + steps[event.key]);
  });
  for (const box of stack.querySelectorAll("input[type=checkbox]")) {
    const set = () => { for (const layer of stack.querySelectorAll(".layer-" + box.value)) layer.hidden = !box.checked; };
    box.addEventListener("change", set);
    set();
  }
  show(shown);
}
"""
"""Wheel, arrow keys and slider change the slice; boxes show and hide what lies over it. Without it the start slice stands there."""
