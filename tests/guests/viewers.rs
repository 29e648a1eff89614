//! VNC viewers of the guest image `screen`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use viridian::Builder;
use viridian::machine::{End, Machine};

use super::command::image;
use super::vnc::{Viewer, connect, is_over};
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within, patience};
use crate::rfb::{HEXTILE, RAW, TIGHT, ZLIB, ZRLE, array};

/// A machine whose screen is shown to viewers.
pub struct Shown {
    pub machine: Machine,
    directory: tempfile::TempDir,
}

/// A pixel of the picture that the guest draws.
pub fn drawn(x: usize, y: usize) -> u32 {
    (x as u32 & 0xff) << 16 | (y as u32) << 8 | (x ^ y) as u32 & 0xff
}

/// A pixel of the picture after the guest's repaint.
pub fn repainted(x: usize, y: usize) -> u32 {
    let is_in = (50..150).contains(&x) && (30..70).contains(&y);
    drawn(x, y) ^ if is_in { 0xff_ffff } else { 0 }
}

impl Shown {
    /// Starts one that is shown at a Unix socket.
    pub fn new() -> Self {
        Self::with("")
    }

    fn with(options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("vnc=unix:{}{options}", directory.path().join("vnc").display());
        Self::start(directory, &options)
    }

    /// Starts one with these settings, which may name files in the directory.
    pub fn start(directory: tempfile::TempDir, options: &str) -> Self {
        let builder = Builder::new().kernel(image("screen")).cmdline(format!("driver=good {}", patience()));
        let builder = builder.display(options).capture_console().timeout(grown(Duration::from_secs(240)));
        let shown = Self { machine: builder.start().unwrap(), directory };
        shown.expect("ready\n");
        shown
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("vnc")
    }

    fn viewer(&self, encoding: i32) -> Viewer {
        Viewer::new(&self.socket(), encoding)
    }

    pub fn expect(&self, text: &str) {
        let output = self.machine.console().unwrap().wait_for(text, grown(Duration::from_secs(60)));
        output.unwrap_or_else(|missing| panic!("{missing}"));
    }

    pub fn status(&self) -> Value {
        self.machine.inspect()["devices"]["vnc"]["status"].clone()
    }

    /// Ends the guest by pressing Escape.
    pub fn end(self) {
        self.machine.screen().press("esc").unwrap();
        let end = self.machine.wait();
        assert!(matches!(end, End::PoweredOff), "{end}");
    }
}

#[test]
fn viewers_see_what_the_guest_draws_in_every_encoding() {
    let shown = Shown::new();
    let mut viewers = Vec::from([RAW, HEXTILE, ZLIB, ZRLE, TIGHT].map(|encoding| shown.viewer(encoding)));
    for viewer in &mut viewers {
        assert_eq!(viewer.size, (320, 200));
        viewer.wait_for((320, 200), drawn);
        assert!(viewer.takes_codes);
    }
    shown.expect("reports 1\n");
    assert_eq!(shown.status()["viewers"], 5);
    viewers[0].key(0x19);
    for viewer in &mut viewers {
        viewer.rectangles.clear();
        viewer.wait_for((320, 200), repainted);
        let is_near = |[left, top, width, height]: &[usize; 4]| left + width <= 192 && top + height <= 128;
        assert!(viewer.rectangles.iter().all(is_near), "only tiles that change are sent: {:?}", viewer.rectangles);
    }
    viewers[3].key(0x13);
    for viewer in &mut viewers {
        viewer.wait_for((200, 100), repainted);
        viewer.ask(false);
        viewer.take();
        viewer.wait_for((200, 100), repainted);
    }
    // The guest is notified only when the last viewer disconnects, and when the next one connects.
    viewers.truncate(1);
    assert!(holds_within(grown(Duration::from_secs(60)), || shown.status()["viewers"] == 1));
    assert_eq!(shown.machine.inspect()["devices"]["screen"]["status"]["watched"], true);
    drop(viewers);
    shown.expect("reports 0\n");
    let mut again = shown.viewer(ZRLE);
    again.ask(false);
    while again.rectangles.is_empty() {
        again.take();
    }
    assert!(again.shows((200, 100), repainted), "a viewer that requests one picture gets the guest's");
    shown.expect("reports 1\n");
    shown.end();
    assert!(again.is_over(), "the end of the machine disconnects its viewers");
}

