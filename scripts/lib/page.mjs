// Uses the page of viridian serve: see scripts/check-page.
import { chromium } from "playwright-core";
import { execFileSync } from "node:child_process";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";

const [address, tokenFile, folder, program, sockets] = process.argv.slice(2);
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
  const isOwn = url => [address, address.replace(/^http/, "ws"), "data:"].some(start => url.startsWith(start));
  page.on("request", request => isOwn(request.url()) || fail("a request to " + request.url()));
  page.on("websocket", socket => isOwn(socket.url()) || fail("a WebSocket to " + socket.url()));
  page.on("pageerror", error => fail("a script: " + error.message));
  page.on("console", message => message.text().includes("Content Security Policy") && fail(message.text()));
  page.on("dialog", dialog => dialog.accept());
  await page.goto(url);
  return page;
}

const page = await open(address);
const state = (name, word) => page.waitForSelector(`[data-machine=${name}] .state.${word}`);
const press = (name, operation) => page.click(`[data-machine=${name}] [data-operation=${operation}]`);
const tab = async (name, part) => {
  await page.goto(`${address}#/${name}/${part}`);
  await page.waitForSelector(`[data-view=${name}] #tab-${part}[aria-selected=true]`);
};
const list = () => page.goto(`${address}#/`);

// Takes pictures of what is shown, in both colour schemes, wide and as on a phone.
async function picture(what) {
  for (const scheme of ["light", "dark"]) {
    for (const [kind, width] of [["wide", 1200], ["phone", 360]]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize({ width, height: 844 });
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) fail(`the ${what} is wider than ${width} pixels`);
      await page.screenshot({ path: `${folder}/${what}-${scheme}-${kind}.png`, fullPage: !what.startsWith("form") });
    }
  }
  await page.setViewportSize({ width: 1200, height: 844 });
  await page.emulateMedia({ colorScheme: "light" });
}

// A wrong token, and the right one.
await page.waitForSelector("#login[open]");
await page.fill("#token", "wrong");
await page.keyboard.press("Enter");
await page.waitForSelector("#login[open] >> text=no valid token");
await page.fill("#token", token);
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.getElementById("link").textContent === "live");

// A mistake in the text of a definition is shown with its place, and can be corrected.
await page.click("#new");
await page.fill("#name", "web");
await page.click("#as-text");
await page.fill("#text", "memroy = 1");
await page.click("#editor button[type=submit]");
await page.waitForFunction(() => document.getElementById("editor-problem").textContent.includes("line 1, column 1"));
await page.fill("#text", `kernel = "${folder}/exits.elf"\ncmdline = "echo"\ntimeout = 1000\n`);
await page.click("#editor button[type=submit]");
await state("web", "stopped");

// The form makes a machine, too: its fields are the settings.
await page.click("#new");
await page.fill("#name", "desk");
await page.fill("#setting-kernel", folder + "/screen.elf");
await page.fill("#setting-cmdline", "driver=good");
await page.fill("#setting-memory", "startup=64M,min=48M");
await page.fill("#setting-display", "on");
await page.fill("#setting-disk", "memory:16M\nmemory:8M,readonly=on");
await page.selectOption("#setting-servicerestart", "on-failure");
await page.click("#form summary");
await page.fill("#setting-timeout", "1000");
await page.selectOption("#setting-engine", "user");
await page.fill("#setting-servicecpu-weight", "300");
await page.fill("#setting-servicememory-limit", "2G");
await picture("form");
await page.click("#as-text");
for (const line of ["timeout = 1000", "cpu.weight = 300", 'memory.limit = "2G"']) {
  if (!(await page.inputValue("#text")).includes(line)) fail("the form does not fill the text: " + await page.inputValue("#text"));
}
await page.click("#as-form");
await page.waitForSelector("#form", { state: "visible" });
if (await page.inputValue("#setting-servicecpu-weight") !== "300") fail("the form does not read the shares of the host");
// This service has no control group, so a machine with shares would not start.
await page.fill("#setting-servicecpu-weight", "");
await page.fill("#setting-servicememory-limit", "");
await page.click("#editor button[type=submit]");
await state("desk", "stopped");

