//! `--host`: the service that commands use instead of the machines of this host.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::tls::{certificates, digest, parse_fingerprint, provider, pump, read};

/// The variable for `--host`.
const HOST: &str = "VIRIDIAN_HOST";
/// The variable with the token.
const TOKEN: &str = "VIRIDIAN_TOKEN";
/// Time for a connection to the service.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for ssh to log in.
const LOGIN: Duration = Duration::from_secs(30);
/// Where distributions keep the authorities that the host trusts.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// Ports of URLs without one.
const PORTS: [(&str, u16); 2] = [("https", 443), ("http", 80)];

/// The options that name a service.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Machines of another host")]
pub struct Options {
    /// Use the machines of this viridian serve: https://NAME[:PORT], http://127.0.0.1:PORT, unix:PATH, or ssh://[USER@]NAME,
    /// where its user logs in and viridian is installed [env: VIRIDIAN_HOST]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    host: Option<Url>,

    /// File with a token for that service; the variable VIRIDIAN_TOKEN has the token itself
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    token_file: Option<PathBuf>,

    /// PEM file with the authorities that may have signed the service's certificate [default: those that this host trusts]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca: Option<PathBuf>,

    /// Fingerprint of the service's certificate, as viridian serve prints it; no authority needs to have signed it
    #[arg(long, global = true, value_name = "SHA256", hide_short_help = true)]
    #[arg(value_parser = parse_fingerprint, conflicts_with = "ca")]
    fingerprint: Option<String>,

