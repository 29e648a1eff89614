//! `--tls`: TLS at the TCP addresses.

use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use viridian::config::split_entries;

use super::error::Problem;
use super::http;
use super::lock::Mutex;
use crate::cli::tls::{certificates, digest, provider, pump, read};

/// Time limit for the handshake of a client.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time to take what a client sends that does not speak TLS: a connection that is closed before is reset.
const LINGER: Duration = Duration::from_millis(200);
/// Stack of the thread that encrypts and decrypts.
const STACK: usize = 256 << 10;
/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 22;

/// The files of `--tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_authorities: Option<PathBuf>,
}

impl FromStr for Files {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut certificate, mut key, mut client_authorities) = (None, None, None);
        for part in split_entries(text) {
            let file = match part.split_once('=') {
                Some((_, "")) => return Err(format!("`{part}` names no file")),
                Some(("cert", file)) => certificate.replace(file.into()),
                Some(("key", file)) => key.replace(file.into()),
                Some(("client-ca", file)) => client_authorities.replace(file.into()),
                _ => return Err(format!("`{part}` is unknown; write cert=FILE,key=FILE[,client-ca=FILE]")),
            };
            if file.is_some() {
                return Err(format!("`{part}`: one file has been named before"));
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Self { certificate, key, client_authorities }),
            _ => Err("a certificate and its key are needed: cert=FILE,key=FILE".into()),
        }
    }
}

impl Files {
    /// Returns the command that makes a certificate and a key that are good enough for clients that know its fingerprint.
    fn remedy(&self) -> String {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!(
            "to make a pair, run: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
             -subj /CN={name} -addext subjectAltName=DNS:{name} -addext basicConstraints=critical,CA:FALSE -keyout {} -out {}",
            self.key.display(),
            self.certificate.display()
        )
    }
}

impl Files {
    /// Reads the files.
    fn load(&self) -> io::Result<Loaded> {
        let with_remedy = |error: io::Error| io::Error::new(error.kind(), format!("--tls {error}; {}", self.remedy()));
        let provider = provider();
        let chain = certificates(&self.certificate).map_err(with_remedy)?;
        let fingerprint = digest(&chain[0]);
        let text = read(&self.key).map_err(with_remedy)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let problem = "it has no private key in PEM without a password, such as -----BEGIN PRIVATE KEY-----";
            with_remedy(at(&self.key, problem))
        })?;
        warn_if_readable(&self.key);
        let mut all: Vec<_> = chain.iter().flat_map(|certificate| certificate.to_vec()).chain(text).collect();
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                all.extend(read(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated();
                builder.with_client_cert_verifier(verifier.build().map_err(|error| at(path, &error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let problem = format!("it is not the key of the certificate in {}: {error}", self.certificate.display());
            with_remedy(at(&self.key, &problem))
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every connection shows its certificate, so one that has expired meanwhile is refused.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), fingerprint, digest: digest(&all) })
    }
}

/// The server's side of TLS.
pub struct Acceptor {
    files: Files,
    loaded: Mutex<Loaded>,
}

/// The content of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    /// Fingerprint of the certificate.
    fingerprint: String,
    /// Digest of all files.
    digest: String,
}

/// A connection after its handshake.
pub struct Secured {
    /// The local end: what is written to it is sent encrypted.
    pub stream: UnixStream,
    /// The certificate of the client, which one of the authorities has signed.
    pub certificate: Option<Vec<u8>>,
    pump: JoinHandle<()>,
}

impl Secured {
    /// Closes the connection, and waits until the client has got everything, within limits.
    pub fn finish(self) {
        drop(self.stream);
        // A panic is printed, and ends this connection alone.
        let _ = self.pump.join();
    }
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// Returns an error with the file and a remedy.
    pub fn open(files: &Files) -> io::Result<Self> {
        Ok(Self { files: files.clone(), loaded: Mutex::new(files.load()?) })
    }

    /// Reads the files again, for connections from now on. Returns `false` if they are the same as before.
    ///
    /// # Errors
    /// Returns an error with the file and a remedy. Then what was read before remains in use.
    pub fn reload(&self) -> io::Result<bool> {
        let new = self.files.load()?;
        let mut loaded = self.loaded.lock();
        let is_new = new.digest != loaded.digest;
        *loaded = new;
        Ok(is_new)
    }