// What is typed in the console comes back from the guest.
await press("web", "start");
await state("web", "running");
await press("web", "pause");
await state("web", "paused");
await press("web", "resume");
await state("web", "running");
const terminal = (on, words) => on.waitForFunction(words => document.querySelector(".xterm-rows")?.textContent.replaceAll("\u00a0", " ").includes(words), words);
await tab("web", "console");
await terminal(page, "echoing by polling");
await page.waitForSelector("text=what you type goes to the guest");
await page.keyboard.type("hello from the page");
await terminal(page, "hello from the page");
await picture("console");

// Another page has the token in its address, watches, and takes the keyboard over.
const other = await open(`${address}#token=${token}`);
await other.waitForSelector("[data-machine=web] .state.running");
if (other.url().includes(token)) fail("the token stays in the address");
await other.goto(`${address}#/web/console`);
await other.waitForSelector("text=another client types");
await terminal(other, "hello from the page");
await other.click("text=Take the keyboard");
await other.waitForSelector("text=what you type goes to the guest");
await terminal(page, "taken the keyboard over");
// One key leads out of the console, and the arrow keys from tab to tab.
await page.click(".xterm");
await page.keyboard.press("Shift+Escape");
await page.waitForFunction(() => document.activeElement.id === "tab-console");
await page.keyboard.press("ArrowRight");
await page.waitForSelector("text=this machine has no screen");
await other.click(".xterm");
await other.keyboard.press("Enter");
await other.keyboard.type("quit");
await other.keyboard.press("Enter");
await terminal(other, "quitting");
await other.waitForSelector("text=not connected");

// What it has printed last can still be read.
await list();
await state("web", "stopped");
await tab("web", "console");
await page.waitForSelector("text=this is its last output");
await terminal(page, "quitting");

// The screen has the pixels that the guest shows.
await list();
await press("desk", "start");
await state("desk", "running");
await tab("desk", "console");
await terminal(page, "ready");
await tab("desk", "screen");
await page.waitForSelector(".screen canvas");
const command = (...words) => execFileSync(program, words, { env: { ...process.env, VIRIDIAN_RUNTIME_DIR: sockets }, stdio: "pipe", encoding: "utf8" });
const shot = `${folder}/screenshot.png`;
const differences = async () => {
  try {
    command("screenshot", "desk", shot);
  } catch (error) {
    return String(error.stderr);
  }
  const url = "data:image/png;base64," + readFileSync(shot).toString("base64");
  return page.evaluate(async url => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const own = document.createElement("canvas");
    [own.width, own.height] = [image.width, image.height];
    own.getContext("2d").drawImage(image, 0, 0);
    const shown = document.querySelector(".screen canvas");
    if (shown.width !== own.width || shown.height !== own.height) return `a canvas of ${shown.width}x${shown.height}`;
    const [one, two] = [own, shown].map(canvas => canvas.getContext("2d").getImageData(0, 0, own.width, own.height).data);
    let count = 0;
    for (let at = 0; at < one.length; at++) if (one[at] !== two[at]) count++;
    return count ? count + " bytes differ" : "";
  }, url);
};
let difference = "";
for (const end = Date.now() + 120_000; (difference = await differences()) && Date.now() < end;) await new Promise(done => setTimeout(done, 100));
if (difference) fail("the screen: " + difference);
await page.click(".screen canvas");
await page.keyboard.press("p");
await picture("screen");
await tab("desk", "console");
await terminal(page, "key 19");

// Counters become charts, and devices and channels are shown.
await tab("desk", "overview");
await page.waitForFunction(() => [...document.querySelectorAll(".chart")].some(chart => /^Exits a second/.test(chart.getAttribute("aria-label"))));
await page.waitForFunction(() => document.querySelector("polyline")?.getAttribute("points").split(" ").length > 3);
await picture("overview");
await tab("desk", "devices");
await page.click("#panel-devices details[data-key='disk0.0'] > summary");
await page.click("#panel-devices details[data-key='disk0.0'] details[data-key=medium] > summary");
await page.waitForSelector("#panel-devices >> text=size-bytes");
await tab("desk", "vmbus");
await page.waitForSelector("#panel-vmbus td >> text=open");

