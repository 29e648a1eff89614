//! A server with a certificate, and viewers that encrypt (VeNCrypt) or do not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;
use crate::need::{Need, ready};
use crate::patience::grown;
use crate::vsp::screen::vnc::password::Password;
use crate::vsp::screen::vnc::server::{VncServer, Wiring};
use crate::vsp::video::testing::{HEIGHT, WIDTH, showing};

/// Time limit for a step of a connection.
const SOON: Duration = Duration::from_secs(60);

/// A folder with a certificate for 127.0.0.1, and its key.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let what = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=viewers -addext \
                    subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
        let made = Command::new("openssl").args(what.split_whitespace()).current_dir(files.0.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a server that shows a black picture, and returns its address.
    fn serve(&self, has_password: bool) -> (VncServer, String) {
        let password = self.path("password");
        std::fs::write(&password, "secret").unwrap();
        let (video, _) = showing();
        let server = VncServer::start(Wiring {
            name: "machine".into(),
            address: Some("127.0.0.1:0".parse().unwrap()),
            password: has_password.then_some(password),
            tls: Some((self.path("cert.pem"), self.path("key.pem"))),
            video,
            input: None,
            pastes: false,
        });
        let server = server.unwrap();
        let address =
            crate::device::Device::inspect(&server.device())["status"]["address"].as_str().unwrap().to_owned();
        (server, address)
    }

    /// Encrypts the connection, and trusts this certificate.
    fn encrypt(&self, stream: TcpStream, trusted: &Path) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config =
            builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}

fn heard<const N: usize>(from: &mut impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

/// Connects, and chooses this type of VeNCrypt.
fn connect(address: &str, kind: u32) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(grown(SOON))).unwrap();
    assert_eq!(&heard(&mut stream), b"RFB 003.008\n");
    stream.write_all(b"RFB 003.008\n").unwrap();
    assert_eq!(heard(&mut stream), [1, 19], "VeNCrypt is the only type");
    stream.write_all(&[19]).unwrap();
    assert_eq!(heard(&mut stream), [0, 2]);
    stream.write_all(&[0, 2]).unwrap();
    let [ok, count, offered @ ..]: [u8; 6] = heard(&mut stream);
    assert_eq!((ok, count, u32::from_be_bytes(offered)), (0, 1, kind));
    stream.write_all(&kind.to_be_bytes()).unwrap();
    assert_eq!(heard(&mut stream), [1]);
    stream
}

/// Reads what follows a good password, and a picture.
fn look(mut viewer: impl Read + Write) {
    assert_eq!(heard(&mut viewer), [0; 4], "the result");
    viewer.write_all(&[1]).unwrap();
    let start: [u8; 24 + 7] = heard(&mut viewer);
    assert_eq!(start[..4], [0, WIDTH as u8, 0, HEIGHT as u8]);
    assert_eq!(&start[24..], b"machine");
    viewer.write_all(&[3, 0, 0, 0, 0, 0, 0, WIDTH as u8, 0, HEIGHT as u8]).unwrap();
    let update: [u8; 4 + 12 + (WIDTH * HEIGHT * 4) as usize] = heard(&mut viewer);
    assert_eq!(update[..16], [0, 0, 0, 1, 0, 0, 0, 0, 0, WIDTH as u8, 0, HEIGHT as u8, 0, 0, 0, 0]);
}

#[test]
fn a_viewer_that_trusts_the_certificate_sees_the_screen_by_tls() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let files = Files::new();
    let (_server, address) = files.serve(false);
    look(files.encrypt(connect(&address, 260), &files.path("cert.pem")));
    let (_server, address) = files.serve(true);
    let mut viewer = files.encrypt(connect(&address, 261), &files.path("cert.pem"));
    let challenge: [u8; 16] = heard(&mut viewer);
    viewer.write_all(&Password::parse("secret").unwrap().encrypt(&challenge)).unwrap();
    look(viewer);
    let mut viewer = files.encrypt(connect(&address, 261), &files.path("cert.pem"));
    let _: [u8; 16] = heard(&mut viewer);
    viewer.write_all(&[7; 16]).unwrap();
    assert_eq!(heard(&mut viewer), [0, 0, 0, 1], "the password is wrong");
}

#[test]
fn who_does_not_encrypt_sees_nothing_and_harms_nobody() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let (files, other) = (Files::new(), Files::new());
    let (server, address) = files.serve(false);
    let mut viewer = files.encrypt(connect(&address, 260), &other.path("cert.pem"));
    assert_eq!(viewer.read(&mut [0]).unwrap_err().kind(), ErrorKind::InvalidData, "an unknown certificate");
    for garbage in [&b"RFB 003.008\n\x13\x00\x02"[..], b"\x16\x03\x01\xff\xff", &[0; 5000]] {
        let mut stream = connect(&address, 260);
        // The server may have hung up already.
        let _ = stream.write_all(garbage).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 100 && !answer.windows(7).any(|bytes| bytes == b"machine"), "{answer:?}");
    }
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"RFB 003.003\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"this server needs a viewer with VeNCrypt"));
    look(files.encrypt(connect(&address, 260), &files.path("cert.pem")));
    drop(server);
}

#[test]
fn missing_and_wrong_files_are_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let error = || Tls::open(&certificate, &key).err().unwrap();
    assert!(error().contains("cert.pem: No such file") && error().contains("openssl req -x509"), "{}", error());
    std::fs::write(&certificate, "nothing").unwrap();
    assert!(error().contains("cert.pem: it has no certificate in PEM"), "{}", error());
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(error().contains("key.pem: No such file"), "{}", error());
    std::fs::write(&key, "nothing").unwrap();
    assert!(error().contains("key.pem: it has no private key in PEM"), "{}", error());
}
