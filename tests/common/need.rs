//! The requirements of a test on the host, apart from cargo and a C compiler.
//!
//! A test that cannot run does not pass. A test with requirements begins with [`ready`]: if one is missing, the test
//! fails with a remedy. Only a reason in `VIRIDIAN_SKIP` leaves it out, and `scripts/test`, which installs
//! the programs that it can install, lists at its end every test that was left out, and why.
//!
//! ```ignore
//! if !ready(&[Need::Tool("qemu-img")]) {
//!     return;
//! }
//! ```
#![allow(dead_code)] // Each test binary uses only a part.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable with the tests to leave out and the reasons: `qemu-img: no package here; nested host: no QEMU`.
pub const SKIP: &str = "VIRIDIAN_SKIP";
/// The variable with a reason to leave out only the nested host.
pub const SKIP_NESTED: &str = "VIRIDIAN_SKIP_NESTED";
/// The variable with a file that gets a line for each test that did not run: its name, its requirement, and the reason.
const NOT_RUN: &str = "VIRIDIAN_NOT_RUN";
/// The programs and files that tests may need, with their packages: `scripts/test` installs them from the same list.
const TOOLS: &str = include_str!("tools");

/// A requirement that not every host fulfils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A program of the list `tests/common/tools`, or the path of a file there.
    Tool(&'static str),
    /// The right to create network namespaces and to mount: root, and not in most containers.
    Namespaces,
    /// `/dev/net/tun`, for taps.
    Tun,
    /// The right to use io_uring.
    IoUring,
    /// IPv6 on the loopback.
    Ipv6,
    /// A `/dev/kvm` that can be used. Without it the tests that start guests run on the nested host; left out by
    /// `scripts/lib/run-tests`, which runs none of their binaries then.
    Kvm,
    /// The nested test host: see `scripts/nested-host`.
    NestedHost,
}

impl Need {
    /// All requirements except programs.
    const OTHERS: [Self; 6] = [Self::Namespaces, Self::Tun, Self::IoUring, Self::Ipv6, Self::Kvm, Self::NestedHost];

    /// The name in `VIRIDIAN_SKIP`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tool(program) => program,
            Self::Namespaces => "namespaces",
            Self::Tun => "tun",
            Self::IoUring => "io_uring",
            Self::Ipv6 => "ipv6",
            Self::Kvm => "kvm",
            Self::NestedHost => "nested host",
        }
    }

    /// Returns what is missing, with a remedy, or `None`.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Tool(program) => {
                let package = package(program).unwrap_or_else(|| panic!("tests/common/tools has no {program}"));
                path_of(program).is_none().then(|| format!("{program} is not installed: apt-get install {package}"))
            }
            Self::Namespaces => (!succeeds("unshare", &["--net", "--mount", "true"]))
                .then(|| "network and mount namespaces cannot be made: run the test as root".to_owned()),
            Self::Tun => {
                (!Path::new("/dev/net/tun").exists()).then(|| "there is no /dev/net/tun: modprobe tun".to_owned())
            }
            Self::IoUring => io_uring::IoUring::new(8).err().map(|error| {
                format!(
                    "io_uring cannot be used: {error}; look at the host's kernel.io_uring_disabled and seccomp rules"
                )
            }),
            Self::Ipv6 => TcpListener::bind("[::1]:0").err().map(|error| {
                format!("there is no IPv6 on the loopback: {error}; sysctl net.ipv6.conf.lo.disable_ipv6=0")
            }),
            // The code that starts them reports what is missing.
            Self::Kvm | Self::NestedHost => None,
        }
    }
}

/// Returns `true` if the test can run, and `false` if it was left out for a reason.
///
/// # Panics
/// Panics if something is missing and no reason was given, or if `VIRIDIAN_SKIP` cannot be parsed.
#[track_caller]
pub fn ready(needs: &[Need]) -> bool {
    if let Some((need, reason)) = left_out(needs) {
        note(need, &reason);
        return false;
    }
    for need in needs {
        if let Some(missing) = need.missing() {
            let name = need.name();
            panic!("{missing}\nTo leave out the tests that need it, give a reason: {SKIP}='{name}: …' scripts/test");
        }
    }
    true
}

/// Returns the first of `needs` for which a reason was given.
#[track_caller]
pub fn left_out(needs: &[Need]) -> Option<(Need, String)> {
    let reasons = reasons().unwrap_or_else(|mistake| panic!("{mistake}"));
    needs.iter().find_map(|need| Some((*need, reasons.iter().find(|(name, _)| name == need.name())?.1.clone())))
}

/// Returns the names and reasons in the environment.
fn reasons() -> Result<Vec<(String, String)>, Mistake> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let mut reasons = parse(&variable(SKIP))?;
    let nested = variable(SKIP_NESTED);
    if !nested.is_empty() {
        reasons.push((Need::NestedHost.name().to_owned(), nested));
    }
    Ok(reasons)
}

/// A part of `VIRIDIAN_SKIP` with an unknown name or without a reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake(pub String);

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SKIP}: {:?} is not NAME: REASON with one of these names: ", self.0)?;
        let others = Need::OTHERS.iter().map(|need| need.name());
        let names: Vec<_> = tools().map(|(program, _)| program).chain(others).collect();
        write!(out, "{}", names.join(", "))
    }
}

pub fn parse(text: &str) -> Result<Vec<(String, String)>, Mistake> {
    text.split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let mistake = || Mistake(part.to_owned());
            let (name, reason) = part.split_once(':').ok_or_else(mistake)?;
            let (name, reason) = (name.trim(), reason.trim());
            let known = package(name).is_some() || Need::OTHERS.iter().any(|need| need.name() == name);
            if known && !reason.is_empty() { Ok((name.to_owned(), reason.to_owned())) } else { Err(mistake()) }
        })
        .collect()
}

pub fn tools() -> impl Iterator<Item = (&'static str, &'static str)> {
    TOOLS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'))
}

fn package(program: &str) -> Option<&'static str> {
    tools().find(|(name, _)| *name == program).map(|(_, package)| package)
}

/// Returns the path of an installed program, or that of a file if it is one. Many programs are outside of a user's PATH, and the shell
/// of the nested host prefers busybox's own programs unless it gets a path.
pub fn path_of(name: &str) -> Option<PathBuf> {
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_absolute() && path.is_file())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Records that the current test does not run.
#[track_caller]
fn note(need: Need, reason: &str) {
    // libtest names the thread of a test after the test, unless one thread runs all of them.
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => std::panic::Location::caller().to_string(),
    };
    let line = format!("{test}\t{}\t{reason}\n", need.name());
    match std::env::var_os(NOT_RUN) {
        Some(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of tests that did not run can be written"),
        // Write to the real standard error, because the output of tests that pass is captured.
        None => drop(write!(std::io::stderr(), "did not run: {line}")),
    }
}
