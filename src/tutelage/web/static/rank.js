// One sheet: what stands on it is a verdict, kept as a draft at every change. Keys work unless somebody types.
const KEYS = { g: "good", b: "bad", d: "unsafe", i: "inaccurate" };
const desk = document.getElementById("desk"), said = document.getElementById("said"), help = document.getElementById("help");
let sheet, state, count, client, revision, begun, tied, chosen, busy, timer;

const fresh = () => [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, "0")).join("");
const send = async (to, body, more = {}) => {
  const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...more };
  const answer = await fetch(to, sent).catch(() => { throw new Error("The server cannot be reached; what stands here is kept."); });
  const got = await answer.json();
  if (answer.ok) return got;
  throw Object.assign(new Error([got.error.message, got.error.hint].filter(Boolean).join(". ")), { status: answer.status });
};
const find = id => desk.querySelector(`#${id}`);
const reply = place => desk.querySelector(`.reply[data-place="${place}"]`);
const rankOf = place => state.ranking.findIndex(group => group.includes(place));

function open() {
  sheet = find("sheet"); busy = tied = false; chosen = 0; clearTimeout(timer); timer = 0;
  find("undo")?.addEventListener("click", undo);
  if (!sheet) return;
  let draft = JSON.parse(sheet.dataset.draft);
  revision = Number(sheet.dataset.revision);
  const here = JSON.parse(sessionStorage.getItem(slot()) || "null");  // a reload may overtake the last draft on its way
  const late = here && here.revision > revision;
  if (late) draft = here.body;
  state = { ranking: draft.ranking || [], flags: draft.flags || {}, all_bad: draft.all_bad || false, reason: draft.reason || "" };
  client = draft.client_id || fresh();
  begun = performance.now() - 1000 * (draft.seconds || 0);
  count = Number(desk.querySelector(".replies").dataset.count);
  find("reason").value = state.reason;
  for (const one of desk.querySelectorAll(".reply")) {
    const place = Number(one.dataset.place);
    one.querySelector(".rank").addEventListener("click", () => rank(place));
    for (const button of one.querySelectorAll("[data-flag]")) button.addEventListener("click", () => flag(place, button.dataset.flag));
    one.addEventListener("focusin", () => { chosen = place; });
  }
  find("reason").addEventListener("input", event => { state.reason = event.target.value; keep(); });
  find("tie").addEventListener("click", tie);
  find("all-bad").addEventListener("click", allBad);
  find("skip").addEventListener("click", () => decide(null));
  find("keys").addEventListener("click", () => help.showModal());
  sheet.addEventListener("submit", event => { event.preventDefault(); submit(); });
  show();
  if (late) keep();
}

function show() {
  for (const one of desk.querySelectorAll(".reply")) {
    const place = Number(one.dataset.place), at = rankOf(place), button = one.querySelector(".rank");
    button.setAttribute("aria-pressed", String(at >= 0));
    one.classList.toggle("ranked", at >= 0);
    button.querySelector(".place").textContent = at < 0 ? (count === 2 ? "choose as better" : "not ranked")
      : state.ranking[at].length > 1 ? (count === 2 ? "equal" : `rank ${at + 1}, tied`)
      : count === 2 ? (at ? "worse" : "better") : `rank ${at + 1}`;
    for (const each of one.querySelectorAll("[data-flag]"))
      each.setAttribute("aria-pressed", String((state.flags[place] || []).includes(each.dataset.flag)));
  }
  find("all-bad").setAttribute("aria-pressed", String(state.all_bad));
  find("tie").classList.toggle("on", tied);
}

