// The screen of a machine, in noVNC.
import { element, get, machinePath, may, openSocket } from "./api.js";
import RFB from "./vendor/novnc-1.7.0/core/rfb.js";

export class Screen {
  constructor(name) {
    this.name = name;
    const button = (text, act) => {
      const made = element("button", { textContent: text });
      made.addEventListener("click", act);
      return made;
    };
    this.status = element("span", { className: "dim", role: "status", textContent: "not connected" });
    this.place = element("div", { className: "screen" });
    this.scale = element("input", { type: "checkbox", checked: true });
    this.scale.addEventListener("change", () => {
      if (this.rfb) this.rfb.scaleViewport = this.scale.checked;
      this.place.classList.toggle("full", !this.scale.checked);
    });
    this.keys = button("Ctrl+Alt+Del", () => this.rfb?.sendCtrlAltDel());
    const picture = button("Save a picture", () => this.save());
    const full = button("Full screen", () => this.place.requestFullscreen?.());
    const again = button("Connect again", () => this.connect());
    const label = element("label", { className: "check" }, this.scale, " fit the page");
    const hint = element("span", { className: "dim", textContent: "Shift+Esc leaves the screen" });
    this.root = element("div", {}, element("div", { className: "toolbar" }, this.status, this.keys, picture, full, again, label, hint), this.place);
  }

  show(leave) {
    if (!this.leave) {
      this.leave = leave;
      // The guest gets all keys, so one has to lead out.
      this.place.addEventListener("keydown", event => {
        if (event.key !== "Escape" || !event.shiftKey) return;
        event.stopPropagation();
        event.preventDefault();
        this.rfb?.blur();
        leave();
      }, true);
    }
    if (!this.rfb) this.connect();
    else this.rfb.focus();
  }

  async connect() {
    this.close();
    this.status.textContent = "connecting";
    const own = this.attempt = {};
    const uses = may("operate");
    this.keys.hidden = !uses;
    try {
      const tree = await get(machinePath(this.name, "/inspect"));
      if (!tree.devices.screen) throw new Error("this machine has no screen; add the line display = \"on\" to its settings, and start it again");
      const socket = await openSocket(machinePath(this.name, "/screen/stream"), ["binary"]);
      if (this.attempt !== own) return socket.close();
      const rfb = this.rfb = new RFB(this.place, socket, { shared: true });
      Object.assign(rfb, { scaleViewport: this.scale.checked, background: "transparent", qualityLevel: 9, viewOnly: !uses });
      rfb.addEventListener("connect", () => {
        this.status.textContent = uses ? "connected" : "you watch; to use keyboard and mouse, you need the role operate";
        rfb.focus();
      });
      rfb.addEventListener("disconnect", () => {
        if (this.rfb !== rfb) return;
        this.rfb = null;
        this.status.textContent = "not connected";
      });
    } catch (error) {
      if (this.attempt === own) this.status.textContent = error.message;
    }
  }

  async save() {
    if (!this.rfb) return;
    const link = element("a", { href: this.rfb.toDataURL("image/png"), download: this.name + ".png" });
    link.click();
  }

  close() {
    const rfb = this.rfb;
    this.rfb = this.attempt = null;
    rfb?.disconnect();
  }

  dispose() {
    this.close();
  }
}
