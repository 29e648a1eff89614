//! The guest of these tests.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use viridian::Builder;

use crate::common::patience::{grown, holds_within};
pub use crate::common::stock::{Linux, SOON};
use crate::common::stock::{engine, image_file};

/// The socket of `--vsock`, on the nested host.
pub const PATH: &str = "/tmp/vsock";

impl Linux {
    /// Boots it, and waits for its shell.
    pub fn with_sockets() -> Self {
        let builder = Builder::new()
            .engine(engine())
            .memory(384 << 20)
            .kernel(image_file("vmlinux"))
            .initrd(image_file("initrd.img"))
            .cmdline("console=ttyS0 quiet panic=-1 run=serve")
            .vsock(PATH);
        Self::start(builder)
    }

    /// Connects to a listener that the guest has just begun to start.
    pub fn connect(&self, port: u32) -> UnixStream {
        let mut stream = None;
        let connected = || {
            stream = self.machine.sockets().connect(port).ok();
            stream.is_some()
        };
        assert!(holds_within(grown(SOON), connected), "the guest listens on {port}");
        let stream = stream.expect("it is connected");
        stream.set_read_timeout(Some(grown(2 * SOON))).expect("a limit");
        stream
    }

    /// Returns the state of the machine's sockets.
    pub fn sockets(&self) -> serde_json::Value {
        self.machine.inspect()["devices"]["sockets"].clone()
    }

    /// Waits until no connection is left.
    pub fn is_quiet(&self) {
        let quiet = || self.sockets()["connections"].as_array().is_some_and(Vec::is_empty);
        assert!(holds_within(grown(SOON), quiet), "{}", self.sockets());
    }
}

/// Returns everything that is received until the end.
pub fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it is read to its end");
    bytes
}

/// Echoes a client's data until the client closes its direction.
pub fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => match stream.write_all(&buffer[..count]) {
                Ok(()) => {}
                Err(_) => return,
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Sends bytes, closes this direction, and returns what is received.
pub fn exchange(stream: UnixStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut sender = stream.try_clone().expect("a descriptor");
    let writer = thread::spawn(move || {
        sender.write_all(&bytes).expect("it is sent");
        sender.shutdown(Shutdown::Write).expect("it is connected");
    });
    let answer = read_all(&stream);
    writer.join().expect("all is sent");
    answer
}
