//! The steps of the test, in order.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use viridian::machine::End;

use super::guest::{Linux, PATH, SOON, echo, exchange, read_all};
use crate::common::patience::{grown, holds_within};

/// Ports of the guest, of the library, and of a Unix socket. The last one has no listener.
const GUEST: u32 = 1024;
const HOST: u32 = 2048;
const UNIX: u32 = 2049;
const NOBODY: u32 = 9;

/// The guest's echo: each connection has a process, which ends when both directions have ended.
const ECHO: &str = "socat -t 600 VSOCK-LISTEN:1024,fork EXEC:cat & echo begun";

pub fn both_sides_connect(linux: &Linux) {
    linux.run(ECHO);
    assert_eq!(exchange(linux.connect(GUEST), b"from the host".to_vec()), b"from the host");
    let listener = linux.machine.sockets().listen(HOST).expect("nobody else listens");
    linux.begin("echo from the guest | socat -t 60 - VSOCK-CONNECT:2:2048");
    echo(listener.accept_timeout(grown(SOON)).expect("the guest connects"));
    assert_eq!(linux.finish(), ("0".into(), "from the guest".into()));
    // As systemd notifies its manager: a message and the end.
    linux.begin("printf 'READY=1\\n' | socat -u - VSOCK-CONNECT:2:2048");
    assert_eq!(read_all(&listener.accept_timeout(grown(SOON)).expect("the guest connects")), b"READY=1\n");
    assert_eq!(linux.finish().0, "0");
    drop(listener);
    // The same by Unix sockets.
    let unix = UnixListener::bind(format!("{PATH}_{UNIX}")).expect("the socket is free");
    linux.begin("echo by a path | socat -t 60 - VSOCK-CONNECT:2:2049");
    echo(unix.accept().expect("the machine connects").0);
    assert_eq!(linux.finish(), ("0".into(), "by a path".into()));
    let mut stream = UnixStream::connect(PATH).expect("the machine listens");
    stream.write_all(b"CONNECT 1024\nby a line").expect("it is sent");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(read_all(&stream), b"OK 1024\nby a line");
    linux.is_quiet();
}

/// By the lines of docs/sockets.md. `peer` stands for systemd's ssh proxy, which Debian 12 does not have.
pub fn ssh_uses_the_unix_socket(linux: &Linux) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("it is packed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    // The nested host has no users, and ssh wants to know the name of its own.
    fs::write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n").expect("it is written");
    let made = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path("key")]);
    assert_eq!(made.0, Some(0), "{made:?}");
    let key = fs::read_to_string(path("key.pub")).expect("it was made");
    linux.run("chown 0:0 / /root; mkdir -p -m 700 /etc/dropbear /root/.ssh");
    linux.run(&format!("echo '{}' >/root/.ssh/authorized_keys", key.trim()));
    linux.run("socat VSOCK-LISTEN:22,fork EXEC:'dropbear -i -R -s' & echo begun");
    drop(linux.connect(22));
    let config = format!(
        "Host vsock-mux/*\n ProxyCommand peer pass %h %p\n ProxyUseFdpass yes\n CheckHostIP no\n\
         Host guest\n ProxyCommand sh -c '(echo CONNECT %p; cat) | socat - UNIX-CONNECT:{PATH}'\n\
         Host *\n User root\n IdentityFile {}\n UserKnownHostsFile {}\n StrictHostKeyChecking accept-new\n BatchMode yes\n",
        path("key"),
        path("known"),
    );
    fs::write(path("config"), config).expect("it is written");
    for host in [&format!("vsock-mux{PATH}"), "guest"] {
        let begun = Instant::now();
        let (code, output, errors) = run("ssh", &["-F", &path("config"), host, "echo $((6 * 7)); exit 9"]);
        assert_eq!((code, &*output), (Some(9), "42\n"), "{host}: {errors}");
        println!("measured: ssh {host} in {:.1} s", begun.elapsed().as_secs_f64());
    }
    linux.is_quiet();
}

