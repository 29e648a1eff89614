//! Progress on a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use viridian::process::Marked;

/// Width of the bar.
const WIDTH: usize = 24;
/// Time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);

/// A line on standard error that shows how much of something is done, if standard error is a terminal.
pub struct Bar {
    label: String,
    begun: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Bar {
    /// Creates a bar that is not drawn yet. It never is if `is_wanted` is false.
    pub fn new(label: &str, is_wanted: bool) -> Self {
        let is_shown = is_wanted && stderr().is_terminal();
        Self { label: Marked(label).to_string(), begun: Instant::now(), drawn: None, is_shown }
    }

    /// Shows what is done.
    pub fn show(&mut self, done: u64, total: u64) {
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE) || done == total;
        if self.is_shown && is_due {
            self.drawn = Some(Instant::now());
            let _ = write!(stderr(), "\r{}: {}\x1b[K", self.label, line(done, total, self.begun.elapsed()));
        }
    }
}

impl Drop for Bar {
    /// Removes the line.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: u64, time: Duration) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (part * WIDTH as f64) as usize;
    let bar = format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full));
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    let left =
        if done > 0 && done < total { format!(", {:.0} s left", (total - done) as f64 / rate) } else { String::new() };
    format!("{bar} {:.0} % of {}, {}/s{left}", part * 100.0, amount(total as f64), amount(rate))
}

/// Writes a number of bytes.
fn amount(mut bytes: f64) -> String {
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if bytes < 1024.0 {
            break;
        }
        bytes /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes:.0} B") } else { format!("{bytes:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_part_the_rate_and_the_time_that_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(line(0, 1 << 20, second), "[........................] 0 % of 1.0 MiB, 0 B/s");
        assert_eq!(
            line(512 << 10, 1 << 20, second),
            "[############............] 50 % of 1.0 MiB, 512.0 KiB/s, 1 s left"
        );
        assert_eq!(line(1 << 20, 1 << 20, 2 * second), "[########################] 100 % of 1.0 MiB, 512.0 KiB/s");
        assert_eq!(line(0, 0, Duration::ZERO), "[########################] 100 % of 0 B, 0 B/s");
        assert!(line(u64::MAX, 1, second).starts_with("[########################] 100 %"));
    }

    #[test]
    fn nothing_is_drawn_where_there_is_no_terminal() {
        let mut bar = Bar::new("web", false);
        bar.show(1, 2);
        assert!(bar.drawn.is_none());
    }
}
