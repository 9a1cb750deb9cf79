"use strict";
/* A listener's desk: what to listen to as a list, one passage or song at a time with its answers, all by keyboard.

   The server keeps every answer before it says so; the page keeps nothing. What is asked and answered is in
   session.py. */

(() => {
  const STEP_S = 2;  // a step back or on

  const data = JSON.parse(document.getElementById("review-data").textContent);
  const { classes, items, tracks } = data;
  const { make, count, clock, chip, strip } = shared(data);
  const home = location.pathname.replace(/\/?$/, "/");
  const card = document.getElementById("card");
  const list = document.querySelector(".queue ol");
  const filters = document.querySelector(".queue form");
  const audio = card.querySelector("audio");
  const seek = card.querySelector(".seek");
  const [startField, endField] = ["start", "end"].map((name) => card.querySelector(`[name=${name}]`));

  let state = data.state;
  let current = -1;
  let given = [];  // answers since the page was opened, the last one last: for undo
  let playsPassage = false;
  let done = Promise.resolve();  // one answer after the other, however fast keys are pressed

  const labelChip = (label) => (label === null ? "—" : chip(classes.indexOf(label)));
  const times = (start_s, end_s) => (start_s === null ? "the whole song" : `${clock(start_s)} to ${clock(end_s)}`);
  const percent = (share) => `${Math.round(100 * share)} %`;
  const trackOf = (item) => tracks[item.track];

  // ---- the list ------------------------------------------------------------------------------------------------------

  const buttons = items.map((item, place) => {
    const button = make("button", { type: "button", "data-place": place });
    button.addEventListener("click", () => open(place, true));
    list.append(make("li", {}, button));
    return button;
  });

  const isGone = (place) => state.gone[items[place].track];
  const GONE = "This track was taken down. It is not played, and no answer to it is kept.";

  function drawButton(place) {
    const item = items[place];
    buttons[place].disabled = isGone(place);
    if (isGone(place)) {
      buttons[place].replaceChildren(make("span", { class: "name" }, "Taken down"));
      return;
    }
    const answer = state.answers[place];
    const what = item.kind === "song" ? "song" : times(item.start_s, item.end_s);
    const said = answer === null ? [labelChip(item.label)] : ["✓ ", labelChip(answer)];
    const answered = answer === null ? "" : ", answered";
    buttons[place].replaceChildren(
      make("span", { class: "name" }, trackOf(item).track_id),
      make("span", {}, ...said),
      make("small", {}, `${what}${answered}`),
    );
  }

  const isShown = (place) => {
    const wanted = filters.kind.value;
    if (wanted && items[place].kind !== wanted) return false;
    return !filters.open.checked || state.answers[place] === null;
  };

  function drawList() {
    items.forEach((_, place) => {
      drawButton(place);
      buttons[place].parentNode.hidden = !isShown(place) && place !== current;
      if (place === current) buttons[place].setAttribute("aria-current", "true");
      else buttons[place].removeAttribute("aria-current");
    });
    const there = items.map((_, place) => place).filter((place) => !isGone(place));
    const answered = there.filter((place) => !isOpen(place)).length;
    document.querySelector(".progress").textContent = `${count(answered)} of ${count(there.length)} have an answer`;
  }

  /* The nearest item in a direction that is shown, and fits; -1 if there is none. */
  function near(from, step, fits = () => true) {
    for (let place = from + step; place >= 0 && place < items.length; place += step) {
      if (isShown(place) && !isGone(place) && fits(place)) return place;
    }
    return -1;
  }

  const isOpen = (place) => state.answers[place] === null;

  // ---- one passage or song -------------------------------------------------------------------------------------------

  function open(place, plays) {
    const isSameTrack = current >= 0 && items[current].track === items[place].track && audio.src;
    current = place;
    if (drawGone()) {
      drawList();
      return;
    }
    const [item, track] = [items[place], trackOf(items[place])];
    card.querySelector("h2").textContent = track.track_id;
    const file = track.file === track.track_id || track.file.replace(/\.[^.]*$/, "") === track.track_id ? [] : [track.file];
    card.querySelector(".about").textContent = [...file, ...(track.group ? [track.group] : [])].join(" · ");
    card.querySelector(".asked").replaceChildren(...question(item, track));
    setScope(item.start_s, item.end_s);
    card.querySelector("[name=accept]").replaceChildren("Accept ", labelChip(item.label), " ", make("kbd", {}, "A"));
    drawSaid();
    drawList();
    if (isSameTrack) start(plays);
    else load(plays);
    card.querySelector("h2").focus({ preventScroll: plays });
    buttons[place].scrollIntoView({ block: "nearest" });
  }

  /* Of a track that was taken down nothing is shown or heard any more; returns whether the current one was. */
  function drawGone() {
    const gone = current >= 0 && isGone(current);
    card.classList.toggle("gone", gone);
    if (!gone) return false;
    audio.pause();
    audio.removeAttribute("src");
    audio.load();
    card.querySelector("h2").textContent = "Taken down";
    card.querySelector(".about").textContent = "";
    card.querySelector(".asked").textContent = GONE;
    card.querySelector(".said").hidden = true;
    return true;
  }

  /* Take over what the server knows by now. */
  function update(found) {
    state = { answers: found.answers, said: found.said, gone: found.gone };
    if (!drawGone()) drawSaid();
    drawList();
  }

  function question(item, track) {
    if (item.kind === "passage") {
      const sure = item.confidence === null ? [] : [` (${percent(item.confidence)})`];
      return [`From ${times(item.start_s, item.end_s)} it sounds like `, labelChip(item.label), ...sure,
        ", and not like the song’s label ", labelChip(item.catalog_label), "."];
    }
    const shares = classes.map((name, place) => [track.probabilities[place], name]).sort((a, b) => b[0] - a[0]);
    const words = shares.slice(0, 2).flatMap(([share, name], place) => [place ? " or " : "", labelChip(name), ` (${percent(share)})`]);
    const known = item.catalog_label === null ? [] : [" In the catalog: ", labelChip(item.catalog_label), "."];
    return ["Is this song ", ...words, "?", ...known];
  }

  function drawSaid() {
    const item = items[current];
    const said = state.said[item.track];
    card.querySelector(".said").hidden = !said.length;
    card.querySelector(".said ul").replaceChildren(...said.map((one) => {
      const back = make("button", { type: "button" }, "Take back");
      back.setAttribute("aria-label", `Take back ${one.label} of ${times(one.start_s, one.end_s)}`);
      back.addEventListener("click", () => act(() => say(item.track, one.start_s, one.end_s, null)));
      const by = one.who ? ` by ${one.who}` : "";
      return make("li", {}, labelChip(one.label), make("span", {}, `${times(one.start_s, one.end_s)}${by}`), back);
    }));
  }

  // ---- what an answer is about ---------------------------------------------------------------------------------------

  const rounded = (seconds) => Math.round(10 * seconds) / 10;

  function setScope(start_s, end_s) {
    // With all digits, so that an answer is about the very segments that were asked about.
    [startField.value, endField.value] = [start_s ?? "", end_s ?? ""];
    drawScope();
  }

  /* The passage that an answer is about, [null, null] for the whole song; null where the fields make no sense. */
  function scope() {
    if (startField.value === "" && endField.value === "" && !startField.validity.badInput && !endField.validity.badInput) {
      return [null, null];
    }
    const [start_s, end_s] = [startField.valueAsNumber, endField.valueAsNumber];
    return start_s >= 0 && start_s < end_s ? [start_s, end_s] : null;
  }

  function drawScope() {
    const found = scope();
    card.querySelector(".scope .note").textContent =
      found === null ? "A passage has a start, and an end after it." : found[0] === null ? "The whole song." : "";
    const track = trackOf(items[current]);
    const cursor = make("b", { class: "cursor" });
    seek.replaceChildren(strip(track.timeline, track.length_s), cursor);
    if (found !== null && found[0] !== null) {
      const [left, width] = [found[0], found[1] - found[0]].map((seconds) => (100 * seconds) / track.length_s);
      seek.append(make("b", { class: "mark", style: `left: ${left}%; width: ${width}%` }));
    }
    moveCursor();
  }

  function toggleWhole() {
    const item = items[current];
    const found = scope();
    if (found !== null && found[0] === null) setScope(item.start_s, item.end_s);
    else setScope(null, null);
  }

  /* Start or end the passage where it plays; one without the other reaches to the song's start or end. */
  function mark(isStart) {
    const here = rounded(audio.currentTime);
    const [field, other] = isStart ? [startField, endField] : [endField, startField];
    field.value = here;
    if (other.value === "") other.value = isStart ? trackOf(items[current]).length_s : 0;
    drawScope();
  }

  // ---- sound ---------------------------------------------------------------------------------------------------------

  function load(plays) {
    const { track } = items[current];
    const isDecoded = !tracks[track].playable;
    audio.setAttribute("aria-label", tracks[track].track_id);
    audio.src = `${home}${isDecoded ? "decoded" : "original"}/${track}`;
    start(plays);
  }

  const startOf = (item) => item.start_s ?? item.play_from_s ?? 0;

  function start(plays) {
    const at_s = scope()?.[0] ?? startOf(items[current]);
    if (audio.readyState > 0) audio.currentTime = at_s;
    else audio.addEventListener("loadedmetadata", () => { audio.currentTime = at_s; }, { once: true });
    playsPassage = scope()?.[0] !== null;
    if (plays) play();
    else audio.pause();
  }

  function play() {
    audio.play().catch(() => {});  // what cannot be played says so by its error
  }

  function toggle() {
    if (!audio.paused) audio.pause();
    else if (playsPassage && audio.currentTime >= (scope()?.[1] ?? Infinity)) start(true);
    else play();
  }

  function moveCursor() {
    const cursor = seek.querySelector(".cursor");
    const { length_s } = trackOf(items[current]);
    cursor.style.left = `${Math.min(100, (100 * audio.currentTime) / length_s)}%`;
  }

  audio.addEventListener("timeupdate", () => {
    if (current < 0) return;
    moveCursor();
    const end_s = scope()?.[1];
    if (playsPassage && !audio.paused && end_s && audio.currentTime >= end_s) audio.pause();
  });
  audio.addEventListener("error", () => {
    if (isGone(current)) return;
    if (audio.src.includes("/original/")) {
      const plays = !audio.paused;
      audio.src = audio.src.replace("/original/", "/decoded/");  // a codec that this browser does not know
      start(plays);
    } else {
      complain("This song cannot be played: its file is gone, or damaged.");
      act(async () => {
        update(await ask({}));  // it may have been taken down
        if (isGone(current)) complain("");
      });
    }
  });
  seek.addEventListener("click", (event) => {
    const box = seek.getBoundingClientRect();
    audio.currentTime = ((event.clientX - box.left) / box.width) * trackOf(items[current]).length_s;
    playsPassage = false;  // who looks around wants to hear on
    play();
  });

  // ---- answers -------------------------------------------------------------------------------------------------------

  const [told, failed] = [".told", ".failed"].map((name) => card.querySelector(name));

  function tell(text) {
    failed.textContent = "";
    told.textContent = text;
  }

  function complain(text) {
    told.textContent = "";
    failed.textContent = text;
  }

  function act(step) {
    done = done.then(step).catch((error) => {
      complain(`Not written: ${error.message}`);
      return ask({}).then(update, () => {});  // the track may have been taken down
    });
  }

  async function ask(request) {
    let response;
    try {
      response = await fetch(`${home}answers`, request);
    } catch {
      throw new Error("sssl review does not answer. Start it again, and open the address that it prints.");
    }
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return JSON.parse(text);
  }

  /* Have an answer written down; returns the label that stood before. */
  async function say(track, start_s, end_s, label) {
    const passages = items
      .map((_, place) => place)
      .filter((place) => items[place].track === track && items[place].kind !== "song" && isOpen(place) && place !== current);
    const found = await ask({
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ track, start_s, end_s, label }),
    });
    update(found);
    const what = label === null ? "is taken back" : `is ${label}`;
    tell(`${tracks[track].track_id}, ${times(start_s, end_s)}, ${what}. Written down.${alsoAnswered(passages, start_s)}`);
    return found.before;
  }

  /* Say which passages, open before, an answer for the whole song answers, too: nobody heard them. */
  function alsoAnswered(passages, start_s) {
    const closed = start_s === null ? passages.filter((place) => !isOpen(place)) : [];
    if (!closed.length) return "";
    const named = closed.map((place) => times(items[place].start_s, items[place].end_s)).join(", ");
    return ` It answers ${named}, too: a passage that sounds different needs an answer of its own.`;
  }

  function answer(labelOf) {
    act(async () => {
      if (isGone(current)) throw new Error("this track was taken down.");
      const found = scope();
      if (found === null) throw new Error("a passage has a start, and an end after it.");
      const place = current;
      const { track } = items[place];
      const before = await say(track, ...found, labelOf(items[place]));
      given.push({ place, track, scope: found, before });
      drawUndo();
      const next = near(place, 1, isOpen);
      if (next >= 0) open(next, true);
      else open(place, false);
    });
  }

  function undo() {
    act(async () => {
      const last = given.at(-1);
      if (!last) return;
      await say(last.track, ...last.scope, last.before);
      given = given.slice(0, -1);
      drawUndo();
      open(last.place, false);
    });
  }

  function drawUndo() {
    card.querySelector("[name=undo]").setAttribute("aria-disabled", String(!given.length));
  }

  function move(step, fits) {
    act(async () => {
      const place = near(current, step, fits);
      if (place >= 0) open(place, true);
      else tell(step > 0 ? "That was the last one." : "That is the first one.");
    });
  }

  const accept = () => answer((item) => item.label);
  const skip = () => move(1, isOpen);

  // ---- buttons and keys ----------------------------------------------------------------------------------------------

  const onClick = (name, step) => card.querySelector(`[name=${name}]`).addEventListener("click", step);
  onClick("accept", accept);
  onClick("skip", skip);
  onClick("undo", undo);
  onClick("whole", toggleWhole);
  onClick("from-here", () => mark(true));
  onClick("to-here", () => mark(false));
  for (const button of card.querySelectorAll("[name=label]")) {
    button.addEventListener("click", () => answer(() => button.value));
    const { style, dataset } = button.querySelector(".chip");
    [style.background, style.color] = [data.colors[dataset.place], data.inks[dataset.place]];
  }
  [startField, endField].forEach((field) => field.addEventListener("input", drawScope));
  filters.addEventListener("input", drawList);
  filters.addEventListener("submit", (event) => event.preventDefault());

  const keys = {
    a: accept,
    s: skip,
    u: undo,
    w: toggleWhole,
    p: () => start(true),
    j: () => move(1),
    k: () => move(-1),
    "[": () => mark(true),
    "]": () => mark(false),
    " ": toggle,
    ArrowLeft: () => { audio.currentTime -= STEP_S; },
    ArrowRight: () => { audio.currentTime += STEP_S; },
  };
  classes.slice(0, 9).forEach((name, place) => { keys[place + 1] = () => answer(() => name); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !card.querySelector("[name=keys]").checked) return;
    if (event.target.matches("[type=number]")) return;
    // Elements that have a use of their own for these keys keep it.
    const isOwn = event.key === " " ? "button, summary, input, audio" : "audio, [type=radio]";
    if ((event.key === " " || event.key.startsWith("Arrow")) && event.target.matches(isOwn)) return;
    const step = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!step || current < 0) return;
    event.preventDefault();
    step();
  });

  // Another window may have written answers meanwhile.
  window.addEventListener("focus", () => {
    act(async () => {
      try {
        update(await ask({}));
      } catch {
        return;  // the next answer says so
      }
    });
  });

  // ---- start ---------------------------------------------------------------------------------------------------------

  const first = items.findIndex((_, place) => isOpen(place) && !isGone(place));
  if (items.length) open(Math.max(0, first), false);
})();
