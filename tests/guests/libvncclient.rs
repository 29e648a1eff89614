//! VNC viewers made with libvncclient, the library of Remmina and others: what they see is right, whatever they ask for.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::viewers::{Shown, drawn, repainted};
use crate::common::need::{Need, ready};

/// The program `vnc_client.c`.
struct Program(tempfile::TempDir);

impl Program {
    /// Compiles it. Returns `None` if the test is left out for a reason.
    #[track_caller]
    fn new(others: &[Need]) -> Option<Self> {
        if !ready(&[&[Need::Tool("cc"), Need::Tool("/usr/include/rfb/rfbclient.h")], others].concat()) {
            return None;
        }
        let program = Self(tempfile::tempdir().unwrap());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/vnc_client.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-o"]).arg(program.path()).arg(source).arg("-lvncclient");
        let compiled = compiler.output().unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        Some(program)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("vnc_client")
    }

    fn command(&self, (host, port): (&str, &str), encodings: &str, bits: u32) -> Command {
        let mut command = Command::new(self.path());
        command.args([host, port, encodings, &bits.to_string()]).stdin(Stdio::piped());
        command
    }

    /// Starts a viewer at a Unix socket.
    fn connect(&self, socket: &Path, encodings: &str, bits: u32) -> Client {
        Client::start(&mut self.command((socket.to_str().unwrap(), "0"), encodings, bits), bits)
    }
}

/// A picture as a viewer has it.
struct Picture {
    size: (usize, usize),
    /// Number of rectangles that the viewer was told to copy so far.
    copies: u32,
    pixels: Vec<u32>,
}

/// Reads the pictures of a viewer until its end.
fn read(mut output: ChildStdout, pictures: &Sender<Picture>) {
    let mut head = [[0; 4]; 3];
    while output.read_exact(head.as_flattened_mut()).is_ok() {
        let [width, height, copies] = head.map(u32::from_ne_bytes);
        let mut pixels = vec![0; 4 * width as usize * height as usize];
        if output.read_exact(&mut pixels).is_err() {
            return;
        }
        // The fourth byte of a pixel is not used.
        let pixels = pixels.as_chunks().0.iter().map(|pixel| u32::from_ne_bytes(*pixel) & 0xff_ffff).collect();
        let size = (width as usize, height as usize);
        // The test may be over.
        let _ = pictures.send(Picture { size, copies, pixels });
    }
}

/// A viewer, which is ended when it is dropped.
struct Client {
    process: Child,
    bits: u32,
    pictures: Receiver<Picture>,
    /// The last one.
    picture: Option<Picture>,
}