// Services are turned off and on, and the size of the memory is changed.
await tab("desk", "services");
await page.click("[aria-label='Turn Heartbeat off']");
await page.waitForSelector("[aria-label='Turn Heartbeat on']");
const heartbeat = () => JSON.parse(command("services", "desk", "--json")).find(service => service.name === "heartbeat").enabled;
if (heartbeat()) fail("the heartbeat is not off");
await page.click("[aria-label='Turn Heartbeat on']");
await page.waitForSelector("[aria-label='Turn Heartbeat off']");
if (!heartbeat()) fail("the heartbeat is not on");
await page.waitForSelector("#panel-services dd >> text=48 MiB to 64 MiB");
await picture("services");
// This guest has no driver for any of them.
await page.click("[aria-label='Read the items']");
await page.waitForSelector("#panel-services .problem:not(:empty)");
await page.fill("[aria-label='New size of the memory']", "1G");
await page.keyboard.press("Enter");
await page.waitForSelector("#panel-services .problem >> text=outside");
await page.fill("[aria-label='New size of the memory']", "48M");
await page.keyboard.press("Enter");
await page.waitForSelector("#jobs >> text=bringing the guest's memory to 48M");
await page.click("#jobs button");
await page.waitForSelector("#jobs", { state: "hidden" });
await tab("desk", "vmbus");
// The selected tab is in sight on a phone, too.
await page.setViewportSize({ width: 360, height: 844 });
await tab("desk", "devices");
await tab("desk", "vmbus");
const isInSight = () => { const { left, right } = document.getElementById("tab-vmbus").getBoundingClientRect(); return left >= 0 && right <= innerWidth; };
if (!(await page.evaluate(isInSight))) fail("the selected tab is out of sight on a phone");
await picture("vmbus");

// The messages come as they are, if they have what the filter says.
await page.fill("#trace-filter", "offerchannel");
await page.click(".tracing button");
await page.waitForSelector(".tracing >> text=following");
command("disk", "desk", "attach", "memory:1M,controller=1");
await page.waitForSelector(".trace >> text=OFFERCHANNEL");
if (await page.locator(".trace li:not(:has-text('OFFERCHANNEL'))").count()) fail("the filter lets other lines pass");
await picture("trace");
await page.click(".tracing button");
await page.waitForSelector(".tracing >> text=stopped");

// Disks and adapters come and go, disks grow, and cables are pulled out.
writeFileSync(`${folder}/raw.img`, "");
truncateSync(`${folder}/raw.img`, 1 << 20);
await tab("desk", "hardware");
await page.waitForSelector("#panel-hardware td >> text=disk0.0");
await page.fill("#attach-disks", `${folder}/missing.img`);
await page.keyboard.press("Enter");
await page.waitForSelector("#panel-hardware .problem >> text=missing.img");
await page.fill("#attach-disks", `${folder}/raw.img,format=raw,lun=7`);
await page.keyboard.press("Enter");
await page.fill("[aria-label='New size of disk0.7']", "3M");
await page.click("[aria-label='Grow disk0.7']");
await page.waitForSelector("#panel-hardware td >> text=3.0 MiB");
if (JSON.parse(command("disk", "desk", "list", "--json"))["disk0.7"].medium["size-bytes"] !== 3 << 20) fail("the disk has another size");
await page.click("[aria-label='Detach disk0.7']");
await page.waitForSelector("#panel-hardware td >> text=disk0.7", { state: "detached" });
await page.fill("#attach-adapters", "none");
await page.keyboard.press("Enter");
await page.click("[aria-label='Plug net0']");
await page.waitForSelector("[aria-label='Unplug net0']");
await picture("hardware");

// A job is shown while it runs, and can be cancelled.
await list();
await press("desk", "stop");
await page.waitForSelector("#jobs >> text=pressing the power button");
await picture("jobs");
await page.click("#jobs button");
await state("desk", "running");
await page.waitForSelector("#jobs", { state: "hidden" });

// A guest that does not shut down is not ended by force, and the page says so.
await page.route("**/machines/desk/stop", route => {
  const body = JSON.parse(route.request().postData() ?? "{}");
  if (body.force !== false) fail("Shut down ends a machine by force");
  route.continue({ postData: JSON.stringify({ ...body, "power-button-seconds": 0.1 }) });
});
await press("desk", "stop");
await page.waitForSelector("#message >> text=it continues to run");
await state("desk", "running");
await page.unroute("**/machines/desk/stop");

