//! VNC's password: the viewer encrypts 16 random bytes with it (RFB: "VNC Authentication").

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use super::des::Des;

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
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        read.map_err(|error| format!("cannot read the password in {}: {error}", path.display()))?;
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
        Ok(Self(Des::new(u64::from_be_bytes(key))))
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
        let (expected, response) = (self.encrypt(u128::from_be_bytes(*challenge)), u128::from_be_bytes(*response));
        expected == response
    }

    fn encrypt(&self, challenge: u128) -> u128 {
        let (first, second) = (self.0.encrypt((challenge >> 64) as u64), self.0.encrypt(challenge as u64));
        u128::from(first) << 64 | u128::from(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_viewer_with_the_password_is_known() {
        let password = Password::parse("secret").unwrap();
        let challenge: [u8; CHALLENGE] = std::array::from_fn(|at| at as u8);
        let answer = password.encrypt(u128::from_be_bytes(challenge)).to_be_bytes();
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
}
