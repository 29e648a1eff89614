//! The connection of the service to a running machine, for its events, its state and its meter.

use std::time::{Duration, Instant};

use serde_json::json;

use super::budget::INTERVAL;
use super::meter::Sample;
use super::supervisor::Supervisor;
use crate::cli::client::{Failure, Remote};

/// Interval at which a machine without events is asked for its state.
const REFRESH: Duration = Duration::from_secs(5);
/// Shortest interval.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);
/// Events of a machine that are passed on in a second.
const EVENTS_PER_SECOND: u32 = 20;
/// Silence after which the events of the past are over.
const SILENCE: Duration = Duration::from_millis(100);
/// Time after which what a machine has used is written down.
pub const SAVE: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Asks a machine for its state.
    ///
    /// # Errors
    /// Returns an error if it does not answer.
    pub fn refresh(&self, name: &str, remote: &Remote) -> Result<(), Failure> {
        let summary = remote.get("/").inspect_err(|failure| {
            if matches!(failure, Failure::Slow(_)) {
                self.note_silence(name);
            }
        })?;
        let is_own = self.machines().get(name).is_none_or(|machine| machine.lab.is_none());
        let sample = Sample::of(&summary, is_own);
        let _ = self.change(name, |machine| {
            if machine.process.is_some() {
                machine.summary = summary;
                machine.answers = true;
                sample.iter().for_each(|sample| machine.meter.add(sample));
                machine.is_meter_new |= sample.is_some();
            }
            Ok(())
        });
        Ok(())
    }

    /// Sends a machine its share of the memory budget, if it has changed. Returns `true` for a machine with dynamic memory.
    fn pass_share_on(&self, name: &str, remote: &Remote) -> bool {
        if self.budget.is_none() {
            return false;
        }
        let target = self.change(name, |machine| {
            let known = machine.summary["counters"]["memory"]["target-bytes"].as_u64();
            // The summary is newer than the last request.
            machine.memory_asked =
                machine.memory_target.take().filter(|target| known.is_some_and(|known| known != *target));
            Ok((known.is_some(), machine.memory_asked))
        });
        let Ok((is_dynamic, target)) = target else { return false };
        let set = target.map(|target| remote.post("/devices/memory/set", Some(&json!(target))));
        if let Some(Err(failure)) = set {
            log::debug!("{name}: its memory stays as it is: {failure}");
        }
        is_dynamic
    }

    /// Notes that the process of a machine has not answered in time.
    pub fn note_silence(&self, name: &str) {
        let _ = self.change(name, |machine| {
            machine.answers = machine.process.is_none();
            Ok(())
        });
    }

    /// Passes the events of a machine on until the connection ends.
    pub fn follow(&self, name: &str, remote: &Remote, mut is_news: bool) {
        let Ok(mut stream) = remote.events() else { return };
        let (mut second, mut passed, mut dropped) = (Instant::now(), 0, 0_u64);
        let (mut refreshed, mut is_due) = (Instant::now(), false);
        let mut saved = Instant::now();
        let mut interval = REFRESH;
        loop {
            let limit = if is_news { interval } else { SILENCE };
            let event = match stream.next(Some(Instant::now() + limit)) {
                Ok(Some(event)) => Some(event),
                Err(Failure::Slow(_)) => None,
                Ok(None) | Err(_) => return,
            };
            if second.elapsed() >= Duration::from_secs(1) {
                if dropped > 0 {
                    self.events.add(json!({ "event": "dropped", "machine": name, "count": dropped }));
                }
                (second, passed, dropped) = (Instant::now(), 0, 0);
            }
            match event {
                // What its events of the past have led to is in its state.
                Some(event) if event["event"] == "ended" || !is_news => {}
                Some(mut event) if passed < EVENTS_PER_SECOND => {
                    passed += 1;
                    event["machine"] = name.into();
                    self.events.add(event);
                }
                Some(_) => dropped += 1,
                None if !is_news => is_news = true,
                None => is_due = true,
            }
            if is_news && (is_due || refreshed.elapsed() >= REFRESH_PAUSE) {
                if self.refresh(name, remote).is_ok() {
                    interval = if self.pass_share_on(name, remote) { INTERVAL } else { REFRESH };
                }
                self.places.limit_messages(name);
                if saved.elapsed() >= SAVE {
                    self.save_meter(name);
                    saved = Instant::now();
                }
                (refreshed, is_due) = (Instant::now(), false);
            }
        }
    }

    /// Writes down what a machine has used, for the next service.
    pub fn save_meter(&self, name: &str) {
        // One writer at a time: the file gets the newest state, and the end of the service waits for it.
        let _writer = self.meter_writer.lock();
        let meter = self.machines().get_mut(name).map(|machine| {
            machine.is_meter_new = false;
            machine.meter.clone()
        });
        if let Some(Err(error)) = meter.map(|meter| self.store.save_meter(name, &meter)) {
            log::warn!("{name}: what it has used is not written down: {error}");
        }
    }

    /// Writes down what machines have used since it was last written down.
    pub fn save_meters(&self) {
        let names: Vec<_> = {
            let _writer = self.meter_writer.lock();
            let machines = self.machines();
            machines.iter().filter(|(_, machine)| machine.is_meter_new).map(|(name, _)| name.clone()).collect()
        };
        names.iter().for_each(|name| self.save_meter(name));
    }
}