/// Both ways: the side that has connected ends its data first.
pub fn a_half_closed_echo_is_whole(linux: &Linux, mebibytes: u32) {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let block: Vec<u8> = (0..1 << 20).map(|_| next()).collect();
    let stream = linux.connect(GUEST);
    let begun = Instant::now();
    let mut sender = stream.try_clone().expect("a descriptor");
    let sent = block.clone();
    let writer = thread::spawn(move || {
        for number in 0..mebibytes {
            sender.write_all(&[number as u8]).expect("it is sent");
            sender.write_all(&sent[1..]).expect("it is sent");
        }
        sender.shutdown(Shutdown::Write).expect("it is connected");
    });
    let (mut got, mut receiver) = (vec![0; block.len()], &stream);
    for number in 0..mebibytes {
        receiver.read_exact(&mut got).unwrap_or_else(|error| panic!("MiB {number} of {mebibytes}: {error}"));
        assert!(got[0] == number as u8 && got[1..] == block[1..], "MiB {number} has come back");
    }
    assert_eq!(read_all(&stream), b"", "and nothing more");
    writer.join().expect("all is sent");
    let seconds = begun.elapsed().as_secs_f64();
    println!("measured: an echo of {mebibytes} MiB by the guest in {seconds:.1} s");
    drop(stream);
    // The guest's hash of what it sends and of what comes back, after it has ended its data: socat reads nothing while a write waits.
    let listener = linux.machine.sockets().listen(HOST).expect("nobody else listens");
    linux.run(&format!("head -c {} /dev/urandom >/tmp/data", (mebibytes / 8).max(1) << 20));
    linux.begin("sha256sum </tmp/data; socat -t 600 - VSOCK-CONNECT:2:2048 </tmp/data | sha256sum; rm /tmp/data");
    let mut stream = listener.accept_timeout(grown(SOON)).expect("the guest connects");
    let data = read_all(&stream);
    stream.write_all(&data).expect("the guest still reads");
    drop(stream);
    let (_, hashes) = linux.finish();
    let (sent, back) = hashes.split_once('\n').expect("two hashes");
    assert_eq!(sent, back);
    linux.is_quiet();
}

pub fn a_slow_reader_stops_the_writer(linux: &Linux) {
    let reader = "while [ ! -e /tmp/go ]; do sleep 1; done; wc -c >/tmp/count";
    linux.run(&format!("socat -u VSOCK-LISTEN:1025 SYSTEM:'{reader}' & echo begun"));
    let mut stream = linux.connect(1025);
    stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a limit");
    let mut sent = 0;
    let error = loop {
        match stream.write(&[7; 10_000]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // The ring, the pipe, and the buffers of both sockets.
    assert!(sent < 4 << 20, "{sent} bytes were taken");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    linux.run("touch /tmp/go");
    let is_counted = || linux.run("cat /tmp/count; true") == sent.to_string();
    assert!(holds_within(grown(SOON), is_counted), "{sent} bytes arrive");
    drop(stream);
    linux.is_quiet();
}

pub fn nobody_listens(linux: &Linux) {
    // The guest: each ends with ETIMEDOUT after two seconds.
    let begun = Instant::now();
    linux.run(
        "all=; for i in 1 2 3 4 5 6 7 8 9 10; do socat - VSOCK-CONNECT:2:9 2>>/tmp/errors </dev/null & all=\"$all $!\"; done; wait $all; true",
    );
    assert_eq!(linux.run("grep -c 'timed out' /tmp/errors"), "10");
    println!("measured: ten connections that nobody accepts in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let before = resources();
    assert_eq!(linux.run("peer flood 9 1000"), "1000 at once");
    println!("measured: 1000 connections at once that nobody accepts in {:.1} s", begun.elapsed().as_secs_f64());
    linux.is_quiet();
    let left = || resources() <= before;
    assert!(holds_within(grown(SOON), left), "{before:?} before, {:?} after: descriptors and threads", resources());
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let error = linux.machine.sockets().connect(NOBODY).expect_err("nobody listens");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            });
        }
    });
    linux.is_quiet();
    assert_eq!(exchange(linux.connect(GUEST), b"others go on".to_vec()), b"others go on");
}

