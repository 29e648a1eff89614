//! TLS with viewers: the certificate of the server, and the encrypted bytes of a connection.
//!
//! Both threads of a viewer use the session at the same time. Neither holds it while it waits for the network.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::host::lock::Mutex;
use crate::host::paths;

/// Maximum length of a file with certificates or a key.
const MAX_FILE: u64 = 1 << 20;
/// Number of bytes that are received at once.
const PIECE: usize = 4096;
/// Number of bytes that are encrypted at once.
const MAX_PLAIN: usize = 16 << 10;

/// The certificate with which a server shows who it is, and its key.
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads the files, which are PEM.
    ///
    /// # Errors
    /// Returns a description with the file and a remedy.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, String> {
        let remedy = |path: &Path, problem: &str| {
            format!(
                "{}: {problem}; to make a pair for this host, run: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
                 -nodes -days 365 -subj /CN=$(hostname) -addext subjectAltName=DNS:$(hostname) -keyout {} -out {}",
                path.display(),
                key.display(),
                certificate.display()
            )
        };
        let unread = |path: &Path, error: &io::Error| remedy(path, &format!("{error}{}", paths::after(error)));
        let text = read(certificate).map_err(|error| unread(certificate, &error))?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().unwrap_or_default();
        if chain.is_empty() {
            return Err(remedy(certificate, "it has no certificate in PEM"));
        }
        let text = read(key).map_err(|error| unread(key, &error))?;
        let private = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| remedy(key, "it has no private key in PEM without a password"))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = builder.with_no_client_auth().with_single_cert(chain, private);
        let config = config.map_err(|error| {
            remedy(key, &format!("it is not the key of the certificate in {}: {error}", certificate.display()))
        })?;
        Ok(Self(Arc::new(config)))
    }

    /// Does the handshake with a viewer.
    ///
    /// # Errors
    /// Returns an error if the viewer does not do its part.
    pub fn accept(&self, stream: &mut (impl Read + Write)) -> io::Result<Secure> {
        let mut session = ServerConnection::new(self.0.clone()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            let (read, _) = session.complete_io(stream)?;
            if read == 0 && session.is_handshaking() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Secure { session: Mutex::new(session), received: Mutex::default(), sending: Mutex::default() })
    }
}

/// Reads a file. A FIFO without a writer is empty, and is not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut bytes = Vec::new();
    let file: File = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The session of a connection.
pub struct Secure {
    session: Mutex<ServerConnection>,
    /// Received bytes that are not decrypted yet.
    received: Mutex<Vec<u8>>,
    /// Encrypted bytes that are not sent yet. The lock is held until they are sent, which keeps their order.
    sending: Mutex<Vec<u8>>,
}

impl Secure {
    /// Reads what the viewer sends.
    ///
    /// # Errors
    /// Returns the error of the connection, or of what the viewer sends.
    pub fn read(&self, mut stream: impl Read, bytes: &mut [u8]) -> io::Result<usize> {
        let mut received = self.received.lock();
        loop {
            let mut session = self.session.lock();
            match session.reader().read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Without the message that says so, the end is one, too: messages have a length.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if !received.is_empty() {
                let count = session.read_tls(&mut &received[..])?;
                received.drain(..count);
                session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                continue;
            }
            drop(session);
            let mut piece = [0; PIECE];
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(0);
            }
            received.extend_from_slice(&piece[..count]);
        }
    }

    /// Sends at least the first of these bytes.
    ///
    /// # Errors
    /// Returns the error of the connection.
    pub fn write(&self, mut stream: impl Write, bytes: &[u8]) -> io::Result<usize> {
        let mut sending = self.sending.lock();
        let mut session = self.session.lock();
        let count = session.writer().write(&bytes[..bytes.len().min(MAX_PLAIN)])?;
        sending.clear();
        while session.wants_write() {
            session.write_tls(&mut *sending)?;
        }
        drop(session);
        stream.write_all(&sending)?;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
