//! Rate limits for log lines that a guest, a peer or an image can cause.
//!
//! [`warn!`], [`error!`] and [`info!`] here are those of the `log` crate with a limit: each call site prints [`BURST`]
//! lines and then one every [`INTERVAL`], which includes the number of suppressed lines. With `of: name`, each machine
//! has its own limits, so that a guest cannot use up those of its neighbours. Otherwise the limit is that of the
//! process. [`finish`] prints the number of suppressed lines when a machine ends.
//!
//! Limits belong to the call site and not to a device or a channel, which a guest could create repeatedly. Lines at
//! `debug` and `trace` are not limited, because they are only printed on request.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::time::{Duration, Instant};

use crate::host::lock::{Mutex, MutexGuard};
use log::Level;

/// Number of lines that a call site prints without delay, for each machine.
pub(crate) const BURST: u32 = 5;
/// Interval between further lines.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);
/// Number of machines with their own limits. Further machines share one, so that this memory is bounded.
const MAX_MACHINES: usize = 256;

/// All call sites that have printed something.
static SITES: Mutex<Vec<&'static Site>> = Mutex::new(Vec::new());

/// The decision whether a line is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The line is printed. `left_out` lines were suppressed since the previous one.
    Print {
        left_out: u64,
        last: bool,
    },
    LeaveOut,
}

/// A bucket of lines that may be printed.
#[derive(Debug)]
struct Bucket {
    lines: u32,
    /// The time when the bucket was full, or was last filled by a line.
    filled: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { lines: BURST, filled: now, left_out: 0 }
    }

    /// Decides about a line at this time.
    fn judge(&mut self, now: Instant) -> Verdict {
        let intervals = now.saturating_duration_since(self.filled).as_secs() / INTERVAL.as_secs();
        let missing = u64::from(BURST - self.lines);
        if intervals >= missing {
            (self.lines, self.filled) = (BURST, now);
        } else {
            // Fewer than the burst, so both fit.
            self.lines += intervals as u32;
            self.filled += INTERVAL * intervals as u32;
        }
        if self.lines == 0 {
            self.left_out = self.left_out.saturating_add(1);
            return Verdict::LeaveOut;
        }
        self.lines -= 1;
        Verdict::Print { left_out: std::mem::take(&mut self.left_out), last: self.lines == 0 }
    }
}

/// The state of one call site, created by the macros.
#[derive(Debug)]
pub(crate) struct Site {
    level: Level,
    target: &'static str,
    machines: Mutex<Machines>,
}

#[derive(Debug)]
struct Machines {
    buckets: BTreeMap<String, Bucket>,
    /// Whether the call site is in [`SITES`].
    is_listed: bool,
}

impl Site {
    pub(crate) const fn new(level: Level, target: &'static str) -> Self {
        Self { level, target, machines: Mutex::new(Machines { buckets: BTreeMap::new(), is_listed: false }) }
    }

    /// Prints or counts a line. Without a name for `machine`, the limit is that of the process.
    pub(crate) fn log(&'static self, machine: &str, line: Arguments<'_>) {
        match self.judge(machine, Instant::now()) {
            Verdict::LeaveOut => {}
            Verdict::Print { left_out: 0, last: false } => self.print(line),
            Verdict::Print { left_out: 0, last: true } => {
                self.print(format_args!(
                    "{line} (from now on, lines like this one are counted, and printed once a minute)"
                ));
            }
            Verdict::Print { left_out, .. } => {
                self.print(format_args!("{line} ({left_out} lines like this one were left out before it)"));
            }
        }
    }

    /// Returns `true` if other code may print one more line for the process.
    pub(crate) fn allows_one_more(&'static self) -> bool {
        self.judge("", Instant::now()) != Verdict::LeaveOut
    }

    fn print(&self, line: Arguments<'_>) {
        log::log!(target: self.target, self.level, "{line}");
    }

    fn judge(&'static self, machine: &str, now: Instant) -> Verdict {
        let mut machines = self.machines.lock();
        let Machines { buckets, is_listed } = &mut *machines;
        let list = !std::mem::replace(is_listed, true);
        let machine = if buckets.len() < MAX_MACHINES || buckets.contains_key(machine) { machine } else { "" };
        let verdict = match buckets.get_mut(machine) {
            Some(bucket) => bucket.judge(now),
            None => buckets.entry(machine.to_owned()).or_insert_with(|| Bucket::new(now)).judge(now),
        };
        drop(machines);
        if list {
            sites().push(self);
        }
        verdict
    }

    /// Removes a machine, and returns the number of its suppressed lines.
    fn finish(&self, machine: &str) -> u64 {
        self.machines.lock().buckets.remove(machine).map_or(0, |bucket| bucket.left_out)
    }
}

fn sites() -> MutexGuard<'static, Vec<&'static Site>> {
    SITES.lock()
}

/// Prints the number of suppressed lines of a machine that has ended, and removes it.
pub(crate) fn finish(machine: &str) {
    let all: Vec<_> = sites().clone();
    for level in [Level::Error, Level::Warn, Level::Info] {
        let of_level = all.iter().filter(|site| site.level == level);
        let left_out = of_level.map(|site| site.finish(machine)).fold(0, u64::saturating_add);
        if left_out > 0 {
            log::log!(level, "{machine}: {left_out} more lines like the ones above were left out");
        }
    }
}

/// Logs at a level, with a limit; see the module's description.
macro_rules! limited {
    ($level:ident, of: $machine:expr, $($line:tt)+) => {{
        use $crate::host::limited::Site;
        static SITE: Site = Site::new(::log::Level::$level, module_path!());
        if ::log::log_enabled!(::log::Level::$level) {
            SITE.log($machine, format_args!($($line)+));
        }
    }};
    ($level:ident, $($line:tt)+) => { $crate::host::limited::limited!($level, of: "", $($line)+) };
}

/// [`log::warn!`] with a limit.
macro_rules! warn_ {
    ($($line:tt)+) => { $crate::host::limited::limited!(Warn, $($line)+) };
}

/// [`log::error!`] with a limit.
macro_rules! error_ {
    ($($line:tt)+) => { $crate::host::limited::limited!(Error, $($line)+) };
}

/// [`log::info!`] with a limit.
macro_rules! info_ {
    ($($line:tt)+) => { $crate::host::limited::limited!(Info, $($line)+) };
}

pub(crate) use {error_ as error, info_ as info, limited, warn_ as warn};

#[cfg(test)]
#[path = "limited_tests.rs"]
mod tests;
