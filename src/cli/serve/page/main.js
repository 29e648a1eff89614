// The page of viridian serve.
import { element, follow, learnRole, may, whenUnauthorized } from "./api.js";
import { edit, start } from "./editor.js";
import { showJobs } from "./jobs.js";
import { load, noteJob, tick, whenEdited } from "./list.js";
import { route } from "./machine.js";

const $ = id => document.getElementById(id);

whenEdited(edit);
start();
whenUnauthorized(problem => {
  $("login-problem").textContent = problem;
  if (!$("login").open) $("login").showModal();
});
$("login").addEventListener("cancel", event => event.preventDefault());
$("login").querySelector("form").addEventListener("submit", () => sessionStorage.setItem("token", $("token").value.trim()));

function note(event) {
  const words = { state: () => event.state + (event.end ? ": " + event.end.message : ""), defined: () => event.new ? "defined" : "definition replaced",
    removed: () => "removed", adopted: () => "found running, process " + event.process, device: () => event.device + ": " + event.what,
    failed: () => event.message, restarted: () => "the guest has restarted", dropped: () => event.count + " events more", lost: () => "events were lost",
    job: () => event.kind + " " + (event.state === "running" ? "begun" : event.state) + (event.problem ? ": " + event.problem.message : ""), certificate: () => "the certificate is a new one" };
  const text = (event.machine ? event.machine + ": " : "") + (words[event.event] ?? (() => event.event))();
  const time = event.time ? new Date(event.time * 1000).toLocaleTimeString() : "";
  $("events").prepend(element("li", {}, element("time", { textContent: time }), element("span", { textContent: text })));
  while ($("events").children.length > 50) $("events").lastChild.remove();
}

let due = 0;
function loadSoon() {
  due ||= setTimeout(() => { due = 0; load().catch(() => {}); }, 100);
}

window.addEventListener("hashchange", route);
route();
setInterval(tick, 1000);
// The state of a guest changes also without an event.
setInterval(() => { if (!document.hidden && $("link").textContent === "live") load().catch(() => {}); }, 3000);

for (let delay = 0;; delay = Math.min(delay * 2 || 500, 10000)) {
  await new Promise(done => setTimeout(done, delay));
  try {
    await learnRole();
    $("new").hidden = !may("administer");
    const last = await load();
    showJobs();
    delay = 0;
    await follow(last, () => $("link").textContent = "live", event => {
      note(event);
      loadSoon();
      if (event.event !== "job") return;
      noteJob(event);
      showJobs();
    });
    $("link").textContent = "the connection has ended";
  } catch (error) {
    if (error.status === 401) {
      $("link").textContent = "needs a token";
      if ($("login").open) await new Promise(done => $("login").addEventListener("close", done, { once: true }));
      delay = 0;
    } else {
      $("link").textContent = "the service does not answer";
    }
  }
}