#[test]
fn the_guest_is_told_the_size_that_a_viewer_asks_for_and_chooses() {
    let shown = Shown::new();
    let mut viewers = [RAW, ZRLE].map(|encoding| shown.viewer(encoding));
    viewers.iter_mut().for_each(|viewer| viewer.wait_for((320, 200), drawn));
    let [viewer, other] = &mut viewers;
    // The answers: done, too large, a wrong layout of screens, forwarded.
    let cases = [((320, 200), 1, 0), ((1025, 768), 1, 2), ((320, 200), 2, 3), ((0, 200), 1, 3), ((640, 480), 1, 4)];
    for (size, screens, answer) in cases {
        assert_eq!(viewer.ask_for_size(size, screens), answer, "{size:?}");
        viewer.wait_for((320, 200), drawn);
    }
    shown.expect("wants 640x480\n");
    assert_eq!(viewer.ask_for_size((160, 120), 1), 4);
    shown.expect("wants 160x120\n");
    viewer.wait_for((160, 120), drawn);
    other.wait_for((160, 120), drawn);
    assert_eq!((viewer.ask_for_size((160, 120), 1), other.answers.len()), (0, 0));
    shown.end();
}

#[test]
fn what_scrolls_is_copied_by_viewers_that_can() {
    let shown = Shown::new();
    let mut viewers = [ZRLE, TIGHT, RAW].map(|encoding| shown.viewer(encoding));
    viewers[2].know(&[RAW]);
    let scrolled = |lines: usize| move |x: usize, y: usize| if y + lines < 200 { drawn(x, y + lines) } else { 0 };
    viewers.iter_mut().for_each(|viewer| viewer.wait_for((320, 200), drawn));
    // The host may look while the guest still moves its lines, and then finds some at a time. A viewer whose update is being sent
    // gets pixels. What is sent is tested with the picture itself.
    let mut rounds = 0;
    while rounds < 6 || rounds < 11 && viewers[..2].iter().any(|viewer| viewer.copies == 0) {
        rounds += 1;
        viewers[0].key(0x1f);
        viewers.iter_mut().for_each(|viewer| viewer.wait_for((320, 200), scrolled(16 * rounds)));
    }
    let [zrle, tight, raw] = &mut viewers;
    let copies = [zrle.copies, tight.copies, raw.copies];
    let is_right = copies[0] > 0 && copies[1] > 0 && copies[2] == 0 && shown.status()["scrolls"].as_u64() > Some(0);
    assert!(is_right, "{copies:?} copies, {}", shown.status());
    (0..rounds).for_each(|_| shown.expect("key 1f flags 2\n"));
    // What changes before and after a scroll, for a viewer that asks rarely, arrives too.
    for code in [0x19, 0x1f, 0x19, 0x1f, 0x1f, 0x19] {
        zrle.key(code);
        // Whatever is new by then. Some changes become one update, others two.
        tight.ask(true);
    }
    [0x19, 0x1f, 0x19, 0x1f, 0x1f, 0x19].iter().for_each(|code| shown.expect(&format!("key {code:x} flags 2\n")));
    let picture = shown.machine.screen().picture().unwrap();
    let pixel = |x: usize, y: usize| {
        let [red, green, blue] = picture.pixel(x as u32, y as u32).unwrap();
        u32::from_be_bytes([0, red, green, blue])
    };
    viewers.iter_mut().for_each(|viewer| viewer.wait_for((320, 200), pixel));
    shown.end();
}

