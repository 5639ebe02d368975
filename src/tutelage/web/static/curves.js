// Curves of a stage. While it runs they are asked for with a cursor, so that only what is new comes.
const place = document.getElementById("curves"), said = document.getElementById("curves-said");
const EVERY = 2000, MOST = 2400, HEIGHT = 190; // milliseconds; points of a curve before the server thins them anew; pixels
const curves = new Map(), charts = new Map();
let cursor = "";

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const chartOf = name => name.replace(/^(train|validation)\//, "");
const shown = value => value === null ? "not finite" : value === undefined ? "–" : Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : (+value.toPrecision(4)).toLocaleString("en");

function take(got) {
  if (got.fresh) curves.clear();
  for (const curve of got.curves) {
    const known = curves.get(curve.name);
    if (!known) curves.set(curve.name, { branches: [], ...curve });
    else for (const column of ["steps", "values", "broken"]) known[column].push(...curve[column]);
  }
  const longest = Math.max(0, ...[...curves.values()].map(curve => curve.steps.length));
  cursor = longest > MOST ? "" : got.cursor;
}

function linesOf(name) {
  const lines = [], own = [...curves.values()].filter(curve => chartOf(curve.name) === name);
  for (const curve of own.sort((a, b) => b.steps.length - a.steps.length)) {
    const number = lines.filter(line => !line.left).length % 4;
    lines.push({ label: curve.name, number, steps: curve.steps, values: curve.values, broken: curve.broken, last: curve.values.at(-1) });
    for (const branch of curve.branches) lines.push({ label: curve.name, number, left: true, steps: branch.steps, values: branch.values, broken: [] });
  }
  return lines;
}

function options(chart, lines, width) {
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const series = lines.map(line => ({
    stroke: line.left ? colour("--edge") : colour(`--c${line.number}`), width: line.left ? 1.2 : 1.6,
    dash: line.left ? [3, 3] : line.number ? [7, 3] : [], points: { show: !line.left && line.steps.length < 24, size: 5 },
  }));
  return { width, height: HEIGHT, legend: { show: false }, cursor: { points: { size: 6 }, drag: { x: true, y: false } }, scales: { x: { time: false } },
    axes: [{ ...axis, size: 24, gap: 4 }, { ...axis, size: 56, gap: 4, values: (plot, ticks) => ticks.map(shown) }], series: [{}, ...series], padding: [8, 16, 0, 0],
    hooks: { draw: [plot => markBroken(plot, chart)], setCursor: [plot => tell(chart, plot.cursor.idx)] } };
}

function markBroken(plot, chart) { // values that are no finite number: triangles on the axis of steps
  const { ctx, bbox } = plot, size = 5 * devicePixelRatio;
  ctx.fillStyle = colour("--bad");
  for (const step of new Set(chart.lines.flatMap(line => line.broken))) {
    const x = plot.valToPos(step, "x", true), y = bbox.top + bbox.height;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath(); ctx.moveTo(x, y - 1.6 * size); ctx.lineTo(x + size, y); ctx.lineTo(x - size, y); ctx.fill();
  }
}

function tell(chart, at) { // the value under the pointer, else the last one
  const here = at === null || at === undefined ? null : chart.plot.data[0][at];
  chart.step.textContent = here === null ? "" : `step ${here}`;
  chart.lines.forEach((line, number) => {
    if (line.left) return;
    const value = here === null ? line.last : chart.plot.data[number + 1][at];
    chart.keys.get(line.label).textContent = shown(value);
  });
}

function caption(chart, name) {
  const text = document.createElement("figcaption"), title = document.createElement("strong");
  title.textContent = name; chart.step = document.createElement("span"); chart.step.className = "soft";
  text.append(title, " "); chart.keys = new Map();
  for (const line of chart.lines.filter(line => !line.left)) {
    const key = document.createElement("span"), value = document.createElement("span");
    key.className = `key c${line.number}`; chart.keys.set(line.label, value);
    key.append(line.label === name ? "" : `${line.label.split("/")[0]} `, value); text.append(key, " ");
  }
  const broken = chart.lines.reduce((sum, line) => sum + line.broken.length, 0), left = chart.lines.filter(line => line.left).length;
  if (broken) { const note = document.createElement("span"); note.className = "warn"; note.textContent = `▲ ${broken} not finite `; text.append(note); }
  if (left) { const note = document.createElement("span"); note.className = "soft"; note.textContent = "┄ left behind "; note.title = "What a stopped attempt had reached after the checkpoint that the next one went on from."; text.append(note); }
  text.append(chart.step);
  return text;
}

function draw(name) {
  const lines = linesOf(name), known = charts.get(name);
  const signature = JSON.stringify(lines.map(line => [line.label, line.left, line.broken.length, line.steps.length < 24]));
  const data = uPlot.join(lines.map(line => [line.steps, line.values]));
  if (known && known.signature === signature) { known.lines = lines; known.plot.setData(data); tell(known, null); return; }
  const figure = known ? known.figure : document.createElement("figure");
  if (!known) place.append(figure); else { known.watch.disconnect(); known.plot.destroy(); }
  const chart = { lines, signature, figure }, canvas = document.createElement("div");
  canvas.setAttribute("aria-hidden", "true"); // the caption says the values
  figure.replaceChildren(caption(chart, name), canvas);
  chart.plot = new uPlot(options(chart, lines, figure.clientWidth), data, canvas);
  chart.watch = new ResizeObserver(() => { if (figure.clientWidth !== chart.plot.width) chart.plot.setSize({ width: figure.clientWidth, height: HEIGHT }); });
  chart.watch.observe(figure);
  charts.set(name, chart); tell(chart, null);
}

function drawAll() {
  const names = new Set([...curves.keys()].map(chartOf));
  for (const [name, chart] of charts) if (!names.has(name)) { chart.watch.disconnect(); chart.plot.destroy(); chart.figure.remove(); charts.delete(name); }
  for (const name of names) draw(name);
}

async function look() {
  try {
    const answer = await fetch(`${place.dataset.url}&cursor=${encodeURIComponent(cursor)}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const got = await answer.json();
    take(got); drawAll();
    place.dataset.ready = String(Number(place.dataset.ready || 0) + 1);
    said.textContent = got.running ? "Live: asked for anew every two seconds." : curves.size ? "" : "No metrics yet.";
    if (got.running) setTimeout(look, EVERY);
  } catch (error) {
    said.textContent = "The server does not answer; it is asked again."; setTimeout(look, 2 * EVERY);
  }
}

if (place) {
  look();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const chart of charts.values()) chart.signature = ""; drawAll(); });
}
