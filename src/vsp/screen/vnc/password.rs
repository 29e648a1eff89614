//! VNC's password: the viewer encrypts 16 random bytes with it (RFB: "VNC Authentication").

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::host::paths;

/// Length of a challenge, in bytes.
pub const CHALLENGE: usize = 16;
/// Maximum length of a password, in bytes. The protocol ignores the rest.
const MOST: usize = 8;
/// Maximum length of the file.
const MAX_FILE: u64 = 4096;

/// A password.
pub struct Password(Des);

impl Password {
    /// Reads the first line of a file.
    ///
    /// # Errors
    /// Returns a description of what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut text = String::new();
        // A FIFO without a writer is empty. It would be waited for otherwise.
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
        let read = file.and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        read.map_err(|error| {
            format!("cannot read the password in {}: {error}{}", path.display(), paths::after(&error))
        })?;
        Self::parse(text.lines().next().unwrap_or_default()).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Creates a password.
    ///
    /// # Errors
    /// Returns a description of what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MOST {
            return Err(format!(
                "a VNC password has 1 to {MOST} bytes, and the first line of the file has {}; the protocol ignores further ones",
                text.len()
            ));
        }
        let mut key = [0; MOST];
        // VNC takes the bits of each byte in reverse.
        key.iter_mut().zip(text.bytes()).for_each(|(key, byte)| *key = byte.reverse_bits());
        Ok(Self(Des::new(&key.into())))
    }

    /// Returns random bytes for a viewer to encrypt.
    ///
    /// # Errors
    /// Returns the error of the host.
    pub fn challenge() -> io::Result<[u8; CHALLENGE]> {
        let mut challenge = [0; CHALLENGE];
        let length = getrandom(&mut challenge, GetRandomFlags::empty())?;
        if length == CHALLENGE { Ok(challenge) } else { Err(ErrorKind::Interrupted.into()) }
    }

    /// Returns `true` if the response is the challenge, encrypted with the password.
    pub fn is_answer(&self, challenge: &[u8; CHALLENGE], response: &[u8; CHALLENGE]) -> bool {
        self.encrypt(challenge) == *response
    }

    /// Returns the answer of a viewer that knows the password.
    pub fn encrypt(&self, challenge: &[u8; CHALLENGE]) -> [u8; CHALLENGE] {
        let mut blocks = *challenge;
        for block in blocks.as_chunks_mut().0 {
            self.0.encrypt_block(block.into());
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_viewer_with_the_password_is_known() {
        let password = Password::parse("secret").unwrap();
        let challenge: [u8; CHALLENGE] = std::array::from_fn(|at| at as u8);
        // By OpenSSL, with each byte of the key reversed.
        let answer = 0xee22_539f_33a5_983e_c12f_9c2e_dbc9_95dd_u128.to_be_bytes();
        assert!(password.is_answer(&challenge, &answer));
        assert!(!Password::parse("Secret").unwrap().is_answer(&challenge, &answer));
        assert_ne!(answer[..8], answer[8..]);
        assert_ne!(Password::challenge().unwrap(), Password::challenge().unwrap());
    }

    #[test]
    fn a_password_that_the_protocol_would_cut_is_refused() {
        assert!(Password::parse("12345678").is_ok());
        for wrong in ["", "123456789"] {
            assert!(Password::parse(wrong).err().unwrap().contains("1 to 8 bytes"));
        }
        assert!(Password::read(Path::new("/nowhere/password")).err().unwrap().contains("/nowhere/password"));
    }

    #[test]
    fn a_fifo_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(Password::read(&path).err().unwrap().contains("the first line of the file has 0"));
    }
}
