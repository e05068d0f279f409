// Draws the maps and curves of each viewer and moves them through time and samples.
// A page address may end in #time=0.05&sample=7: the nearest time and that sample are shown.
(() => {
  "use strict";

  const colours = JSON.parse(document.getElementById("colours").textContent);

  // A colour per code; the last code means "no value" and stays transparent.
  function palette(table) {
    const words = new Uint32Array(256);
    const bytes = new Uint8Array(words.buffer);
    table.forEach((rgb, code) => {
      const value = parseInt(rgb, 16);
      bytes.set([value >> 16, (value >> 8) & 255, value & 255, 255], 4 * code);
    });
    return words;
  }
  const palettes = { forecast: palette(colours.forecast), error: palette(colours.error) };
  palettes.truth = palettes.forecast;

  function decode(text, missing) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return missing < 256 ? bytes : new Uint16Array(bytes.buffer);
  }

  function paint(canvas, codes, palette) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    codes.forEach((code, index) => { pixels[index] = palette[code]; });
    context.putImageData(image, 0, 0);
  }

  // In `low` to `high` the codes lie, in `view` the axis: what is beyond leaves the frame.
  function trace(path, codes, missing, low, high, view) {
    const place = (code) => (view[1] - low - (high - low) * (code / (missing - 1))) / (view[1] - view[0]);
    let line = "";
    codes.forEach((code, index) => {
      if (code === missing) return;
      const starts = index === 0 || codes[index - 1] === missing;
      const ends = index === codes.length - 1 || codes[index + 1] === missing;
      line += `${starts ? "M" : "L"}${((index + 0.5) / codes.length).toFixed(5)} ${place(code).toFixed(5)}`;
      // A point between two gaps is a dot: a line to nowhere with round ends.
      if (starts && ends) line += "h0";
    });
    path.setAttribute("d", line);
  }

  function label(axis, ticks) {
    axis.replaceChildren(...ticks.map((tick) => {
      const mark = document.createElement("span");
      mark.textContent = tick.label;
      mark.style.setProperty("--at", `${tick.place}%`);
      return mark;
    }));
  }

  const superscripts = { "-": "\u207b", ...[..."\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"] };

  // A number with as many digits as a step of this size leaves it, or else with three.
  function digits(value, step = 0) {
    const places = step > 0 && value ? 1 + Math.floor(Math.log10(Math.abs(value))) - Math.floor(Math.log10(step)) : 3;
    if (places < 1) return "0";
    const [mantissa, power] = String(Number(value.toPrecision(Math.min(places, 15)))).split("e");
    const raised = power ? `\u00b710${[...power.replace("+", "")].map((letter) => superscripts[letter]).join("")}` : "";
    return (mantissa + raised).replace("-", "\u2212");
  }

  // One variable. Returns the function that shows it at a sample and a time.
  function makeRow(element, row) {
    const [width, height] = row.size;
    const cells = width * height;
    const panels = Object.entries(row.panels).map(([role, panel]) => ({
      role, ...panel,
      codes: decode(panel.codes, row.missing),
      target: element.querySelector(`[data-role="${role}"]`),
      // Truth and forecast share the axis that the forecast fills.
      axis: element.querySelector(`[data-scale="${role}"]`),
    }));
    const isMap = panels[0].target instanceof HTMLCanvasElement;
    const error = element.querySelector(".frame-error");
    const readout = element.querySelector(".pointed");
    const crosses = element.querySelectorAll(".cross");
    let sample = 0;
    let offset = 0;
    let pointed = null;
    if (isMap) panels.forEach(({ target }) => { target.width = width; target.height = height; });

    function read() {
      crosses.forEach((cross) => { cross.hidden = !pointed; });
      if (!pointed) { readout.textContent = ""; return; }
      const at = pointed.map((part, axis) => Math.min(row.size[axis] - 1, Math.floor(part * row.size[axis])));
      const place = row.axes.map((name, axis) => {
        const [low, high] = row.bounds[axis];
        const width = (high - low) / row.size[axis];
        return `${name} = ${digits(low + width * (at[axis] + 0.5), width / 10)}`;
      });
      const index = isMap ? (height - 1 - at[1]) * width + at[0] : at[0];
      const values = panels.map(({ role, codes, low, high }) => {
        const code = codes[offset + index];
        const span = high[sample] - low[sample];
        const value = low[sample] + span * (code / (row.missing - 1));
        // No finer than the codes tell values apart.
        return `${row.words[role]} ${code === row.missing ? "no value" : digits(value, span / Math.min(row.missing, 1000)) + row.unit}`;
      });
      readout.textContent = `At ${place.join(", ")}: ${values.join(", ")}.`;
      crosses.forEach((cross) => {
        cross.style.left = `${(100 * (at[0] + 0.5)) / width}%`;
        cross.style.top = isMap ? `${100 - (100 * (at[1] + 0.5)) / height}%` : "";
      });
    }

    element.querySelectorAll(".frame").forEach((frame) => {
      const drawing = frame.firstElementChild;
      drawing.addEventListener("pointermove", (event) => {
        const box = drawing.getBoundingClientRect();
        const part = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
        pointed = part.map((value) => Math.min(Math.max(value, 0), 1));
        read();
      });
      drawing.addEventListener("pointerleave", () => { pointed = null; read(); });
    });

    return (wantedSample, wantedTime) => {
      const [numSamples, numTimes] = row.shape;
      sample = Math.min(wantedSample, numSamples - 1);
      const time = Math.min(wantedTime, numTimes - 1);
      offset = (sample * numTimes + time) * cells;
      panels.forEach(({ role, codes, ticks, low, high, view, target, axis }) => {
        const shown = codes.subarray(offset, offset + cells);
        if (isMap) paint(target, shown, palettes[role]);
        else trace(target, shown, row.missing, low[sample], high[sample], view[sample]);
        if (axis) label(axis, ticks[sample]);
      });
      if (error) {
        const percent = row.errors[sample][time];
        error.textContent = percent === null ? "no value" : `${digits(percent)}\u00a0% (L1)`;
      }
      read();
    };
  }

  function makeViewer(section) {
    const data = JSON.parse(section.querySelector(".data").textContent);
    const rows = [...section.querySelectorAll(".row")].map((element, i) => makeRow(element, data.rows[i]));
    const slider = section.querySelector(".time");
    const select = section.querySelector(".sample");
    const button = section.querySelector(".play");
    let timer = null;

    function show() {
      const time = slider ? Number(slider.value) : 0;
      rows.forEach((row) => row(select ? Number(select.value) : 0, time));
      if (!slider) return;
      const { label, phase } = data.times[time];
      section.querySelector(".moment").textContent = `t = ${label}`;
      section.querySelector(".phase").textContent = phase;
      slider.setAttribute("aria-valuetext", [`t = ${label}`, phase].filter(Boolean).join(", "));
    }

    function play(on) {
      clearInterval(timer);
      timer = on ? setInterval(step, Math.max(90, 4000 / data.times.length)) : null;
      button.setAttribute("aria-label", on ? "Pause" : "Play through time");
      button.firstElementChild.textContent = on ? "\u275a\u275a" : "\u25b6";
      if (on && slider.value === slider.max) { slider.value = 0; show(); }
    }

    function step() {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) play(false);
    }

    function follow() {
      const wanted = new URLSearchParams(location.hash.slice(1));
      const time = parseFloat(wanted.get("time"));
      if (slider && Number.isFinite(time)) {
        const distance = data.times.map(({ value }) => Math.abs(value - time));
        slider.value = distance.indexOf(Math.min(...distance));
      }
      const sample = data.samples.indexOf(wanted.get("sample"));
      if (select && sample >= 0) select.value = sample;
      show();
    }

    if (slider) {
      slider.addEventListener("input", () => { play(false); show(); });
      button.addEventListener("click", () => play(timer === null));
    }
    if (select) select.addEventListener("change", show);
    window.addEventListener("hashchange", follow);
    follow();
  }

  document.querySelectorAll(".viewer").forEach(makeViewer);
  // On paper a closed box would hide the configuration.
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
  });
})();