#[test]
fn a_viewer_has_the_guests_pointer_and_the_lights_of_its_keyboard() {
    let shown = Shown::new();
    let mut viewer = shown.viewer(RAW);
    viewer.key(0x32);
    while viewer.pointer.is_none() || viewer.lights.is_none() {
        viewer.ask(true);
        viewer.take();
    }
    let (place, pixels, mask) = viewer.pointer.clone().unwrap();
    assert_eq!((place, &pixels[..4]), ([3, 1, 12, 2], &[0x30, 0x20, 0x10, 0][..]));
    assert_eq!(mask, [0b0111_1111, 0xf0, 0b1011_1111, 0xf0]);
    assert_eq!(viewer.lights, Some(0b100), "Caps Lock is on");
    shown.end();
}

#[test]
fn the_text_of_a_clipboard_is_typed_if_that_is_wanted_and_until_its_viewer_leaves() {
    let shown = Shown::with(",clipboard=type");
    let mut viewer = shown.viewer(RAW);
    viewer.paste("aB");
    let keys = ["1e flags 0", "1e flags 2", "2a flags 0", "30 flags 0", "30 flags 2", "2a flags 2"];
    keys.iter().for_each(|key| shown.expect(&format!("key {key}\n")));
    // While Ctrl is down, no letter is typed.
    viewer.keysym(0xffe3, true);
    viewer.paste("c");
    viewer.key(0x39);
    viewer.keysym(0xffe3, false);
    let keys = ["1d flags 0", "39 flags 0", "39 flags 2", "1d flags 2", "2e flags 0", "2e flags 2"];
    keys.iter().for_each(|key| shown.expect(&format!("key {key}\n")));
    viewer.paste(&"d".repeat(1024));
    shown.expect("key 20 flags 2\n");
    drop(viewer);
    let is_done =
        || shown.machine.inspect()["devices"]["keyboard"]["status"]["waiting"] == 0 && shown.status()["viewers"] == 0;
    assert!(holds_within(grown(Duration::from_secs(5)), is_done), "the rest is not typed");
    assert!(shown.machine.inspect()["devices"]["keyboard"]["status"]["sent"].as_u64().unwrap() < 1024);
    shown.end();
}

#[test]
fn a_viewer_that_knows_no_other_size_sees_nothing_old_beside_a_smaller_screen() {
    let shown = Shown::new();
    let mut viewer = shown.viewer(RAW);
    viewer.know(&[RAW]);
    viewer.wait_for((320, 200), drawn);
    viewer.key(0x13);
    viewer.wait_for((320, 200), |x, y| if x < 200 && y < 100 { drawn(x, y) } else { 0 });
    shown.end();
}

#[test]
fn the_descriptor_of_a_viewer_that_leaves_is_closed() {
    let shown = Shown::new();
    let socket = shown.socket();
    let count = || {
        std::fs::read_to_string("/proc/net/unix")
            .unwrap()
            .lines()
            .filter(|line| line.ends_with(socket.to_str().unwrap()))
            .count()
    };
    assert_eq!(count(), 1, "the socket that listens");
    let viewer = shown.viewer(RAW);
    assert_eq!(count(), 2);
    drop(viewer);
    assert!(holds_within(grown(Duration::from_secs(60)), || count() == 1), "{} are open", count());
    shown.end();
}