impl Client {
    fn start(command: &mut Command, bits: u32) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, pictures) = channel();
        let output = process.stdout.take().unwrap();
        std::thread::spawn(move || read(output, &sender));
        Self { process, bits, pictures, picture: None }
    }

    /// Waits until the viewer has a picture of this size with these pixels.
    #[track_caller]
    fn wait_for(&mut self, size: (usize, usize), pixel: impl Fn(usize, usize) -> u32) {
        let wanted = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y)));
        let wanted: Vec<u32> = wanted.map(|(x, y)| converted(pixel(x, y), self.bits)).collect();
        while self.picture.as_ref().is_none_or(|picture| picture.size != size || picture.pixels != wanted) {
            let Ok(picture) = self.pictures.recv() else {
                let mut errors = String::new();
                self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("the viewer has ended: {:?}\n{errors}", self.process.wait());
            };
            self.picture = Some(picture);
        }
    }

    fn copies(&self) -> u32 {
        self.picture.as_ref().map_or(0, |picture| picture.copies)
    }

    /// Asks for a size of the screen.
    fn ask_for(&mut self, width: u32, height: u32) {
        writeln!(self.process.stdin.as_ref().unwrap(), "{width} {height}").unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a pixel 0x00RRGGBB in the format that the library requests.
fn converted(pixel: u32, bits: u32) -> u32 {
    let (most, shifts) = match bits {
        8 => ([7, 7, 3], [0, 3, 6]),
        16 => ([31, 31, 31], [0, 5, 10]),
        _ => ([255, 255, 255], [0, 8, 16]),
    };
    let colours = [pixel >> 16 & 0xff, pixel >> 8 & 0xff, pixel & 0xff];
    (0..3).map(|at| ((colours[at] * most[at] + 127) / 255) << shifts[at]).sum()
}

#[test]
fn a_library_of_others_has_the_right_picture_in_each_encoding_and_format_and_after_a_resize() {
    let Some(program) = Program::new(&[]) else { return };
    let shown = Shown::new();
    let encodings = ["raw", "hextile", "zlib", "tight", "zrle"];
    let kinds = encodings.iter().flat_map(|encoding| [8, 16, 32].map(|bits| (encoding, bits)));
    let mut clients: Vec<_> = kinds.map(|(encoding, bits)| program.connect(&shown.socket(), encoding, bits)).collect();
    let press = |key: &str| shown.machine.screen().press(key).unwrap();
    clients.iter_mut().for_each(|client| client.wait_for((320, 200), drawn));
    press("p");
    clients.iter_mut().for_each(|client| client.wait_for((320, 200), repainted));
    press("r");
    clients.iter_mut().for_each(|client| client.wait_for((200, 100), repainted));
    // The library asks for no update until it has the answer.
    clients.iter_mut().for_each(|client| client.ask_for(640, 480));
    press("p");
    clients.iter_mut().for_each(|client| client.wait_for((200, 100), drawn));
    assert_eq!(shown.status()["viewers"], clients.len());
    shown.end();
}

#[test]
fn a_library_of_others_copies_what_scrolls() {
    let Some(program) = Program::new(&[]) else { return };
    let shown = Shown::new();
    let mut client = program.connect(&shown.socket(), "zrle copyrect", 32);
    client.wait_for((320, 200), drawn);
    let scrolled = |lines: usize| move |x: usize, y: usize| if y + lines < 200 { drawn(x, y + lines) } else { 0 };
    // The host may look while the guest still moves its lines, and then sends pixels.
    let mut rounds = 0;
    while client.copies() == 0 && rounds < 11 {
        rounds += 1;
        shown.machine.screen().press("s").unwrap();
        client.wait_for((320, 200), scrolled(16 * rounds));
    }
    assert!(client.copies() > 0, "{}", shown.status());
    shown.end();
}

#[test]
fn a_library_of_others_gives_its_password_and_encrypts() {
    let Some(program) = Program::new(&[Need::Tool("openssl")]) else { return };
    for is_encrypted in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (password, certificate, other) = (file("password"), file("cert.pem"), file("other.pem"));
        std::fs::write(&password, "secret\n").unwrap();
        for (certificate, key) in [(&certificate, file("key.pem")), (&other, file("other-key.pem"))] {
            let what = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=viewers -addext \
                        subjectAltName=IP:127.0.0.1";
            let mut openssl = Command::new("openssl");
            openssl.args(what.split_whitespace()).args(["-out", certificate, "-keyout", &key]);
            let made = openssl.output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        let tls =
            if is_encrypted { format!(",tls-cert={certificate},tls-key={}", file("key.pem")) } else { String::new() };
        let shown = Shown::start(directory, &format!("vnc=127.0.0.1:0,password-file={password}{tls}"));
        let address = shown.status()["address"].as_str().unwrap().to_owned();
        let address = address.split_once(':').unwrap();
        let with = |password: &str, trusted: &str| {
            let mut command = program.command(address, "tight", 32);
            command.env("VNC_PASSWORD", password).env("VNC_CA", trusted);
            command
        };
        Client::start(&mut with("secret", &certificate), 32).wait_for((320, 200), drawn);
        let errors = |output: Output| {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let refused = errors(with("secrets", &certificate).output().unwrap());
        assert!(refused.contains("the password is wrong"), "{refused}");
        if is_encrypted {
            let refused = errors(with("secret", &other).output().unwrap());
            assert!(refused.contains("TLS handshake failed"), "{refused}");
        }
        shown.end();
    }
}