// Somebody who may only look finds no buttons to press.
const look = await open(`${address}#token=${command("access", "add", "look", "--role", "read").trim()}`);
await look.waitForSelector("[data-machine=desk] .state.running");
if (await look.locator("[data-operation]").count()) fail("a reader has buttons");
if (await look.isVisible("#new")) fail("a reader may define machines");
await look.goto(`${address}#/desk/hardware`);
await look.waitForSelector("#panel-hardware td >> text=disk0.0");
if (await look.locator("#panel-hardware button:visible").count()) fail("a reader may change disks");
await look.goto(`${address}#/desk/services`);
await look.waitForSelector("#panel-services td >> text=Heartbeat");
if (await look.locator("#panel-services button:visible").count() !== 1) fail("a reader may do more than read items");
await look.goto(`${address}#/desk/screen`);
await look.waitForSelector("text=you watch; to use keyboard and mouse, you need the role operate");
if (await look.isVisible("text=Ctrl+Alt+Del")) fail("a reader may press keys");
await look.goto(`${address}#/desk/console`);
await look.waitForSelector("text=you watch; to type, you need the role operate");
await look.close();

// A lab is shown with its machines, which have no definition of their own, and is turned off as a whole.
const partitions = ["a", "b"].map(name => `[[partition]]\nname = "${name}"\nkernel = "${folder}/exits.elf"\ncmdline = "echo"\ntimeout = 1000\n`);
await list();
await page.click("#new");
await page.fill("#name", "shop");
await page.click("#as-text");
await page.fill("#text", partitions.join(""));
await page.click("#editor button[type=submit]");
await state("shop", "stopped");
await press("shop", "start");
for (const name of ["shop", "'shop.a'", "'shop.b'"]) await state(name, "running");
await page.waitForSelector("[data-machine='shop.a'].member >> text=in the lab shop");
if (await page.locator("[data-machine='shop.a'] [data-operation=edit]").count()) fail("a machine of a lab has a definition");
await page.click("[data-machine=shop] .name a");
await page.waitForSelector("[data-view=shop] >> text=shop.b");
if (await page.isVisible("#tab-console")) fail("a lab has a console");
await page.click("#panel-overview a >> text=shop.b");
await page.waitForSelector("[data-view='shop.b'] .state.running");
await page.click("#tab-console");
await terminal(page, "echoing by polling");

// The end.
await list();
await picture("list");
await press("shop", "kill");
for (const name of ["shop", "'shop.a'"]) await state(name, "stopped");
await press("shop", "remove");
await page.waitForSelector("[data-machine='shop.a']", { state: "detached" });
await press("desk", "kill");
await state("desk", "stopped");
await other.goto(`${address}#/`);
await other.waitForSelector("[data-machine=desk] .state.stopped");
await press("web", "edit");
await page.waitForSelector("#editor[open]");
if (await page.inputValue("#setting-cmdline") !== "echo") fail("the form has another value");
await page.fill("#setting-memory", "64M");
await page.click("#as-text");
if (!(await page.inputValue("#text")).includes('memory = "64M"')) fail("the text has not what the form has");
await page.fill("#text", (await page.inputValue("#text")).replace("64M", "96M") + "\n# a note\n");
await page.click("#as-form");
// The service reads the text.
await page.waitForFunction(() => document.getElementById("setting-memory").value === "96M");
await page.click("#editor button[type=submit]");
await page.waitForSelector("#editor", { state: "hidden" });
await press("web", "edit");
await page.waitForSelector("#editor[open]");
await page.click("#as-text");
if (!(await page.inputValue("#text")).includes("# a note")) fail("the comment is lost, though nothing was changed in the form");
// Escape closes a dialog, and leads back to what has opened it.
await page.keyboard.press("Escape");
await page.waitForFunction(() => !document.getElementById("editor").open && document.activeElement.dataset.operation === "edit");
await press("web", "remove");
await page.waitForSelector("[data-machine=web]", { state: "detached" });

await browser.close();
console.log(process.exitCode ? "the page has failed" : "ok: the page works; pictures are in " + folder);
