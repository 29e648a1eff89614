//! TLS, for the service that other hosts reach and for the commands that reach it.
//!
//! rustls does the protocol and ring the cryptography, both without an event loop. After the handshake, `pump` carries the bytes
//! between the connection and a local socket, so everything else works on a connection as on one to a Unix socket.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustls::crypto::{CryptoProvider, ring as cryptography};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

mod name;
pub mod pump;

pub use name::common_name;

/// Maximum length of a file with certificates or a key.
const MAX_FILE: u64 = 1 << 20;

/// Returns the cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(cryptography::default_provider())
}

/// Returns the SHA-256 digest of bytes, in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses a fingerprint as this program or OpenSSL prints it: 64 hexadecimal digits, perhaps with colons and after `sha256:`.
///
/// # Errors
/// Returns an error if it is not one.
pub fn parse_fingerprint(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.strip_prefix("sha256:").unwrap_or(&text).replace(':', "");
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err("it is not a SHA-256 fingerprint: viridian serve prints its own at its start, and openssl x509 -noout -sha256 \
         -fingerprint -in FILE prints that of a file"
        .into())
}

/// Reads the certificates of a PEM file. There is at least one.
///
/// # Errors
/// Returns an error with the path and a remedy.
pub fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| wrong(path, &format!("{error:?}")))?;
    if all.is_empty() {
        return Err(wrong(path, "it has no certificate"));
    }
    Ok(all)
}

fn wrong(path: &Path, problem: &str) -> io::Error {
    let text = format!("{}: {problem}; it must be PEM, with -----BEGIN CERTIFICATE-----", path.display());
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Reads a file with certificates, a key or a token.
///
/// # Errors
/// Returns an error with the path.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(at)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(at(io::Error::other(format!("it has more than {MAX_FILE} bytes"))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_programs_print_them() {
        let digits = digest(b"abc");
        assert_eq!(digits, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let upper = digits.to_ascii_uppercase();
        let pairs: Vec<_> = upper.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        for text in [digits.clone(), format!("sha256:{digits}"), format!(" {}\n", pairs.join(":")), upper.clone()] {
            assert_eq!(parse_fingerprint(&text), Ok(digits.clone()), "{text}");
        }
        for text in ["", "sha256:", &digits[1..], &format!("{digits}0"), &digits.replace('a', "x")] {
            assert!(parse_fingerprint(text).unwrap_err().contains("fingerprint"), "{text}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        assert!(certificates(&path).unwrap_err().to_string().contains("a.pem: No such file"));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(certificates(&path).unwrap_err().to_string().contains("a.pem: it has no certificate"));
        std::fs::write(&path, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        assert!(certificates(&path).unwrap_err().to_string().contains("more than"));
    }
}
