use super::*;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;

/// Returns a terminal that is not a controlling terminal, and its master.
pub fn terminal() -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    (master, slave.unwrap().into())
}

/// Returns `true` if the terminal has no echo, passes on each key, and interprets Ctrl-C but not Ctrl-Z.
pub fn is_raw(terminal: impl AsFd) -> bool {
    let settings = tcgetattr(terminal).unwrap();
    let modes = settings.local_modes;
    let raw = !modes.intersects(LocalModes::ICANON | LocalModes::ECHO);
    assert_eq!(raw, settings.special_codes[SpecialCodeIndex::VSUSP] == 0);
    assert!(modes.contains(LocalModes::ISIG));
    assert_eq!(settings.special_codes[SpecialCodeIndex::VINTR], 3);
    raw
}

#[test]
fn dropping_the_guard_restores_the_settings() {
    let (_master, slave) = terminal();
    let before = format!("{:?}", tcgetattr(&slave).unwrap());
    let raw = RawMode::enter(slave.as_fd(), Interrupt::Signal).unwrap();
    assert!(is_raw(&slave));
    drop(raw);
    assert_eq!(format!("{:?}", tcgetattr(&slave).unwrap()), before);
}

#[test]
fn two_guards_restore_the_settings_that_the_first_one_found() {
    let (_master, slave) = terminal();
    let first = RawMode::enter(slave.as_fd(), Interrupt::Signal).unwrap();
    let second = RawMode::enter(slave.as_fd(), Interrupt::Signal).unwrap();
    drop(first);
    assert!(is_raw(&slave));
    drop(second);
    assert!(!is_raw(&slave));
}

#[test]
fn a_file_that_is_not_a_terminal_is_not_changed() {
    let null = OpenOptions::new().read(true).open("/dev/null").unwrap();
    assert_eq!(RawMode::enter(null.as_fd(), Interrupt::Signal).unwrap_err(), NotRaw::NotATerminal);
}

#[test]
fn settings_that_another_process_has_changed_are_not_restored() {
    let (_master, slave) = terminal();
    let raw = RawMode::enter(slave.as_fd(), Interrupt::Signal).unwrap();
    let mut theirs = tcgetattr(&slave).unwrap();
    theirs.local_modes |= LocalModes::ICANON;
    tcsetattr(&slave, OptionalActions::Now, &theirs).unwrap();
    drop(raw);
    let now = tcgetattr(&slave).unwrap();
    assert!(now.local_modes.contains(LocalModes::ICANON) && !now.local_modes.contains(LocalModes::ECHO));
}

#[test]
fn ctrl_c_can_be_a_key() {
    let (master, slave) = terminal();
    let before = format!("{:?}", tcgetattr(&slave).unwrap());
    let raw = RawMode::enter(slave.as_fd(), Interrupt::Key).unwrap();
    rustix::io::write(&master, b"\x03\x1a\r").unwrap();
    let mut typed = [0; 3];
    assert_eq!(rustix::io::read(&slave, &mut typed), Ok(3));
    assert_eq!(&typed, b"\x03\x1a\r");
    drop(raw);
    assert_eq!(format!("{:?}", tcgetattr(&slave).unwrap()), before);
}