    /// PEM files with a certificate of this client and its key
    #[arg(long, global = true, value_name = "cert=FILE,key=FILE", hide_short_help = true)]
    client: Option<Pair>,
}

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Url {
    Unix(PathBuf),
    Http { host: String, port: u16 },
    Https { host: String, port: u16 },
    Ssh(String),
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}`: {why}; write https://NAME[:PORT], http://127.0.0.1:PORT, unix:PATH or ssh://[USER@]NAME")
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong("there is no path")) } else { Ok(Self::Unix(path.into())) };
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("it is no address of a service")) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', ' ']) {
            return Err(wrong("there is more after the name"));
        }
        if scheme == "ssh" {
            // What begins with a minus would be an option of ssh.
            let is_name = !rest.is_empty() && !rest.starts_with('-');
            return if is_name { Ok(Self::Ssh(text.to_owned())) } else { Err(wrong("there is no name")) };
        }
        let Some((_, port)) = PORTS.iter().find(|(known, _)| *known == scheme) else {
            return Err(wrong(&format!("{scheme} is unknown")));
        };
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("the port is no number"))?)
            }
            _ => (rest, *port),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        if host.is_empty() || host.contains('@') {
            return Err(wrong("there is no name"));
        }
        if scheme == "https" {
            return Ok(Self::Https { host, port });
        }
        let is_this_host = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !is_this_host {
            return Err(wrong("a token is not sent to another host in plain text, so it needs https"));
        }
        Ok(Self::Http { host, port })
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(',').filter_map(|part| part.split_once('=')).collect();
        let file = |name: &str| {
            let found = parts.iter().find(|(known, file)| *known == name && !file.is_empty());
            found.map(|(_, file)| PathBuf::from(file))
        };
        match (file("cert"), file("key"), parts.len()) {
            (Some(certificate), Some(key), 2) => Ok(Self { certificate, key }),
            _ => Err("write cert=FILE,key=FILE".into()),
        }
    }
}

/// A service, and how it is reached.
pub struct Host {
    /// The address, as the user has written it.
    pub name: String,
    way: Way,
    token: Option<String>,
}

enum Way {
    Unix(PathBuf),
    Http(String, u16),
    Https(String, u16, Arc<ClientConfig>),
    Ssh(String),
}

/// The service that commands use, if it was chosen.
static CHOSEN: OnceLock<Host> = OnceLock::new();

/// ssh may not ask for passwords.
static ASKS_NOTHING: AtomicBool = AtomicBool::new(false);

/// Disables questions to the user: connections that need an answer fail.
pub fn ask_nothing() {
    ASKS_NOTHING.store(true, Ordering::Relaxed);
}

/// The processes of connections by ssh.
static SSH: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Ends all connections by ssh. One whose reply has no end, such as a console, would otherwise last until something is printed there.
pub fn hang_up() {
    // Nothing panics while it is locked.
    let Ok(mut connections) = SSH.lock() else { return };
    for mut child in connections.drain(..) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Returns the service that commands use instead of the machines of this host.
pub fn chosen() -> Option<&'static Host> {
    CHOSEN.get()
}

impl Options {
    /// Returns `true` if the command line names a service.
    pub fn name_a_service(&self) -> bool {
        self.host.is_some()
    }

    /// Chooses the service that the options, or the environment, name.
    ///
    /// # Errors
    /// Returns an error for a wrong variable, or if a file is missing or broken.
    pub fn choose(self) -> io::Result<()> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = match (&self.host, text(HOST)) {
            (Some(url), _) => url.clone(),
            (None, Some(value)) => {
                value.parse().map_err(|error: String| io::Error::other(format!("{HOST}: {error}")))?
            }
            (None, None) => return Ok(()),
        };
        let token = match &self.token_file {
            Some(path) => Some(String::from_utf8_lossy(&read(path)?).trim().to_owned()),
            None => text(TOKEN),
        };
        if token.as_ref().is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(io::Error::other("the token has other characters than letters, digits and signs"));
        }
        let (name, way) = match url {
            Url::Unix(path) => (format!("unix:{}", path.display()), Way::Unix(path)),
            Url::Http { host, port } => (format!("http://{host}:{port}"), Way::Http(host, port)),
            Url::Https { host, port } => {
                let config = self.tls()?;
                (format!("https://{host}:{port}"), Way::Https(host, port, Arc::new(config)))
            }
            Url::Ssh(url) => (url.clone(), Way::Ssh(url)),
        };
        // It is chosen once, at the start of the program.
        let _ = CHOSEN.set(Host { name, way, token });
        Ok(())
    }

    fn tls(&self) -> io::Result<ClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let builder = match &self.fingerprint {
            Some(fingerprint) => {
                let pinned = Pinned { fingerprint: fingerprint.clone(), provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
            }
            None => builder.with_root_certificates(authorities(self.ca.as_deref())?),
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let at = |problem: &str| io::Error::other(format!("{}: {problem}", key.display()));
                let text = read(key)?;
                let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| at("it has no private key in PEM"))?;
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| at(&error.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Returns the authorities of a file, or those that this host trusts.
fn authorities(path: Option<&Path>) -> io::Result<RootCertStore> {
    let path = match path {
        Some(path) => path,
        None => AUTHORITIES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
            io::Error::other(
                "this host has no list of authorities; give --ca FILE, or the --fingerprint of the certificate",
            )
        })?,
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(io::Error::other(format!("{}: none of its {ignored} certificates can be used", path.display())));
    }
    Ok(roots)
}

impl Host {
    /// Connects to the service. The connection is as one to a Unix socket.
    ///
    /// # Errors
    /// Returns an error with the address, and a remedy for a certificate that is not trusted.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        let connected = match &self.way {
            Way::Unix(path) => UnixStream::connect(path),
            Way::Http(host, port) => connect(host, *port, deadline),
            Way::Https(host, port, config) => {
                connect(host, *port, deadline).and_then(|stream| secured(stream, host, config, deadline))
            }
            Way::Ssh(url) => by_ssh(url),
        };
        connected.map_err(|error| io::Error::new(error.kind(), format!("{}: {}", self.name, in_words(&error))))
    }

    /// Returns the time that a connection may take until requests reach the service, if it is made before that is known.
    pub fn login_time(&self) -> Duration {
        if matches!(self.way, Way::Ssh(_)) { LOGIN } else { Duration::ZERO }
    }

    /// Returns the header of a request that says who makes it.
    pub fn header(&self) -> String {
        self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<UnixStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(UnixStream::from(OwnedFd::from(stream)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Does the handshake, and returns the local end of the connection.
fn secured(stream: UnixStream, host: &str, config: &Arc<ClientConfig>, deadline: Instant) -> io::Result<UnixStream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut session = session.into();
    pump::shake_hands(&mut session, &stream, deadline)?;
    let (local, remote) = UnixStream::pair()?;
    thread::Builder::new().name("tls".into()).spawn(move || pump::carry(session, &stream, &remote))?;
    Ok(local)
}

/// Has ssh run `viridian dial` on the other host.
fn by_ssh(url: &str) -> io::Result<UnixStream> {
    let (local, remote) = UnixStream::pair()?;
    let input = OwnedFd::from(remote.try_clone()?);
    let mut command = Command::new("ssh");
    // It has this program's standard error: it asks for a password at the terminal, and says there what is wrong.
    if ASKS_NOTHING.load(Ordering::Relaxed) {
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=2"]).stderr(Stdio::null());
    }
    command.args(["-T", "--", url, "viridian", "dial"]).stdin(Stdio::from(input)).stdout(OwnedFd::from(remote));
    let child = command.spawn().map_err(|error| io::Error::new(error.kind(), format!("ssh: {error}")))?;
    if let Ok(mut connections) = SSH.lock() {
        // Those that have ended are waited for.
        connections.retain_mut(|other| !matches!(other.try_wait(), Ok(Some(_))));
        connections.push(child);
    }
    Ok(local)
}

/// Says what to do about a certificate that is not accepted.
fn in_words(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let remedy = match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired: give the service a new one",
        Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "its certificate has another fingerprint: compare it with what viridian serve prints"
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            "this host does not trust its certificate: give --ca FILE, or the --fingerprint that viridian serve prints"
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS: is it the right port?",
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

/// Accepts the certificate with one fingerprint, whoever has signed it.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if digest(certificate) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_a_name_and_a_port() {
        let https = |host: &str, port| Ok(Url::Https { host: host.into(), port });
        assert_eq!("https://host".parse(), https("host", 443));
        assert_eq!("https://host.example:8443/".parse(), https("host.example", 8443));
        assert_eq!("https://[2001:db8::1]:8443".parse(), https("2001:db8::1", 8443));
        assert_eq!("https://[2001:db8::1]".parse(), https("2001:db8::1", 443));
        assert_eq!("http://127.0.0.1:8080".parse(), Ok(Url::Http { host: "127.0.0.1".into(), port: 8080 }));
        assert_eq!("http://[::1]:8080".parse(), Ok(Url::Http { host: "::1".into(), port: 8080 }));
        assert_eq!("unix:/run/a".parse(), Ok(Url::Unix("/run/a".into())));
        assert_eq!("ssh://me@host".parse(), Ok(Url::Ssh("ssh://me@host".into())));
        for (wrong, words) in [
            ("host", "no address of a service"),
            ("unix:", "there is no path"),
            ("http://host:80", "needs https"),
            ("ftp://host", "ftp is unknown"),
            ("https://", "there is no name"),
            ("https://:80", "there is no name"),
            ("https://host:x", "the port is no number"),
            ("https://host/machines", "more after the name"),
            ("https://me@host", "there is no name"),
            ("ssh://-oProxyCommand=x", "there is no name"),
        ] {
            let error = wrong.parse::<Url>().unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_certificate_has_a_key() {
        assert!("cert=a,key=b".parse::<Pair>().is_ok());
        for wrong in ["", "cert=a", "cert=a,key=", "cert=a,key=b,ca=c", "a,b"] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }
}