/// Returns the number of descriptors and threads of this process.
fn resources() -> (usize, usize) {
    let count = |path| fs::read_dir(path).expect("proc is there").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

pub fn many_connections_leave_nothing(linux: &Linux, count: u32) {
    linux.is_quiet();
    let before = resources();
    let begun = Instant::now();
    linux.run("peer echo 1027 & echo begun");
    drop(linux.connect(1027));
    // Four at a time.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..count / 8 {
                    let text = format!("number {number}").into_bytes();
                    assert_eq!(exchange(linux.connect(1027), text.clone()), text);
                }
            });
        }
    });
    println!("measured: {} connections to the guest in {:.1} s", count / 2, begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let listener = linux.machine.sockets().listen(HOST).expect("nobody else listens");
    linux.begin(&format!("peer dial 2048 {}", count / 2));
    for _ in 0..count / 2 {
        echo(listener.accept_timeout(grown(SOON)).expect("the guest connects"));
    }
    assert_eq!(linux.finish(), ("0".into(), format!("{} connections", count / 2)));
    drop(listener);
    linux.run("killall peer");
    println!("measured: {} connections of the guest in {:.1} s", count / 2, begun.elapsed().as_secs_f64());
    linux.is_quiet();
    let left = || resources() <= before;
    assert!(holds_within(grown(SOON), left), "{before:?} before, {:?} after: descriptors and threads", resources());
}

pub fn a_pause_stops_a_connection(linux: &Linux) {
    let mut stream = linux.connect(GUEST);
    linux.machine.pause().expect("it runs");
    stream.write_all(b"waits").expect("there is room");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
    assert_eq!(stream.read(&mut [0; 9]).expect_err("the guest stands").kind(), ErrorKind::WouldBlock);
    linux.machine.resume();
    stream.set_read_timeout(Some(grown(SOON))).expect("a limit");
    assert_eq!(exchange(stream, b" no more".to_vec()), b"waits no more");
}

/// Kills all processes of these programs. One that ends by itself meanwhile is no failure.
fn kill(linux: &Linux, programs: &str) {
    linux.run(&format!("kill -9 $(pidof {programs}) 2>/dev/null; true"));
}

pub fn killed_programs_end_their_connections(linux: &Linux) {
    linux.run("socat VSOCK-LISTEN:1026 EXEC:'sleep 1000' & echo begun");
    let stream = linux.connect(1026);
    kill(linux, "socat sleep");
    assert_eq!(read_all(&stream), b"");
    drop(stream);
    linux.is_quiet();
    linux.run(ECHO);
    assert_eq!(exchange(linux.connect(GUEST), b"again".to_vec()), b"again");
}

/// Linux does not unload the module while a connection is open.
pub fn the_module_is_unloaded(linux: &Linux) {
    let stream = linux.connect(GUEST);
    linux.begin("rmmod hv_sock 2>&1");
    assert_ne!(linux.finish().0, "0", "it is in use");
    let text = b"unharmed".to_vec();
    assert_eq!(exchange(stream, text.clone()), text);
    linux.is_quiet();
    let stream = linux.connect(GUEST);
    kill(linux, "socat cat");
    assert_eq!(read_all(&stream), b"");
    // Linux keeps the module until the host has ended the connection, too.
    drop(stream);
    linux.run("until rmmod hv_sock 2>/dev/null; do sleep 1; done");
    linux.is_quiet();
    let error = linux.machine.sockets().connect(GUEST).expect_err("there is no driver");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    linux.run("modprobe hv_sock");
    linux.run(ECHO);
    assert_eq!(exchange(linux.connect(GUEST), text.clone()), text);
}

pub fn the_machine_ends_with_a_connection_open(linux: Linux) {
    let stream = linux.connect(GUEST);
    let listener = linux.machine.sockets().listen(HOST).expect("nobody else listens");
    linux.machine.stop(End::Interrupted);
    assert_eq!(listener.accept().expect_err("it has ended").kind(), ErrorKind::NotConnected);
    let Linux { machine, .. } = linux;
    machine.wait();
    assert_eq!(read_all(&stream), b"");
    assert!(!std::path::Path::new(PATH).exists());
}
