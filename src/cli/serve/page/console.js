// The console of a machine, in xterm.js.
import { element, get, machinePath, may, openSocket, request } from "./api.js";
import { Terminal } from "./vendor/xterm-6.0.0/xterm.mjs";
import { FitAddon } from "./vendor/xterm-6.0.0/addon-fit.mjs";

/** What is typed is sent in pieces of this size. */
const PIECE = 8192;

const words = {
  "console.type": "what you type goes to the guest",
  "console.take": "what you type goes to the guest",
  "console.watch": "another client types; you watch",
};

export class Console {
  constructor(name) {
    this.name = name;
    this.status = element("span", { className: "dim", role: "status", textContent: "not connected" });
    const button = (text, act) => {
      const made = element("button", { textContent: text });
      made.addEventListener("click", act);
      return made;
    };
    this.take = button("Take the keyboard", () => this.connect(["console.take"]));
    this.again = button("Connect again", () => this.connect());
    this.place = element("div", { className: "terminal" });
    const hint = element("span", { className: "dim", textContent: "Shift+Esc leaves the console" });
    this.root = element("div", {}, element("div", { className: "toolbar" }, this.status, this.take, this.again, hint), this.place);
    this.encoder = new TextEncoder();
  }

  /** Opens the terminal. Its place must be visible. */
  show(leave) {
    if (!this.terminal) {
      this.terminal = new Terminal({ fontSize: 14, scrollback: 5000, cursorBlink: true, fontFamily: "ui-monospace, Menlo, Consolas, monospace" });
      this.fit = new FitAddon();
      this.terminal.loadAddon(this.fit);
      this.terminal.open(this.place);
      this.terminal.onData(text => this.send(this.encoder.encode(text)));
      this.terminal.onBinary(text => this.send(Uint8Array.from(text, byte => byte.charCodeAt(0))));
      // A terminal takes all keys, so one has to lead out of it.
      this.terminal.attachCustomKeyEventHandler(event => {
        if (event.key !== "Escape" || !event.shiftKey) return true;
        if (event.type === "keydown") leave();
        return false;
      });
      this.observer = new ResizeObserver(() => this.fit.fit());
      this.observer.observe(this.place);
    }
    this.fit.fit();
    if (!this.socket) this.connect();
    this.terminal.focus();
  }

  send(bytes) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    for (let at = 0; at < bytes.length; at += PIECE) this.socket.send(bytes.subarray(at, at + PIECE));
  }

  async connect(protocols = ["console.type", "console.watch"]) {
    this.close();
    this.status.textContent = "connecting";
    const own = this.socket = {};
    try {
      if ((await get(machinePath(this.name))).process == null) return await this.showLast(own);
      const socket = await openSocket(machinePath(this.name, "/console/stream"), protocols);
      // Another attempt, or the end, was faster.
      if (this.socket !== own) return socket.close();
      this.socket = socket;
      socket.onopen = () => {
        this.terminal.reset();
        this.status.textContent = words[socket.protocol] ?? "connected";
        this.take.hidden = socket.protocol !== "console.watch" || !may("operate");
        if (!may("operate")) this.status.textContent = "you watch; to type, you need the role operate";
        this.terminal.focus();
      };
      socket.onmessage = ({ data }) => this.terminal.write(new Uint8Array(data));
      socket.onclose = ({ reason }) => {
        if (this.socket !== socket) return;
        this.socket = null;
        this.take.hidden = !may("operate");
        this.status.textContent = "not connected" + (reason ? ": " + reason : "");
      };
    } catch (error) {
      if (this.socket === own) this.socket = null;
      this.status.textContent = error.message;
    }
  }

  /** Shows what a machine has printed last that does not run, as part of an attempt to connect. */
  async showLast(own) {
    const text = await request("GET", machinePath(this.name, "/console")).then(reply => reply.text(), error => error);
    if (this.socket !== own) return;
    this.socket = null;
    this.take.hidden = true;
    this.terminal.reset();
    if (typeof text === "string") this.terminal.write(text.replaceAll(/\r?\n/g, "\r\n"));
    this.status.textContent = "the machine does not run; " + (typeof text === "string" ? "this is its last output" : text.message);
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.close?.();
  }

  dispose() {
    this.close();
    this.observer?.disconnect();
    this.terminal?.dispose();
  }
}
