"use strict";
/* What the report and the review page both show: emotions as chips, timelines as strips, times.

   Text goes into a page as text, never as markup. */

function shared({ classes, colors, inks, strip_parts }) {
  /* Make an element: attributes, then children (elements or text). A style is set as one, not as an attribute, which a
     page's policy may forbid. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") element.style.cssText = value;
      else if (value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const count = (number) => number.toLocaleString("en");

  function clock(seconds) {
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const padded = (number) => String(number).padStart(2, "0");
    return hours ? `${hours}:${padded(minutes)}:${padded(rest)}` : `${minutes}:${padded(rest)}`;
  }

  /* What a search goes by: small letters without accents. */
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

  /* A class by its position; -1 is none. */
  function chip(position) {
    if (position < 0) return "—";
    const style = `background: ${colors[position]}; color: ${inks[position]}`;
    return make("span", { class: "chip", style }, classes[position]);
  }

  /* A timeline as [class, start, end] in parts of the track; class -1 is a stretch without emotion. */
  function runs(code) {
    let start = 0;
    return [...code.matchAll(/(\D)(\d+)/gu)].map(([, letter, end]) => {
      const run = [letter === "-" ? -1 : letter.codePointAt(0) - 97, start, Number(end)];
      start = run[2];
      return run;
    });
  }

  /* A timeline as a strip, with its first runs in words. */
  function strip(code, length_s) {
    const seconds = (part) => (part / strip_parts) * length_s;
    const known = runs(code).filter(([position]) => position >= 0);
    const words = known.slice(0, 6).map(([position, start, end]) =>
      `${classes[position]} ${clock(seconds(start))} to ${clock(seconds(end))}`);
    if (known.length > 6) words.push(`and ${known.length - 6} more`);
    const said = words.join(", ");
    const box = make("span", { class: "runs", role: "img", "aria-label": said, title: said });
    for (const [position, start, end] of known) {
      const [left, width] = [start, end - start].map((part) => (100 * part) / strip_parts);
      box.append(make("i", { style: `left: ${left}%; width: ${width}%; background: ${colors[position]}` }));
    }
    return box;
  }

  return { make, count, clock, plain, chip, strip };
}
