"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text = "", parent = null) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const data = {};
  for (const script of all("script.data")) {
    data[script.dataset.dataset] = JSON.parse(script.textContent);
  }

  // Bytes of a deflated text in base64.
  const inflated = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream();
    const plain = stream.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  };

  const said = (element, text) => {
    const place = element.closest(".tools").querySelector(".said");
    place.textContent = text;
  };

  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a browser that allows it to a selection only
      const area = make("textarea", text, document.body);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    said(button, "Copied.");
  };

  /* Light and dark. */
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : system.matches;
  };
  const label = () => { theme.textContent = dark() ? "Light page" : "Dark page"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  /* What a word means: on hover, on focus; Escape puts it away. */
  const tip = document.getElementById("tip");
  let explained = null;
  const hide = () => {
    explained = null;
    tip.hidden = true;
  };
  const place = () => {
    if (!explained) return;
    tip.hidden = false;
    const at = explained.getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const left = Math.min(at.left, innerWidth - box.width - 8);
    const below = at.bottom + 6;
    const above = at.top - box.height - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below + box.height > innerHeight && above > 0 ? above : below}px`;
  };
  const explain = (word) => {
    const meaning = document.getElementById(word.getAttribute("aria-describedby"));
    tip.textContent = meaning.textContent;
    explained = word;
    place();
  };
  for (const word of all("[aria-describedby]")) {
    word.removeAttribute("title");  // it stands in for this when there is no script
    word.addEventListener("mouseenter", () => explain(word));
    word.addEventListener("focus", () => explain(word));
    word.addEventListener("mouseleave", hide);
    word.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", place, true);

  /* Tables. */
  const value = (text) => parseFloat(text.replace("[", ""));
  const compare = (a, b, numeric) =>
    numeric ? value(a) - value(b) : a.localeCompare(b, "en", { numeric: true });
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const text = (row) => row.cells[column].textContent;
    const defined = rows.filter((row) => text(row) !== "-");
    const numeric = defined.every((row) => /^\[?-?\d[\d.]*(e[-+]\d+)?(%|, .*\])?$/.test(text(row)));
    defined.sort((a, b) => direction * compare(text(a), text(b), numeric));
    body.append(...defined, ...rows.filter((row) => text(row) === "-"));
  };
  for (const section of all("section.table")) {
    const { dataset: key, table: name } = section.dataset;
    const table = section.querySelector("table");
    const heads = all("th", table);
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down ? -1 : 1);
      });
    });
    const filter = section.querySelector(".filter");
    filter.addEventListener("input", () => {
      // as beginnings of words, so that rsa is not found in versa
      const plain = (text) => ` ${text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim()}`;
      const words = filter.value.split(/\s+/).filter(Boolean).map(plain);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const cells = [...row.cells].map((cell) => plain(cell.textContent));
        row.hidden = !words.every((word) => cells.some((cell) => cell.includes(word)));
        shown += !row.hidden;
      }
      said(filter, words.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "");
    });
    section.querySelector(".copy").addEventListener("click", (event) => {
      const lines = [...table.rows].filter((row) => !row.hidden).map((row) =>
        [...row.cells].map((cell) => cell.textContent.trim()).join("\t"));
      copy(`${lines.join("\n")}\n`, event.currentTarget);
    });
    const csv = section.querySelector(".csv");
    if (csv) csv.addEventListener("click", async () => {
      const bytes = await inflated(data[key].tables[name]);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes], { type: "text/csv" }));
      link.download = `${name}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      said(csv, `Saved as ${name}.csv.`);
    });
  }
  for (const button of all(".copy-text")) {
    button.addEventListener("click", () => {
      const from = document.getElementById(button.dataset.from);
      copy(from.innerText, button);
    });
  }

  /* RDMs. Places of matplotlib's viridis, dark to light. */
  const COLOURS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
    [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
  const GREY = [190, 190, 190];
  const UNDEFINED = -32768;
  const CELLS = 576;  // points along a side of the drawing
  const colour = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
    const low = Math.min(Math.floor(place), COLOURS.length - 2);
    return COLOURS[low].map((c, k) => Math.round(c + (place - low) * (COLOURS[low + 1][k] - c)));
  };

  const viewer = async (section) => {
    const { rdms, stimuli } = data[section.dataset.dataset];
    const pictures = all(".stimuli li", section.closest(".dataset")).map((item) =>
      item.querySelector("img"));
    const planes = await inflated(rdms.data);
    const half = planes.length / 2;
    const number = (k) => ((planes[k] | (planes[k + half] << 8)) << 16) >> 16;
    const n = rdms.n;
    const place = (i, j) => {  // in pdist's order, for i < j
      return n * i - (i * (i + 1)) / 2 + (j - i - 1);
    };
    const distance = (matrix, i, j) => {
      if (i === j) return 0;
      return number(matrix.at + place(Math.min(i, j), Math.max(i, j)));
    };
    const written = (matrix, whole) =>
      whole === UNDEFINED ? "-" : (whole / 10 ** matrix.decimals).toFixed(Math.min(100, Math.max(0, matrix.decimals)));

    const choices = section.querySelector(".choices");
    const stage = section.querySelector(".matrices");
    const choose = (text, options) => {
      const holder = make("label", `${text} `, choices);
      const select = make("select", "", holder);
      for (const option of options) make("option", option, select);
      select.addEventListener("change", draw);
      return select;
    };
    const sides = [];
    let at = [0, 1];
    const sector = choose("Sector", rdms.sectors);
    const models = rdms.models.filter((model) => Object.keys(model.methods).length);
    const network = models.length ? choose("Network", models.map((model) => model.name)) : null;
    const method = network ? choose("Method", Object.keys(models[0].methods)) : null;
    if (method) {
      const wanted = data[section.dataset.dataset].method;
      const place = [...method.options].findIndex((option) => option.value === wanted);
      method.selectedIndex = Math.max(0, place);
    }
    for (let k = 0; k < (network ? 2 : 1); k += 1) {
      const figure = make("div", "", stage);
      figure.className = "matrix";
      const title = make("h4", "", figure);
      const canvas = make("canvas", "", figure);
      canvas.width = canvas.height = CELLS;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      const scale = make("canvas", "", figure);
      scale.className = "scale";
      scale.width = 256;
      scale.height = 1;
      scale.setAttribute("aria-hidden", "true");
      const ends = make("div", "", figure);
      ends.className = "ends";
      sides.push({ title, canvas, scale, ends, image: make("canvas"), matrix: null });
      canvas.addEventListener("pointermove", (event) => {
        const box = canvas.getBoundingClientRect();
        const cell = (share) => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
        at = [cell((event.clientY - box.top) / box.height),
          cell((event.clientX - box.left) / box.width)];
        point();
      });
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
        if (!step[event.key]) return;
        event.preventDefault();
        at = at.map((index, k2) => Math.min(n - 1, Math.max(0, index + step[event.key][k2])));
        point();
      });
    }
    const pair = make("div", "", stage);
    pair.className = "pair";
    pair.setAttribute("aria-live", "polite");

    function paint(side, name) {
      const { canvas, image, matrix, scale, ends, title } = side;
      title.textContent = name;
      canvas.setAttribute("aria-label", `RDM, ${name}. Arrow keys move from cell to cell.`);
      image.width = image.height = n;
      const context = image.getContext("2d");
      const pixels = context.createImageData(n, n);
      const span = matrix.high - matrix.low || 1;
      for (let i = 0; i < n; i += 1) {
        for (let j = 0; j < n; j += 1) {
          const whole = distance(matrix, i, j);
          const none = i === j || whole === UNDEFINED;
          const rgb = none ? GREY : colour((whole - matrix.low) / span);
          pixels.data.set([...rgb, 255], 4 * (i * n + j));
        }
      }
      context.putImageData(pixels, 0, 0);
      const bar = scale.getContext("2d");
      for (let k = 0; k < 256; k += 1) {
        bar.fillStyle = `rgb(${colour(k / 255).join(",")})`;
        bar.fillRect(k, 0, 1, 1);
      }
      ends.replaceChildren();
      make("span", written(matrix, matrix.low), ends);
      make("span", matrix.unit || "", ends);
      make("span", written(matrix, matrix.high), ends);
    }

    function point() {
      const [i, j] = at;
      for (const { canvas, image } of sides) {
        const context = canvas.getContext("2d");
        const size = CELLS / n;
        context.imageSmoothingEnabled = false;
        context.drawImage(image, 0, 0, CELLS, CELLS);
        context.strokeStyle = "#ffffff";
        context.lineWidth = 4;
        context.strokeRect(j * size, i * size, size, size);
        context.strokeStyle = "#d55e00";
        context.lineWidth = 2;
        context.strokeRect(j * size, i * size, size, size);
      }
      pair.replaceChildren();
      const both = make("div", "", pair);
      both.className = "both";
      for (const index of at) {
        const one = make("div", "", both);
        if (pictures[index]) {
          const copyOf = pictures[index].cloneNode();
          one.append(copyOf);
        }
        make("span", stimuli[index], one);
      }
      const list = make("dl", "", pair);
      for (const { title, matrix } of sides) {
        make("dt", title.textContent, list);
        make("dd", i === j ? "same image" : written(matrix, distance(matrix, i, j)), list);
      }
    }

    function draw() {
      sides[0].matrix = rdms.brain[sector.value];
      paint(sides[0], `Brain, ${sector.value}`);
      if (network) {
        const model = models[network.selectedIndex];
        const found = (model.methods[method.value] || {})[sector.value];
        sides[1].matrix = found || { at: 0, decimals: 0, low: 0, high: 0, layer: "no layer" };
        sides[1].canvas.parentElement.hidden = !found;
        paint(sides[1], `${model.name}, ${sides[1].matrix.layer}, ${method.value}`);
      }
      point();
    }
    draw();
    choices.hidden = false;
    stage.hidden = false;
  };
  for (const section of all("section.viewer")) viewer(section);
})();
