// Asks every chosen model at once and writes what arrives as text, never as markup.
const form = document.getElementById("ask"), columns = document.getElementById("replies"), said = document.getElementById("said");
const stop = document.getElementById("stop"), toRank = document.getElementById("to-rank");
let asked = "", results = [], control;

function column(name, kind) {
  const own = document.createElement("article"), head = document.createElement("h2"), text = document.createElement("p"), note = document.createElement("p");
  head.textContent = name; text.className = "said"; note.className = "soft"; note.textContent = kind;
  own.className = "answer"; own.append(head, text, note); columns.append(own);
  return { text, note };
}
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
  }
}
async function ask(box, sampling) {
  const chats = box.dataset.chats === "yes", { text, note } = column(box.value, chats ? "answers" : "base model: goes on with the text");
  const one = { model: box.value, text: "", finished: false, sampling };
  results.push(one);
  const body = { model: box.value, stream: true, ...sampling, ...(chats ? { messages: [{ role: "user", content: asked }] } : { prompt: asked }) };
  const begun = performance.now();
  try {
    const answer = await fetch(chats ? "/v1/chat/completions" : "/v1/completions",
      { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: control.signal });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const event of events(answer.body)) {
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      one.text += choice?.delta?.content ?? choice?.text ?? "";
      one.finished ||= choice?.finish_reason === "stop";
      text.textContent = one.text;
    }
    note.textContent = `${one.finished ? "stopped by itself" : "cut off"}, ${((performance.now() - begun) / 1000).toFixed(1)} s`;
  } catch (error) { note.textContent = error.name === "AbortError" ? "stopped" : error.message; }
}
form?.addEventListener("submit", async event => {
  event.preventDefault();
  control?.abort(); control = new AbortController();
  const own = control, boxes = [...form.querySelectorAll("[name=model]:checked")];
  asked = form.querySelector("[name=style]:checked").value.replace("{}", () => document.getElementById("prompt").value.trim());
  results = []; columns.replaceChildren(); said.textContent = ""; stop.disabled = false;
  if (toRank) toRank.disabled = true;
  const sampling = { temperature: Number(document.getElementById("temperature").value), max_tokens: Number(document.getElementById("tokens").value) };
  await Promise.all(boxes.map(box => ask(box, sampling)));
  if (own !== control) return;
  stop.disabled = true;
  if (toRank) toRank.disabled = results.filter(one => one.text).length < 2;
});
stop?.addEventListener("click", () => control?.abort());
toRank?.addEventListener("click", async () => {
  toRank.disabled = true;
  const answer = await fetch("/compare/rank", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: asked, replies: results.filter(one => one.text).slice(0, 8) }) });
  const got = await answer.json();
  said.textContent = answer.ok ? (got.added ? "It is in the task “compare” now." : "It was there already.") : `${got.error?.message}: ${got.error?.hint}`;
});
document.getElementById("prompt")?.addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
