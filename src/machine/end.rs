//! The end of a run, as a value, in words, and as an exit code.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::MachineError;
use super::events::Failure;
use crate::host::limits;
use crate::hyperv::crash::CrashReport;
use crate::wire::printable::Marked;

/// The end of a machine's run.
///
/// Serialized, it is a map for programs to read. `kind` is the variant's name (`powered-off`, `exited`, `reset`, `triple-fault`,
/// `crashed`, `timed-out`, `interrupted`, `terminated`, `device-failed`, `failed`), `exit-code` and `message` are always present, and
/// in addition the values of the variant: `value`, `vp`, `seconds`, or a `crash` with its `parameters` and `text`.
///
/// ```
/// use viridian::machine::End;
///
/// let end = serde_json::to_value(End::Exited(3))?;
/// assert_eq!(end["kind"], "exited");
/// assert_eq!((&end["value"], &end["exit-code"]), (&3.into(), &3.into()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub enum End {
    /// The guest turned the machine off.
    PoweredOff,
    /// The guest wrote this value to the exit port.
    Exited(u32),
    /// The guest requested a reset.
    Reset,
    /// A VP of the guest took a triple fault.
    TripleFault {
        /// The VP's index.
        vp: u32,
        /// A description of the location and the possible reason. It follows a sentence. Empty if nothing is known.
        place: String,
    },
    /// The guest's kernel reported a crash.
    Crashed(Box<CrashReport>),
    /// The time limit of the run expired.
    TimedOut(Duration),
    /// The user ended it: Ctrl-C, or the console's escape.
    Interrupted,
    /// The process was asked to terminate (TERM).
    Terminated,
    /// The process's terminal was closed, or the process received HUP.
    HungUp,
    /// The process was asked to quit (QUIT).
    Quit,
    /// A device, or other code of the library's user, failed, and the machine was built with
    /// [`end_on_failure`](super::builder::Builder::end_on_failure).
    DeviceFailed(Failure),
    /// Viridian could not continue.
    Failed(MachineError),
}

/// The exit codes that a guest cannot choose. All commands of the program use them.
pub mod code {
    /// The highest code that a guest can choose through the exit port.
    pub(crate) const GUEST_MAX: u8 = 99;
    /// The guest requested a reset.
    pub(crate) const RESET: u8 = 100;
    /// A triple fault.
    pub(crate) const TRIPLE_FAULT: u8 = 101;
    /// The guest reported a crash.
    pub(crate) const CRASH: u8 = 102;
    /// The command line, or a file that it names, is wrong.
    pub const USAGE: u8 = 2;
    /// The time limit expired.
    pub(crate) const TIMEOUT: u8 = 124;
    /// Viridian failed.
    pub const FAILED: u8 = 125;
    /// KVM cannot be used here.
    pub const NO_KVM: u8 = 126;
    /// HUP.
    pub(crate) const HUNG_UP: u8 = 129;
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// QUIT.
    pub(crate) const QUIT: u8 = 131;
    /// TERM.
    pub(crate) const TERMINATED: u8 = 143;
}

/// The exit codes, as text for the help of the program.
#[doc(hidden)]
pub const EXIT_CODES: &str = "\
Exit codes:
  0        the guest powered off, or wrote 0 to the exit port (0xf4)
  1 to 99  the value that the guest wrote to the exit port (99 for anything higher)
  100      the guest asked for a reset (see --on-reset)
  101      triple fault
  102      the guest reported a crash
  2        the command line, or a file that it names, is wrong
  124      --timeout ran out
  125      Viridian failed
  126      KVM cannot be used here (see viridian check)
  129      ended by HUP: the terminal has gone
  130      ended by Ctrl-C (INT), or Ctrl-A x
  131      ended by QUIT
  143      ended by TERM";