function rank(place) {
  if (place >= count) return;
  if (rankOf(place) >= 0) state.ranking = state.ranking.map(group => group.filter(one => one !== place)).filter(group => group.length);
  else {
    if (tied && state.ranking.length) state.ranking.at(-1).push(place); else state.ranking.push([place]);
    tied = false;
    const left = [...Array(count).keys()].filter(one => rankOf(one) < 0);
    if (left.length === 1) state.ranking.push(left);  // the last one is last; `t` makes it a tie
  }
  changed();
}
function tie() {
  const done = state.ranking.flat().length === count;
  if (done && state.ranking.length > 1) state.ranking.splice(-2, 2, [...state.ranking.at(-2), ...state.ranking.at(-1)]);
  else tied = !tied && !done && state.ranking.length > 0;
  changed();
}
function flag(place, name) {
  const own = state.flags[place] || [];
  let next = own.includes(name) ? own.filter(one => one !== name) : [...own, name];
  if (next.includes("good") && next.length > 1) next = name === "good" ? ["good"] : next.filter(one => one !== "good");
  if (next.length) state.flags[place] = next; else delete state.flags[place];
  if (next.includes("good")) state.all_bad = false;
  changed();
}
function allBad() {
  state.all_bad = !state.all_bad;
  if (state.all_bad) for (const [place, own] of Object.entries(state.flags)) if (own.includes("good")) delete state.flags[place];
  changed();
}
const changed = () => { show(); keep(); };
const seconds = () => Math.round((performance.now() - begun) / 100) / 10;
const slot = () => `sheet ${sheet.dataset.presentation}`;
const body = () => ({ ...state, client_id: client, seconds: seconds() });
function keep() {
  sessionStorage.setItem(slot(), JSON.stringify({ revision: revision + 1, body: body() }));
  clearTimeout(timer); timer = setTimeout(save, 250);
}
function save() {
  if (!timer || busy) return;
  clearTimeout(timer); timer = 0; revision += 1;
  send("/rank/draft", { presentation: Number(sheet.dataset.presentation), body: body(), revision }, { keepalive: true })
    .catch(error => { said.textContent = `The draft is not kept: ${error.message}`; });
}

const submit = () => {
  const whole = state.ranking.flat().length === count;
  if (state.ranking.length && !whole) { said.textContent = "Some replies have no rank yet."; return; }
  decide({ ...state, seconds: seconds() });
};
async function decide(verdict) {
  if (busy || !sheet) return;
  busy = true; clearTimeout(timer); timer = 0;
  try {
    const body = { presentation: Number(sheet.dataset.presentation), client_id: client, verdict };
    if (!verdict) Object.assign(body, { reason: state.reason, seconds: seconds() });
    await send("/rank/decide", body);
    sessionStorage.removeItem(slot());
    await next(verdict ? "Stored." : "Skipped.");
  } catch (error) { if (error.status === 409) await next(error.message); else failed(error); }
}
async function undo() {
  if (busy) return;
  busy = true;
  try {
    const { undone } = await send("/rank/undo", { task: desk.dataset.task, client_id: fresh() });
    await next(undone ? "The last one again." : "There is nothing to undo.");
  } catch (error) { failed(error); }
}
const failed = error => { busy = false; said.textContent = error.message; };
async function next(words) {
  await htmx.ajax("GET", `/rank/sheet?task=${encodeURIComponent(desk.dataset.task)}`, { target: "#desk", swap: "innerHTML" });
  open(); said.textContent = words; scrollTo(0, 0);
  document.body.dispatchEvent(new Event("judged"));
}

document.addEventListener("keydown", event => {
  const at = event.target, types = at.matches("textarea, input, select");
  if (types) { if (event.key === "Escape") at.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || help.open || (event.repeat && event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
  if (event.key === "?") { help.showModal(); return; }
  if (event.key === "u") { event.preventDefault(); undo(); return; }
  if (!sheet || busy) return;
  const key = event.key;
  if (/^[1-9]$/.test(key)) rank(Number(key) - 1);
  else if (key === "t") tie();
  else if (key === "x") allBad();
  else if (key === "s") decide(null);
  else if (key === "r") find("reason").focus();
  else if (KEYS[key]) flag(chosen, KEYS[key]);
  else if (key === "ArrowDown" || key === "ArrowUp") { chosen = (chosen + (key === "ArrowDown" ? 1 : count - 1)) % count; reply(chosen).focus(); }
  else if (key === "Enter" && !at.matches("button, a, summary")) submit();
  else return;
  event.preventDefault();
});
addEventListener("pagehide", save);
open();
desk.dataset.ready = "yes";
