//! The start of a connection: versions, the password, and the viewer's first message.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::password::{CHALLENGE, Password};
use super::tls::Tls;

/// The time that a viewer has for all of it.
const GREETING: Duration = Duration::from_secs(10);
/// The delay before a viewer learns that its password is wrong.
const WRONG_PASSWORD: Duration = Duration::from_secs(1);

/// Security types.
const NONE: u8 = 1;
const VNC: u8 = 2;
const VENCRYPT: u8 = 19;

/// The version of VeNCrypt.
const VENCRYPT_VERSION: [u8; 2] = [0, 2];
/// Its types: TLS with a certificate, without and with a VNC password.
const X509_NONE: u32 = 260;
const X509_VNC: u32 = 261;

/// The conditions for viewers.
#[derive(Clone, Copy, Default)]
pub struct Access<'a> {
    /// The password.
    pub password: Option<&'a Password>,
    /// The encryption of the connection.
    pub tls: Option<&'a Tls>,
}

/// A connection to a viewer that can be encrypted.
pub trait Encrypt {
    /// Does the handshake. What is read and written from now on is encrypted.
    ///
    /// # Errors
    /// Returns an error if the viewer does not do its part.
    fn encrypt(&mut self, tls: &Tls) -> io::Result<()>;
}

/// A connection whose reads and writes share one time limit.
pub struct Patient<'a> {
    connection: &'a Connection,
    end: Instant,
}

