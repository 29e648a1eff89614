//! `--host ssh://`, with a server of OpenSSH at a port of its own, and keys of its own.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::service::{Host, SOON};
use crate::command::{Run, viridian};
use crate::common::need::{Need, path_of, ready};
use crate::common::patience::{grown, holds_within};

/// A server, which has the service and the program that `host` and `bin` say.
struct Server {
    folder: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Server {
    fn start(host: &Host, has_program: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["host", "user", "stranger"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(name));
            assert!(command.status().unwrap().success());
        }
        std::fs::copy(path("user.pub"), path("authorized")).unwrap();
        std::fs::create_dir(path("bin")).unwrap();
        if has_program {
            symlink(viridian().get_program(), path("bin").join("viridian")).unwrap();
        }
        // As root, the server gives up its rights in this directory, which a start of the host makes.
        let _ = std::fs::create_dir_all("/run/sshd");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             SetEnv PATH={0}/bin:/usr/bin:/bin VIRIDIAN_RUNTIME_DIR={1}\n",
            folder.path().display(),
            host.sockets().display()
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        drop(free);
        let mut command = Command::new(path_of("sshd").unwrap());
        command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let log = std::fs::File::create(path("log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { folder, process, port };
        let serves = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(holds_within(grown(SOON), serves), "{}", server.log());
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Returns a client with this key. Its ssh is that of the host, with a configuration of its own.
    fn client(&self, key: &str) -> Client {
        let name = format!("client-{key}");
        std::fs::create_dir_all(self.path(&name)).unwrap();
        let known = std::fs::read_to_string(self.path("host.pub")).unwrap();
        std::fs::write(self.path("known"), format!("[127.0.0.1]:{} {known}", self.port)).unwrap();
        let config = format!(
            "IdentityFile {0}/{key}\nIdentitiesOnly yes\nUserKnownHostsFile {0}/known\nGlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking yes\nBatchMode yes\n",
            self.folder.path().display()
        );
        let place = self.path(&name);
        std::fs::write(place.join("config"), config).unwrap();
        let ssh =
            format!("#!/bin/sh\nexec {} -F {}/config \"$@\"\n", path_of("ssh").unwrap().display(), place.display());
        std::fs::write(place.join("ssh"), ssh).unwrap();
        std::fs::set_permissions(place.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        Client { place, url: format!("ssh://{}@127.0.0.1:{}", user.trim(), self.port) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client on a host of its own.
struct Client {
    place: PathBuf,
    url: String,
}

impl Client {
    fn run(&self, arguments: &[&str]) -> Run {
        let path = format!("{}:{}", self.place.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = viridian();
        command.env("PATH", path).env("VIRIDIAN_RUNTIME_DIR", self.place.join("run"));
        command.args(arguments).args(["--host", &self.url]).stdin(Stdio::null()).output().unwrap().into()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        run.output
    }
}

#[test]
fn a_service_is_reached_by_ssh_with_a_key() {
    let needs = [Need::Tool("sshd"), Need::Tool("ssh"), Need::Tool("ssh-keygen")];
    if !ready(&needs) {
        return;
    }
    let host = Host::serve();
    let server = Server::start(&host, true);
    let client = server.client("user");
    assert_eq!(client.done(&["list", "--json"]).trim(), "[]", "{}", server.log());
    let file = server.path("web.toml");
    std::fs::write(&file, super::service::definition("exits", "echo", "")).unwrap();
    client.done(&["define", "web", file.to_str().unwrap()]);
    client.done(&["start", "web"]);
    assert_eq!(client.done(&["wait", "web", "--for", "text=echoing by polling"]), "echoing by polling\n");
    let inspected: Value = serde_json::from_str(&client.done(&["inspect", "web", "--json"])).unwrap();
    assert_eq!(inspected["name"], "web");
    // A stream goes through it, and so does its end.
    std::thread::scope(|scope| {
        let events = scope.spawn(|| client.run(&["events", "web", "--json"]));
        client.done(&["kill", "web"]);
        let events = events.join().unwrap();
        assert!(events.code == Some(0) && events.output.contains("\"ended\""), "{events:?}");
    });
    host.until_state("web", "stopped");
    assert_eq!(host.machine("web")["end"]["kind"], json!("terminated"));
    // A key that the host does not know, and a host without the program.
    let run = server.client("stranger").run(&["list"]);
    assert!(run.code == Some(125) && run.errors.contains("Permission denied"), "{run:?}");
    let bare = Server::start(&host, false);
    let run = bare.client("user").run(&["list"]);
    assert!(run.code == Some(125) && run.errors.contains("viridian"), "{run:?}");
    assert!(Path::new(&host.socket()).exists());
}
