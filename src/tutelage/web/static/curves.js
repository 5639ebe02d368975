// Curves of a stage, drawn anew every two seconds while it runs.
const place = document.getElementById("curves"), drawn = new Map();
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const width = () => Math.min(place.clientWidth, place.clientWidth > 760 ? place.clientWidth / 2 - 12 : place.clientWidth);

function draw(curve) {
  const data = [curve.steps, curve.values], known = drawn.get(curve.name);
  if (known) { known.setData(data); return; }
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = curve.name + (curve.broken ? ` (${curve.broken} values are not finite)` : "");
  figure.append(caption); place.append(figure);
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: "11px system-ui" };
  drawn.set(curve.name, new uPlot({ width: width(), height: 170, legend: { show: false }, scales: { x: { time: false } }, axes: [{ ...axis }, { ...axis, size: 62 }],
    series: [{}, { stroke: colour("--accent"), width: 1.5, points: { show: false } }] }, data, figure));
}
async function look() {
  const got = await (await fetch(place.dataset.url)).json();
  got.curves.forEach(draw);
  if (got.running) setTimeout(look, 2000);
}
if (place) {
  look();
  addEventListener("resize", () => { for (const plot of drawn.values()) plot.setSize({ width: width(), height: 170 }); });
}