#[test]
fn keys_and_the_pointer_of_a_viewer_arrive_in_the_guest() {
    let shown = Shown::new();
    let mut viewer = shown.viewer(RAW);
    viewer.keysym(0x41, true);
    viewer.keysym(0x41, false);
    viewer.key(0x9d);
    let keys = ["2a flags 0", "1e flags 0", "2a flags 2", "1e flags 2", "1d flags 4", "1d flags 6"];
    keys.iter().for_each(|key| shown.expect(&format!("key {key}\n")));
    viewer.send(&[5, 4, 1, 63, 0, 199]);
    shown.expect("mouse 32767 32767 buttons 2 wheel 0\n");
    viewer.send(&[5, 8, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
    shown.expect("mouse 0 0 buttons 0 wheel 1\n");
    // Buttons 6 and 7 turn the wheel sideways, and button 8 is a button.
    viewer.send(&[
        5, 32, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 5, 64, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 5, 128, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0,
    ]);
    ["tilt -1\n", "tilt 1\n", "buttons 8 wheel 0\n", "buttons 0 wheel 0\n"]
        .iter()
        .for_each(|words| shown.expect(words));
    // Messages may arrive in pieces, several at a time, and with an unknown keysym or code.
    viewer.send(&[4, 1, 0, 0, 0, 0, 0, 0, 255, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 255, 6, 0, 0, 0, 0, 0, 0, 2, b'h']);
    viewer.send(b"i");
    viewer.keysym(0xffe3, true);
    shown.expect("key 1d flags 0\n");
    drop(viewer);
    shown.expect("key 1d flags 2\n");
    let mut viewer = shown.viewer(RAW);
    viewer.send(&[5, 1, 0, 0, 0, 0]);
    shown.expect("mouse 0 0 buttons 1 wheel 0\n");
    drop(viewer);
    shown.expect("mouse 0 0 buttons 0 wheel 0\n");
    shown.end();
}

#[test]
fn viewers_that_break_the_protocol_or_do_not_read_harm_nobody() {
    let shown = Shown::new();
    let mut good = shown.viewer(ZRLE);
    good.wait_for((320, 200), drawn);
    let after_greeting = |bytes: &[u8]| {
        let mut stream = connect(&shown.socket());
        // The server may close the connection meanwhile.
        let _ = stream.write_all(&[b"RFB 003.008\n\x01\x01", bytes].concat());
        stream
    };
    for (says, wrong) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], true), (b"RFB 003.008\n\x13", true), (b"RFB 003.00", false)]
    {
        let mut stream = connect(&shown.socket());
        stream.write_all(says).unwrap();
        // An incomplete greeting is waited for.
        assert!(!wrong || is_over(&mut stream), "{says:?}");
    }
    for garbage in [&[99][..], &[0; 20], &[2, 0, 255, 255], &[6, 0, 0, 0, 127, 0, 0, 0], &[255, 255]] {
        assert!(is_over(&mut after_greeting(garbage)), "{garbage:?}");
    }
    // One viewer repeatedly requests the whole screen and reads nothing. Another one sends a flood of input.
    let mut deaf = shown.viewer(RAW);
    deaf.send(&[3, 0, 0, 0, 0, 0, 255, 255, 255, 255].repeat(2_000));
    let mut flood = shown.viewer(RAW);
    flood.send(&[255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2c].repeat(5_000));
    flood.send(&(0..10_000_u16).flat_map(|at| [5, 0, (at >> 8) as u8 & 1, at as u8, 0, 1]).collect::<Vec<_>>());
    drop(flood);
    shown.expect("key 2c flags 2\n");
    shown.machine.screen().press("p").unwrap();
    good.wait_for((320, 200), repainted);
    drop(deaf);
    assert!(
        holds_within(grown(Duration::from_secs(60)), || shown.status()["viewers"] == json!(1)),
        "{}",
        shown.status()
    );
    shown.end();
}

#[test]
fn connections_that_say_nothing_keep_no_viewer_out_and_viewers_are_bounded() {
    let shown = Shown::new();
    // Each has been accepted: it has read the version of the server.
    let mut silent: Vec<_> = (0..17).map(|_| connect(&shown.socket())).collect();
    assert!(is_over(&mut silent[0]), "the oldest gives way");
    silent[16].set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let kind = silent[16].read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::WouldBlock), "the newest may still speak");
    let mut viewers: Vec<_> = (0..16).map(|_| shown.viewer(ZRLE)).collect();
    assert_eq!(shown.status()["viewers"], 16);
    // One that is here stays, and another one is refused before it is asked for anything.
    let mut refused = UnixStream::connect(shown.socket()).unwrap();
    assert!(array::<12>(&mut refused).is_err());
    assert_eq!(shown.status()["refused"], 1);
    viewers[0].wait_for((320, 200), drawn);
    viewers.pop();
    assert!(holds_within(grown(Duration::from_secs(60)), || shown.status()["viewers"] == json!(15)));
    viewers.push(shown.viewer(RAW));
    viewers[15].wait_for((320, 200), drawn);
    shown.end();
}

