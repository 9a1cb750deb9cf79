"use strict";
/* What a reader can do with the report: sort, search and filter its songs and groups, listen, download a CSV.

   No library, nothing loaded, nothing sent. The data stand in the page as columns (`report-data`, written by songs.py):
   a song is a position in all of them. Text goes into the page as text, never as markup. */

(() => {
  const PAGE_ROWS = 50;
  const CLOSE = 200;  // per mille between the two likeliest emotions of a song that is called uncertain
  const STARTS_A_FORMULA = /^[=+\-@\t\r]/;  // in a spreadsheet, as in sssl/export/cells.py

  const data = JSON.parse(document.getElementById("report-data").textContent);
  const { classes, colors, songs, groups } = data;
  const { make, count, clock, plain, chip, strip } = shared(data);

  // ---- small helpers -------------------------------------------------------------------------------------------------

  const percent = (perMille) => `${(perMille / 10).toFixed(0)}%`;
  const timeline = (song) => strip(songs.timeline[song], songs.length_s[song]);

  function decoded(name) {
    try {
      return decodeURIComponent(name);
    } catch {
      return name;  // not UTF-8
    }
  }

  /* The second likeliest emotion of a song. */
  function runnerUp(song) {
    let best = -1;
    classes.forEach((_, position) => {
      const isBetter = best < 0 || songs.probabilities[position][song] > songs.probabilities[best][song];
      if (position !== songs.label[song] && isBetter) best = position;
    });
    return best;
  }

  // ---- a table that is sorted, searched and paged ------------------------------------------------------------------

  /* Fill the `table.browser` and the `.pager` of a section.

     A column has a title, the values that it is sorted by (one per row, or a function of the row), and a cell: what it
     shows of a row. `accepts` says which rows are shown; `shown` is told how many. */
  function browser(section, { rows, columns, attributes, accepts, shown }) {
    const table = section.querySelector("table.browser");
    const pager = section.querySelector(".pager");
    const body = make("tbody", { role: "rowgroup" });
    const all = Uint32Array.from({ length: rows }, (_, row) => row);
    let sorted = all;
    let found = all;
    let page = 0;
    let by = columns[0];
    let descending = false;

    /* Numbers that sort as a column does: its own, or the places of its texts in the alphabet. */
    function keys(column) {
      if (column.keys) return column.keys;
      const values = Array.from(all, column.value);
      if (typeof values[0] === "string") {
        const alphabet = new Intl.Collator("en", { numeric: true });
        const distinct = [...new Set(values)].sort(alphabet.compare);
        const place = new Map(distinct.map((text, index) => [text, index]));
        column.keys = Float64Array.from(values, (text) => place.get(text));
      } else {
        column.keys = Float64Array.from(values);
      }
      return column.keys;
    }

    function sort(column) {
      descending = column === by ? !descending : Boolean(column.largestFirst);
      by = column;
      order();
    }

    function order() {
      const key = keys(by);
      const sign = descending ? -1 : 1;
      sorted = all.slice().sort((a, b) => sign * (key[a] - key[b]) || a - b);
      for (const column of columns) {
        if (!column.header) continue;
        const direction = descending ? "descending" : "ascending";
        if (column === by) column.header.setAttribute("aria-sort", direction);
        else column.header.removeAttribute("aria-sort");
      }
      filter();
    }

    function filter() {
      found = sorted.filter(accepts());
      page = 0;
      shown(found.length);
      draw();
    }

    function draw() {
      const first = page * PAGE_ROWS;
      body.replaceChildren(...Array.from(found.subarray(first, first + PAGE_ROWS), drawRow));
      table.hidden = !found.length;
      drawPager(first);
    }

    function drawRow(row) {
      const line = make("tr", { role: "row", ...attributes(row) });
      for (const column of columns) {
        const isName = column === columns[0];
        const cell = make(isName ? "th" : "td", {
          class: column.kind ?? null,
          scope: isName ? "row" : null,
          role: isName ? "rowheader" : "cell",
          "data-title": column.title,
        });
        cell.append(...[column.cell(row)].flat());
        line.append(cell);
      }
      return line;
    }

    function drawPager(first) {
      const pages = Math.ceil(found.length / PAGE_ROWS);
      pager.hidden = pages < 2;
      const last = Math.min(first + PAGE_ROWS, found.length);
      const [previous, next] = pager.querySelectorAll("button");
      pager.querySelector("span").textContent = `${count(first + 1)} to ${count(last)} of ${count(found.length)}`;
      // Not `disabled`: the button that was pressed would lose the focus.
      previous.setAttribute("aria-disabled", page === 0);
      next.setAttribute("aria-disabled", page >= pages - 1);
    }

    function turn(by) {
      const pages = Math.ceil(found.length / PAGE_ROWS);
      if (page + by < 0 || page + by >= pages) return;
      page += by;
      draw();
      table.scrollIntoView({ block: "start" });
    }

    const heads = columns.map((column) => {
      const button = make("button", { type: "button" }, column.title);
      button.addEventListener("click", () => sort(column));
      column.header = make("th", { scope: "col", role: "columnheader", class: column.kind ?? null }, button);
      return column.header;
    });
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads));
    table.setAttribute("role", "table");  // a narrow screen lays rows out as cards, which would take the role away
    table.append(head, body);
    const turner = (title, by) => {
      const button = make("button", { type: "button" }, title);
      button.addEventListener("click", () => turn(by));
      return button;
    };
    pager.append(turner("Previous", -1), make("span"), turner("Next", 1));
    order();
    return { filter, found: () => found };
  }

  /* Show what needs the script and take away what stands there for readers without it. */
  function start(section) {
    section.querySelector(".without-script").remove();
    section.querySelector(".with-script").hidden = false;
  }

  /* Return a function that says whether a row has all words of a search in its text. */
  function searcher(input, textOf, rows) {
    let texts = null;  // made with the first search
    return () => {
      const words = plain(input.value).split(/\s+/).filter(Boolean);
      if (!words.length) return () => true;
      texts ??= Array.from({ length: rows }, (_, row) => plain(textOf(row)));
      return (row) => words.every((word) => texts[row].includes(word));
    };
  }

  // ---- the player ----------------------------------------------------------------------------------------------------

  const player = document.getElementById("player");
  const audio = player && make("audio", { controls: "", preload: "none" });

  const link = (song) =>
    songs.folder[song] < 0 ? null : songs.folders[songs.folder[song]] + songs.file[song];

  /* Play a song from a second on; the player says which, so that others can attach to it. */
  function play(song, start_s = 0, end_s = null) {
    player.hidden = false;
    player.setAttribute("data-track-id", songs.track[song]);
    player.setAttribute("data-start-s", start_s);
    player.setAttribute("data-end-s", end_s ?? songs.length_s[song]);
    player.querySelector(".id").textContent = songs.track[song];
    player.querySelector(".emotion").replaceChildren(chip(songs.label[song]));
    const cursor = make("b", { class: "cursor" });
    const seek = player.querySelector(".seek");
    seek.replaceChildren(timeline(song), cursor);
    seek.onclick = (event) => {
      const box = seek.getBoundingClientRect();
      audio.currentTime = ((event.clientX - box.left) / box.width) * songs.length_s[song];
    };
    audio.setAttribute("aria-label", songs.track[song]);
    audio.src = start_s ? `${link(song)}#t=${start_s.toFixed(1)}` : link(song);
    audio.ontimeupdate = () => {
      cursor.style.left = `${Math.min(100, (100 * audio.currentTime) / songs.length_s[song])}%`;
    };
    audio.play().catch(() => {});  // a file that is gone: the player shows that it cannot be played
  }

  if (player) {
    player.querySelector(".seek").before(audio);
    player.querySelector("button").addEventListener("click", () => {
      audio.pause();
      player.hidden = true;
    });
  }

  function playButton(song, title, words, start_s, end_s) {
    const button = make("button", { type: "button", class: "play", "aria-label": words }, title);
    button.addEventListener("click", () => play(song, start_s, end_s));
    return button;
  }

  // ---- songs -----------------------------------------------------------------------------------------------------------

  function startSongs(section) {
    const rows = songs.track.length;
    const form = section.querySelector("form");
    const status = form.querySelector("[role=status]");
    const hasGroups = songs.group.some((group) => group !== null);
    const second = Int32Array.from({ length: rows }, (_, song) => runnerUp(song));
    const lead = (song) =>
      second[song] < 0 ? 1000 : songs.confidence[song] - songs.probabilities[second[song]][song];
    const states = {
      uncertain: (song) => lead(song) < CLOSE,
      wrong: (song) => songs.wrong[song] > 0,
      abstained: (song) => songs.abstained[song] === 1,
      other: (song) => songs.inherited[song] >= 0 && songs.inherited[song] !== songs.label[song],
      changed: (song) => songs.before[song] >= 0,
    };

    function nameCell(song) {
      const [track, file] = [songs.track[song], decoded(songs.file[song])];
      const repeats = file === track || file.replace(/\.[^.]*$/, "") === track;
      const name = make("span", {}, track, ...(repeats ? [] : [make("small", {}, file)]));
      return link(song) === null ? [name] : [playButton(song, "▶", `Play ${track}`), name];
    }

    function emotionCell(song) {
      const said = [];
      if (songs.abstained[song]) said.push("abstains");
      if (states.changed(song)) said.push(`was ${classes[songs.before[song]]}`);
      return [chip(songs.label[song]), ...(said.length ? [make("small", {}, said.join(", "))] : [])];
    }

    function confidenceCell(song) {
      const bar = make("i", { style: `width: ${songs.confidence[song] / 10}%; background: ${colors[songs.label[song]]}` });
      const cell = [percent(songs.confidence[song]), make("span", { class: "meter", "aria-hidden": "true" }, bar)];
      if (!states.uncertain(song)) return cell;
      const other = second[song];
      return [...cell, make("small", {}, `${classes[other]} ${percent(songs.probabilities[other][song])}`)];
    }

    function wrongCell(song) {
      if (!songs.wrong[song]) return "";
      const said = `${songs.wrong[song]} of ${songs.segments[song]}`;
      const [start_s, end_s] = [songs.passage_start_s[song], songs.passage_end_s[song]];
      const times = `${clock(start_s)} to ${clock(end_s)}`;
      if (link(song) === null) return [said, make("small", {}, times)];
      const words = `Play ${songs.track[song]} from ${times}, where it looks wrong`;
      return [said, playButton(song, `▶ ${clock(start_s)}`, words, start_s, end_s)];
    }

    const columns = [
      { title: "Track", kind: "id", value: (song) => songs.track[song], cell: nameCell },
      { title: "Emotion", value: (song) => classes[songs.label[song]], cell: emotionCell },
      { title: "Confidence", kind: "n", value: (song) => songs.confidence[song], cell: confidenceCell },
      {
        title: "In the catalog",
        value: (song) => classes[songs.inherited[song]] ?? "",
        cell: (song) => classes[songs.inherited[song]] ?? "—",
      },
      {
        title: "Looks wrong",
        kind: "n wrong",
        largestFirst: true,
        value: (song) => songs.wrong[song] / songs.segments[song],
        cell: wrongCell,
      },
      {
        title: "Length",
        kind: "n",
        largestFirst: true,
        value: (song) => songs.length_s[song],
        cell: (song) => clock(songs.length_s[song]),
      },
      { title: "Timeline", kind: "line", value: (song) => songs.timeline[song], cell: timeline },
    ];
    if (hasGroups) {
      const value = (song) => songs.group[song] ?? "";
      columns.splice(1, 0, { title: "Artist or album", kind: "id group", value, cell: value });
    }

    const search = searcher(form.search, textOf, rows);
    function textOf(song) {
      return `${songs.track[song]} ${decoded(songs.file[song])} ${songs.group[song] ?? ""}`;
    }

    const checked = (name) => [...form.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value);
    function accepts() {
      const labels = new Set(checked("label").map(Number));
      const wanted = checked("state").map((name) => states[name]);
      const matches = search();
      return (song) =>
        (!labels.size || labels.has(songs.label[song])) && wanted.every((state) => state(song)) && matches(song);
    }

    const table = browser(section, {
      rows,
      columns,
      attributes: (song) => ({
        "data-track-id": songs.track[song],
        "data-start-s": songs.passage_start_s[song],
        "data-end-s": songs.passage_end_s[song],
        class: songs.abstained[song] ? "off" : null,
      }),
      accepts,
      shown: (found) => {
        status.textContent =
          found === rows ? `All ${count(rows)} songs` : `${count(found)} of ${count(rows)} songs`;
      },
    });

    for (const box of form.querySelectorAll("[type=checkbox]")) {
      const isMeant = box.name === "label" ? (song) => songs.label[song] === Number(box.value) : states[box.value];
      let number = 0;
      for (let song = 0; song < rows; song += 1) number += isMeant(song);
      box.parentNode.querySelector("small").textContent = count(number);
    }
    form.addEventListener("input", table.filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(table.filter));
    form.download.addEventListener("click", () => download("songs.csv", csv(table.found())));
    return {
      /* Show the songs of one artist or album. */
      search: (text) => {
        form.reset();
        form.search.value = text;
        table.filter();
        section.scrollIntoView();
        form.search.focus({ preventScroll: true });
      },
    };
  }

  // ---- the CSV of what is filtered -----------------------------------------------------------------------------------

  function cell(value) {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && STARTS_A_FORMULA.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function csv(found) {
    const columns = {
      track_id: (song) => songs.track[song],
      file: (song) => decoded(songs.file[song]),
      group_id: (song) => songs.group[song],
      label: (song) => classes[songs.label[song]],
      confidence: (song) => songs.confidence[song] / 1000,
      abstained: (song) => songs.abstained[song] === 1,
      label_in_catalog: (song) => classes[songs.inherited[song]],
      label_before: (song) => classes[songs.before[song]],
      segments: (song) => songs.segments[song],
      segments_that_look_wrong: (song) => songs.wrong[song],
      length_s: (song) => songs.length_s[song],
    };
    classes.forEach((name, position) => {
      columns[`probability of ${name}`] = (song) => songs.probabilities[position][song] / 1000;
    });
    const lines = [Object.keys(columns), ...Array.from(found, (song) => Object.values(columns).map((of) => of(song)))];
    return lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
  }

  function download(name, text) {
    // A spreadsheet takes a file without the mark at its start for one in the machine's own encoding.
    const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  // ---- artists and albums --------------------------------------------------------------------------------------------

  function startGroups(section, songTable) {
    const rows = groups.name.length;
    const form = section.querySelector("form");
    const status = form.querySelector("[role=status]");

    function nameCell(group) {
      const button = make("button", { type: "button", class: "link" }, groups.name[group]);
      button.setAttribute("aria-label", `Songs of ${groups.name[group]}`);
      button.addEventListener("click", () => songTable.search(groups.name[group]));
      return button;
    }

    function sharesCell(group) {
      const parts = classes.map((name, position) => [name, groups.labels[position][group], colors[position]]);
      const words = parts.filter(([, number]) => number).map(([name, number]) => `${name} ${number}`).join(", ");
      const bar = make("span", { class: "runs", role: "img", "aria-label": words, title: words });
      let left = 0;
      for (const [, number, color] of parts) {
        const width = (100 * number) / groups.songs[group];
        bar.append(make("i", { style: `left: ${left}%; width: ${width}%; background: ${color}` }));
        left += width;
      }
      return bar;
    }

    /* The emotion of more songs than any other; -1 where several have as many. */
    const commonest = (group) => {
      const numbers = classes.map((_, position) => groups.labels[position][group]);
      const most = Math.max(...numbers);
      return numbers.indexOf(most) === numbers.lastIndexOf(most) ? numbers.indexOf(most) : -1;
    };
    const numbers = (title, values) => ({
      title,
      kind: "n",
      largestFirst: true,
      value: (group) => values[group],
      cell: (group) => count(values[group]),
    });
    const search = searcher(form.search, (group) => groups.name[group], rows);
    const table = browser(section, {
      rows,
      columns: [
        { title: "Artist or album", kind: "id", value: (group) => groups.name[group], cell: nameCell },
        numbers("Songs", groups.songs),
        { title: "Mostly", value: (group) => classes[commonest(group)] ?? "", cell: (group) => chip(commonest(group)) },
        { title: "Emotions", kind: "line", value: (group) => commonest(group), cell: sharesCell },
        numbers("Abstain", groups.abstained),
        numbers("Look wrong", groups.wrong),
      ],
      attributes: () => ({}),
      accepts: search,
      shown: (found) => {
        status.textContent =
          found === rows ? `All ${count(rows)} groups` : `${count(found)} of ${count(rows)} groups`;
      },
    });
    form.addEventListener("input", table.filter);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // ---- a cursor over the plot of a track that plays ------------------------------------------------------------------

  function startPlot(figure) {
    const plot = figure.querySelector(".plotted");
    const [left, right, start_s, end_s] = ["left", "right", "startS", "endS"].map((name) => Number(plot.dataset[name]));
    const cursor = make("b", { class: "cursor", hidden: "" });
    plot.append(cursor);
    const players = figure.querySelectorAll("audio");
    for (const audio of players) {
      audio.addEventListener("timeupdate", () => {
        const share = Math.min(1, Math.max(0, (audio.currentTime - start_s) / (end_s - start_s)));
        cursor.hidden = false;
        cursor.style.left = `${100 * (left + share * (right - left))}%`;
      });
    }
    // A click into the plot plays from there; the player does the same by keyboard.
    plot.addEventListener("click", (event) => {
      if (!players.length) return;
      const box = plot.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - left) / (right - left);
      if (share < 0 || share > 1) return;
      players[0].currentTime = start_s + share * (end_s - start_s);
      players[0].play().catch(() => {});
    });
  }

  document.querySelectorAll("figure.track").forEach(startPlot);

  const [songSection, groupSection] = ["songs", "groups"].map((id) => document.getElementById(id));
  start(songSection);
  const songTable = startSongs(songSection);
  if (groupSection) {
    start(groupSection);
    startGroups(groupSection, songTable);
  }
})();
