//! `viridian dial`: the other end of `--host ssh://`.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use super::control::default_service;

/// Connects standard input and output to the service of this host.
///
/// # Errors
/// Returns an error if there is no service.
pub fn dial() -> anyhow::Result<u8> {
    let path = default_service()?;
    let stream = UnixStream::connect(&path)
        .map_err(|error| anyhow::anyhow!("there is no service at {}: {error}; start viridian serve", path.display()))?;
    let to_service = stream.try_clone()?;
    thread::Builder::new().name("dial".into()).spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut &to_service);
        let _ = to_service.shutdown(std::net::Shutdown::Write);
    })?;
    let mut output = io::stdout();
    let mut piece = [0; 16 << 10];
    loop {
        match (&stream).read(&mut piece) {
            Ok(0) => return Ok(0),
            Ok(count) => output.write_all(&piece[..count]).and_then(|()| output.flush())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(0),
        }
    }
}
