//! The programs that fetch a kernel. A signal that ends this program ends them, too.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cli::serve::lock::Mutex;

/// The running children of this program that it ends before it ends itself.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// A process id could be another process's by now. These cannot.
    running: Vec<(u64, OwnedFd)>,
    started: u64,
    is_over: bool,
}

impl Children {
    /// Runs a program to its end, without input.
    ///
    /// # Errors
    /// Returns an error if it cannot be started, or if this program ends.
    pub fn run(&self, command: &mut Command) -> io::Result<Output> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, number) = {
            let mut state = self.0.lock();
            if state.is_over {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut child = command.spawn()?;
            match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
                Ok(process) => {
                    state.started += 1;
                    let number = state.started;
                    state.running.push((number, process));
                    (child, number)
                }
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error.into());
                }
            }
        };
        let output = child.wait_with_output();
        let mut state = self.0.lock();
        state.running.retain(|(other, _)| *other != number);
        if state.is_over { Err(io::ErrorKind::Interrupted.into()) } else { output }
    }

    /// Ends all that run, and lets no other start.
    pub fn end_all(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        for (_, process) in &state.running {
            // It has ended already, or it is not this user's any more.
            let _ = pidfd_send_signal(process, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_program_runs_to_its_end() {
        let output =
            Children::default().run(Command::new("sh").args(["-c", "echo out; echo error >&2; exit 3"])).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout, output.stderr),
            (Some(3), b"out\n".to_vec(), b"error\n".to_vec())
        );
    }

    #[test]
    fn programs_end_with_this_one_and_no_other_starts() {
        let children = Children::default();
        let sleeper = {
            let children = children.clone();
            thread::spawn(move || children.run(Command::new("sleep").arg("1000")))
        };
        while children.0.lock().running.is_empty() && !sleeper.is_finished() {
            thread::yield_now();
        }
        children.end_all();
        assert_eq!(sleeper.join().unwrap().unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(children.run(&mut Command::new("true")).is_err());
    }
}