impl End {
    /// Returns the end of a run that was ended by this signal: INT, HUP, QUIT or TERM.
    pub fn by_signal(signal: i32) -> Self {
        match signal {
            libc::SIGINT => Self::Interrupted,
            libc::SIGHUP => Self::HungUp,
            libc::SIGQUIT => Self::Quit,
            _ => Self::Terminated,
        }
    }

    /// Returns the exit code of the process that ran the machine.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Exited(value) => u8::try_from(*value).unwrap_or(u8::MAX).min(code::GUEST_MAX),
            Self::Reset => code::RESET,
            Self::TripleFault { .. } => code::TRIPLE_FAULT,
            Self::Crashed(_) => code::CRASH,
            Self::TimedOut(_) => code::TIMEOUT,
            Self::Interrupted => code::INTERRUPTED,
            Self::Terminated => code::TERMINATED,
            Self::HungUp => code::HUNG_UP,
            Self::Quit => code::QUIT,
            Self::DeviceFailed(_) => code::FAILED,
            Self::Failed(error) => error.exit_code(),
        }
    }
}

/// The serialized form of [`End`].
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report<'a> {
    kind: &'static str,
    exit_code: u8,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vp: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crash: Option<Crash<'a>>,
}

#[derive(Serialize)]
struct Crash<'a> {
    parameters: [u64; 5],
    text: Option<&'a str>,
}

impl End {
    fn report(&self) -> Report<'_> {
        let plain = |kind| Report {
            kind,
            exit_code: self.exit_code(),
            message: self.to_string(),
            value: None,
            vp: None,
            seconds: None,
            crash: None,
        };
        match self {
            Self::PoweredOff => plain("powered-off"),
            Self::Exited(value) => Report { value: Some(*value), ..plain("exited") },
            Self::Reset => plain("reset"),
            Self::TripleFault { vp, .. } => Report { vp: Some(*vp), ..plain("triple-fault") },
            Self::Crashed(report) => {
                let crash = Crash { parameters: report.parameters, text: report.text.as_deref() };
                Report { crash: Some(crash), ..plain("crashed") }
            }
            Self::TimedOut(time) => Report { seconds: Some(time.as_secs_f64()), ..plain("timed-out") },
            Self::Interrupted => plain("interrupted"),
            Self::Terminated => plain("terminated"),
            Self::HungUp => plain("hung-up"),
            Self::Quit => plain("quit"),
            Self::DeviceFailed(_) => plain("device-failed"),
            Self::Failed(_) => plain("failed"),
        }
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.report().serialize(serializer)
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => formatter.write_str("the guest powered off"),
            Self::Exited(value) if *value > code::GUEST_MAX.into() => {
                write!(
                    formatter,
                    "the guest wrote {value} ({value:#x}) to the exit port; the exit code is {}",
                    code::GUEST_MAX
                )
            }
            Self::Exited(value) => write!(formatter, "the guest wrote {value} to the exit port"),
            Self::Reset => formatter.write_str("the guest asked for a reset"),
            Self::TripleFault { vp, place } => write!(formatter, "the guest took a triple fault on VP {vp}{place}"),
            Self::Crashed(report) => write!(formatter, "{report}"),
            Self::TimedOut(time) => write!(formatter, "the time ran out: {} s", time.as_secs_f64()),
            Self::Interrupted => formatter.write_str("ended by the user"),
            Self::Terminated => formatter.write_str("ended by a signal to terminate"),
            Self::HungUp => formatter.write_str("ended by a signal to hang up: the terminal has gone"),
            Self::Quit => formatter.write_str("ended by a signal to quit"),
            // These messages may quote text of a guest or an image.
            Self::DeviceFailed(failure) => Marked(&failure.to_string()).fmt(formatter),
            Self::Failed(error) => {
                let text = error.to_string();
                Marked(&format!("{text}{}", limits::remedy(&text))).fmt(formatter)
            }
        }
    }
}

#[cfg(test)]
#[path = "end_tests.rs"]
mod tests;
