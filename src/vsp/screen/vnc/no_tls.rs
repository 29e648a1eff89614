//! Takes the place of `tls` in a library without the feature that has TLS.

use std::io::{self, Read, Write};
use std::path::Path;

/// There is none.
pub enum Tls {}

impl Tls {
    /// Returns an error.
    pub fn open(_certificate: &Path, _key: &Path) -> Result<Self, String> {
        Err("tls-cert and tls-key need the feature `cli` of the package, which has TLS".into())
    }

    /// Is never called.
    pub fn accept(&self, _stream: &mut (impl Read + Write)) -> io::Result<Secure> {
        match *self {}
    }
}

/// There is none.
pub enum Secure {}

impl Secure {
    /// Is never called.
    pub fn read(&self, _stream: impl Read, _bytes: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    /// Is never called.
    pub fn write(&self, _stream: impl Write, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }
}