    /// Returns the fingerprint of the certificate.
    pub fn fingerprint(&self) -> String {
        self.loaded.lock().fingerprint.clone()
    }

    /// Returns the paths of the files.
    pub fn files(&self) -> Vec<&Path> {
        let own = [&self.files.certificate, &self.files.key].into_iter().chain(&self.files.client_authorities);
        own.map(PathBuf::as_path).collect()
    }

    /// Does the handshake with a client.
    ///
    /// # Errors
    /// Returns an error if the client does not do its part, or does not speak TLS. It has been told why, as far as possible.
    pub fn accept(&self, stream: UnixStream) -> io::Result<Secured> {
        let deadline = Instant::now() + PATIENCE;
        if !speaks_tls(&stream)? {
            refuse(&stream);
            return Err(io::Error::new(ErrorKind::InvalidData, "the client does not speak TLS"));
        }
        let config = self.loaded.lock().config.clone();
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut session = session.into();
        pump::shake_hands(&mut session, &stream, deadline)?;
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
        let (local, remote) = UnixStream::pair()?;
        let carry = move || pump::carry(session, &stream, &remote);
        let pump = thread::Builder::new().name("tls".into()).stack_size(STACK).spawn(carry)?;
        Ok(Secured { stream: local, certificate, pump })
    }
}

/// Reads the authorities whose certificates are accepted.
fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| at(path, &error.to_string()))?;
    }
    Ok(roots)
}

fn at(path: &Path, problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {problem}", path.display()))
}

fn warn_if_readable(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0) {
        log::warn!("{}: other users can read this key; chmod 600 it", key.display());
    }
}

/// Waits for the first byte, and returns `true` if a handshake begins with it, or if the connection has ended.
fn speaks_tls(stream: &UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0];
    let (count, _) = recv(stream, &mut first[..], RecvFlags::PEEK)?;
    Ok(count == 0 || first[0] == HANDSHAKE)
}

/// Tells a client that it has to speak TLS.
fn refuse(mut stream: &UnixStream) {
    let problem = Problem::invalid("this port speaks TLS").with_remedy("use https instead of http");
    let _ = stream.set_write_timeout(Some(LINGER));
    let _ = stream.set_read_timeout(Some(LINGER));
    let _ = http::reply(stream, problem.status, &problem.body());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 16 << 10]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_named_one_by_one() {
        let files: Files = "cert=/a.pem,key=b.pem".parse().unwrap();
        let (certificate, key) = ("/a.pem".into(), "b.pem".into());
        assert_eq!(files, Files { certificate, key, client_authorities: None });
        let files: Files = "key=b,client-ca=c,cert=a".parse().unwrap();
        assert_eq!(files.client_authorities, Some("c".into()));
        let commas: Files = "cert=a,,b,key=,,".parse().unwrap();
        assert_eq!((commas.certificate, commas.key), ("a,b".into(), ",".into()));
        assert!(files.remedy().contains("openssl req -x509") && files.remedy().ends_with("-keyout b -out a"));
        for (wrong, words) in [
            ("", "is unknown"),
            ("cert=a", "a certificate and its key"),
            ("cert=a,key=", "names no file"),
            ("cert=a,key=b,cert=c", "named before"),
            ("cert=a,key=b,ca=c", "is unknown"),
        ] {
            let error = wrong.parse::<Files>().unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }

    #[test]
    fn missing_and_wrong_files_are_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = Files { certificate: path("cert.pem"), key: path("key.pem"), client_authorities: None };
        let error = |files: &Files| Acceptor::open(files).err().unwrap().to_string();
        assert!(error(&files).contains("cert.pem: No such file"), "{}", error(&files));
        assert!(error(&files).contains("to make a pair, run: openssl req"));
        std::fs::write(path("cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(error(&files).contains("key.pem: No such file"), "{}", error(&files));
        std::fs::write(path("key.pem"), "x").unwrap();
        assert!(error(&files).contains("key.pem: it has no private key in PEM"), "{}", error(&files));
    }
}