#[test]
fn a_password_is_asked_for_and_needed_for_others_than_this_host() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let start = |options: &str| Builder::new().kernel(image("hello")).display(options).capture_console().start();
    let error = start("vnc=0.0.0.0:0").err().unwrap().to_string();
    assert!(error.contains("password-file=PATH"), "{error}");
    let error = start(&format!("vnc=0.0.0.0:0,password-file={}", file.display())).err().unwrap().to_string();
    assert!(error.contains("tls-cert=PATH"), "{error}");
    let error = start("vnc=:0,password-file=/nowhere/file").err().unwrap().to_string();
    assert!(error.contains("/nowhere/file"), "{error}");
    let options = format!("vnc=127.0.0.1:0,password-file={}", file.display());
    let builder = Builder::new().kernel(image("screen")).cmdline(format!("driver=good {}", patience()));
    let machine = builder.display(&options).capture_console().start().unwrap();
    machine.console().unwrap().wait_for("ready\n", grown(Duration::from_secs(60))).unwrap();
    let address = machine.inspect()["devices"]["vnc"]["status"]["address"].as_str().unwrap().to_owned();
    assert!(!address.ends_with(":0"), "{address}");
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(grown(Duration::from_secs(60)))).unwrap();
    stream.write_all(b"RFB 003.008\n\x02").unwrap();
    let start: [u8; 12 + 2 + 16] = array(&mut stream).unwrap();
    assert_eq!(start[12..14], [1, 2]);
    stream.write_all(&[7; 16]).unwrap();
    assert_eq!(array(&mut stream).unwrap(), [0, 0, 0, 1], "the password is wrong");
    let refused = || machine.inspect()["devices"]["vnc"]["status"]["refused"] == json!(1);
    assert!(holds_within(grown(Duration::from_secs(60)), refused));
    machine.screen().press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
    assert!(TcpStream::connect(&address).is_err(), "nobody listens after the end");
}

#[test]
fn a_stock_viewer_of_debian_captures_the_picture() {
    if !ready(&[Need::Tool("gvnccapture")]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let builder = Builder::new().kernel(image("screen")).cmdline(format!("driver=good {}", patience()));
    let machine = builder.display("vnc=127.0.0.1:0").capture_console().start().unwrap();
    machine.console().unwrap().wait_for("ready\n", grown(Duration::from_secs(60))).unwrap();
    let address = machine.inspect()["devices"]["vnc"]["status"]["address"].as_str().unwrap().to_owned();
    let port: u32 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let file = directory.path().join("screen.png");
    // The number of a display is that of its port without 5900.
    let display = format!("127.0.0.1:{}", port - 5900);
    let captured = Command::new("gvnccapture").args([&display, file.to_str().unwrap()]).output().unwrap();
    assert!(captured.status.success(), "{captured:?}");
    machine.screen().wait_for_picture(&file, 0, Duration::ZERO).unwrap_or_else(|missing| panic!("{missing}"));
    machine.screen().press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

#[test]
fn the_socket_of_the_screen_is_gone_after_the_run() {
    let shown = Shown::new();
    let (socket, _viewer) = (shown.socket(), shown.viewer(RAW));
    let exists = |path: &Path| path.try_exists().unwrap();
    assert!(exists(&socket));
    let Shown { machine, directory } = shown;
    machine.screen().press("esc").unwrap();
    machine.wait();
    assert!(!exists(&socket));
    drop(directory);
}