impl<'a> Patient<'a> {
    /// Creates one that begins now.
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection, end: Instant::now() + GREETING }
    }

    fn set_timeouts(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.connection.set_timeouts(Some(left), Some(left))
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.set_timeouts()?;
        self.connection.read(bytes)
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.set_timeouts()?;
        self.connection.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encrypt for Patient<'_> {
    fn encrypt(&mut self, tls: &Tls) -> io::Result<()> {
        let secure = tls.accept(self)?;
        self.connection.encrypt(secure);
        Ok(())
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Exchanges versions and security types, up to the viewer's first message.
///
/// # Errors
/// Returns the error of the connection, or one about what the viewer did wrong: [`ErrorKind::PermissionDenied`] if the password is
/// wrong, or if it cannot encrypt.
pub fn greet(connection: &mut (impl Read + Write + Encrypt), access: Access<'_>) -> io::Result<()> {
    connection.write_all(b"RFB 003.008\n")?;
    let mut version = [0; 12];
    connection.read_exact(&mut version)?;
    if !version.starts_with(b"RFB 003.") {
        return Err(wrong("it does not speak RFB 3"));
    }
    // Other versions than these count as 3.3. Apple's viewer calls 3.8 889.
    let (has_choice, has_reason) = match &version[8..11] {
        b"007" => (true, false),
        b"008" | b"889" => (true, true),
        _ => (false, false),
    };
    let Access { password, tls } = access;
    let security = match (tls, password) {
        (Some(_), _) => VENCRYPT,
        (None, Some(_)) => VNC,
        (None, None) => NONE,
    };
    let mut byte = [0];
    if has_choice {
        connection.write_all(&[1, security])?;
        connection.read_exact(&mut byte)?;
        if byte != [security] {
            return Err(wrong("it chooses a security type that it was not offered"));
        }
    } else if tls.is_some() {
        let why = "this server needs a viewer with VeNCrypt";
        connection.write_all(&[&[0; 4], &(why.len() as u32).to_be_bytes()[..], why.as_bytes()].concat())?;
        return Err(io::Error::new(ErrorKind::PermissionDenied, "it cannot encrypt"));
    } else {
        connection.write_all(&u32::from(security).to_be_bytes())?;
    }
    if let Some(tls) = tls {
        encrypt(connection, tls, if password.is_some() { X509_VNC } else { X509_NONE })?;
    }
    match password {
        Some(password) => authenticate(connection, password, has_reason)?,
        // VeNCrypt always ends with a result.
        None if has_reason || tls.is_some() => connection.write_all(&0_u32.to_be_bytes())?,
        None => {}
    }
    // Asks for shared access, which every viewer has.
    connection.read_exact(&mut byte)
}

/// Agrees on the type of VeNCrypt, and encrypts the connection.
fn encrypt(connection: &mut (impl Read + Write + Encrypt), tls: &Tls, kind: u32) -> io::Result<()> {
    connection.write_all(&VENCRYPT_VERSION)?;
    let mut version = [0; 2];
    connection.read_exact(&mut version)?;
    if version != VENCRYPT_VERSION {
        // Not supported.
        connection.write_all(&[0xff])?;
        return Err(wrong("it speaks another version of VeNCrypt than 0.2"));
    }
    let kinds = [&[0, 1], &kind.to_be_bytes()[..]].concat();
    connection.write_all(&kinds)?;
    let mut choice = [0; 4];
    connection.read_exact(&mut choice)?;
    if u32::from_be_bytes(choice) != kind {
        connection.write_all(&[0])?;
        return Err(wrong("it chooses a type of VeNCrypt that it was not offered"));
    }
    connection.write_all(&[1])?;
    connection.encrypt(tls)
}

fn authenticate(connection: &mut (impl Read + Write), password: &Password, has_reason: bool) -> io::Result<()> {
    let (challenge, mut response) = (Password::challenge()?, [0; CHALLENGE]);
    connection.write_all(&challenge)?;
    connection.read_exact(&mut response)?;
    if password.is_answer(&challenge, &response) {
        return connection.write_all(&0_u32.to_be_bytes());
    }
    std::thread::sleep(WRONG_PASSWORD);
    let mut answer = 1_u32.to_be_bytes().to_vec();
    if has_reason {
        let reason = b"the password is wrong";
        answer.extend((reason.len() as u32).to_be_bytes());
        answer.extend(reason);
    }
    connection.write_all(&answer)?;
    Err(io::Error::new(ErrorKind::PermissionDenied, "its password is wrong"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::super::connection::Socket;
    use super::*;

    /// A viewer that sends all of this without reading the answers.
    struct Script<'a> {
        says: &'a [u8],
        heard: Vec<u8>,
    }

    impl Read for Script<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let length = bytes.len().min(1);
            self.says.read(&mut bytes[..length])
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Encrypt for Script<'_> {
        fn encrypt(&mut self, _tls: &Tls) -> io::Result<()> {
            self.heard.extend(b"TLS");
            Ok(())
        }
    }

    fn play(says: &[u8], password: Option<&Password>) -> (Result<(), ErrorKind>, Vec<u8>) {
        play_with(says, Access { password, tls: None })
    }

    fn play_with(says: &[u8], access: Access<'_>) -> (Result<(), ErrorKind>, Vec<u8>) {
        let mut script = Script { says, heard: Vec::new() };
        let result = greet(&mut script, access).map_err(|error| error.kind());
        assert_eq!(&script.heard[..12], b"RFB 003.008\n");
        (result, script.heard.split_off(12))
    }

    #[test]
    fn each_version_is_greeted_as_it_expects() {
        assert_eq!(play(b"RFB 003.003\n\x01", None), (Ok(()), vec![0, 0, 0, 1]));
        assert_eq!(play(b"RFB 003.005\n\x01", None), (Ok(()), vec![0, 0, 0, 1]));
        assert_eq!(play(b"RFB 003.007\n\x01\x01", None), (Ok(()), vec![1, 1]));
        assert_eq!(play(b"RFB 003.008\n\x01\x00", None), (Ok(()), vec![1, 1, 0, 0, 0, 0]));
        assert_eq!(play(b"RFB 003.889\n\x01\x00", None), (Ok(()), vec![1, 1, 0, 0, 0, 0]));
    }

    #[test]
    fn a_viewer_that_breaks_the_protocol_is_refused() {
        for says in [&b"GET / HTTP/1.1\r\n"[..], b"RFB 004.001\n\x01", b"RFB 003.008\n\x02", b"RFB 003.008\n\x00"] {
            assert_eq!(play(says, None).0, Err(ErrorKind::InvalidData));
        }
        for says in [&b"RFB 003.0"[..], b"RFB 003.008\n", b"RFB 003.008\n\x01"] {
            assert_eq!(play(says, None).0, Err(ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn a_viewer_that_sends_a_byte_now_and_then_has_its_time_and_no_more() {
        let (connection, mut viewer) = UnixStream::pair().unwrap();
        let connection = Connection::new(Socket::Unix(connection));
        let mut patient = Patient { connection: &connection, end: Instant::now() + Duration::from_millis(50) };
        let mut byte = [0];
        let kind = loop {
            viewer.write_all(b"R").unwrap();
            if let Err(error) = patient.read_exact(&mut byte) {
                break error.kind();
            }
        };
        assert_eq!(kind, ErrorKind::TimedOut);
        assert_eq!(greet(&mut patient, Access::default()).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_wrong_password_is_refused_and_no_password_is_not_offered() {
        let password = Password::parse("secret").unwrap();
        let says = [&b"RFB 003.008\n\x02"[..], &[0; 17]].concat();
        let (result, heard) = play(&says, Some(&password));
        assert_eq!((result, &heard[..2]), (Err(ErrorKind::PermissionDenied), &[1, 2][..]));
        assert!(heard.ends_with(b"the password is wrong"));
        assert_eq!(play(b"RFB 003.008\n\x01", Some(&password)).0, Err(ErrorKind::InvalidData));
        let says = [&b"RFB 003.003\n"[..], &[0; 17]].concat();
        assert_eq!(play(&says, Some(&password)).0, Err(ErrorKind::PermissionDenied));
    }
}
