// The jobs that run: what they do, how far they are, and a way to cancel them.
import { bytes, element, get, may, request } from "./api.js";

const place = document.getElementById("jobs");
let timer = null;

function one(job) {
  const { progress } = job;
  const part = progress ? element("progress", { value: progress["done-bytes"], max: Math.max(1, progress["total-bytes"]), "aria-label": "Progress" }) : null;
  const words = `${job.machine}: ${job.kind}, ${job.step}` + (progress ? `, ${bytes(progress["done-bytes"])} of ${bytes(progress["total-bytes"])}` : "");
  const cancel = element("button", { textContent: "Cancel", "aria-label": `Cancel ${job.kind} of ${job.machine}`, disabled: job.cancelling, hidden: !may("operate") });
  cancel.addEventListener("click", async () => {
    cancel.disabled = true;
    await request("DELETE", "/jobs/" + job.job).catch(() => {});
    showJobs();
  });
  return element("li", {}, element("span", { textContent: words }), part, cancel);
}

/** Shows the jobs that run, and looks again while there are some. */
export async function showJobs() {
  clearTimeout(timer);
  const { jobs } = await get("/jobs").catch(() => ({ jobs: [] }));
  const running = jobs.filter(job => job.state === "running");
  place.hidden = !running.length;
  const focused = place.contains(document.activeElement);
  place.replaceChildren(element("h2", { textContent: "Jobs" }), element("ol", {}, ...running.map(one)));
  if (focused) place.querySelector("button")?.focus();
  if (running.length) timer = setTimeout(showJobs, 1000);
}
