// Uses the page of viridian serve: see scripts/check-page.
import { chromium } from "playwright-core";
import { readFileSync } from "node:fs";

const [address, tokenFile, kernel, pictures] = process.argv.slice(2);
const token = readFileSync(tokenFile, "utf8").trim();
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

function fail(words) {
  console.log("not ok: " + words);
  process.exitCode = 1;
}

// Opens a page of its own, whose failures are ours.
async function open(url) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 844 } });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  page.on("request", request => {
    if (!request.url().startsWith(address) && !request.url().startsWith("data:")) fail("a request to " + request.url());
  });
  page.on("pageerror", error => fail("a script: " + error.message));
  page.on("dialog", dialog => dialog.accept());
  await page.goto(url);
  return page;
}

const page = await open(address);
const state = (name, word) => page.waitForSelector(`[data-machine=${name}] .state.${word}`);
const press = (name, operation) => page.click(`[data-machine=${name}] [data-operation=${operation}]`);

// A wrong token, and the right one.
await page.waitForSelector("#login[open]");
await page.fill("#token", "wrong");
await page.keyboard.press("Enter");
await page.waitForSelector("#login[open] >> text=no valid token");
await page.fill("#token", token);
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.getElementById("link").textContent === "live");

// A mistake in a definition is shown with its place, and can be corrected.
for (const name of ["web", "db"]) {
  await page.click("#new");
  await page.fill("#name", name);
  await page.fill("#text", "memroy = 1");
  await page.click("#editor button[type=submit]");
  await page.waitForFunction(() => document.getElementById("editor-problem").textContent.includes("line 1, column 1"));
  await page.fill("#text", `kernel = "${kernel}"\ncmdline = "halt"\ntimeout = 1000\n`);
  await page.click("#editor button[type=submit]");
  await state(name, "stopped");
}

await press("web", "start");
await state("web", "running");
await press("web", "pause");
await state("web", "paused");
await press("web", "resume");
await state("web", "running");
await press("db", "start");
await state("db", "running");
await page.click("[data-machine=db] summary");
await page.waitForFunction(() => document.querySelector("[data-machine=db] pre").textContent.includes('"engine"'));
await page.click("[data-machine=db] summary");

for (const scheme of ["light", "dark"]) {
  for (const [kind, width] of [["wide", 1200], ["phone", 390]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 844 });
    if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) fail(`the page is wider than ${width} pixels`);
    await page.screenshot({ path: `${pictures}/${scheme}-${kind}.png`, fullPage: true });
  }
}
await page.setViewportSize({ width: 1200, height: 844 });

await press("web", "kill");
await state("web", "stopped");
await press("web", "edit");
await page.waitForSelector("#editor[open]");
if (!(await page.inputValue("#text")).includes("halt")) fail("the editor has another text");
await page.keyboard.press("Escape");
await press("web", "remove");
await page.waitForSelector("[data-machine=web]", { state: "detached" });

// Another page has the token in its address, and follows what this one does.
const other = await open(`${address}#token=${token}`);
await other.waitForSelector("[data-machine=db] .state.running");
if (other.url().includes(token)) fail("the token stays in the address");
await press("db", "kill");
await other.waitForSelector("[data-machine=db] .state.stopped");

await browser.close();
console.log(process.exitCode ? "the page has failed" : "ok: the page works; pictures are in " + pictures);
