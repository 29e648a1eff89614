//! The run of a machine: the lives of its guest, and how it ends.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::{End, MachineError, Shared, State, incarnation, over, pausing};
use crate::config::OnReset;
use crate::console::ConsoleEvent;
use crate::engine::Engine;
use crate::host::limited;
use crate::host::lock::MutexGuard;
use crate::hyperv::features::EngineKind;

impl Shared {
    /// The whole run, on VP 0's thread: one life of the guest, and another after each reset where that is wanted.
    pub(super) fn live(self: Arc<Self>, started: mpsc::SyncSender<()>) -> End {
        // Also if this thread panics, everybody who waits for the end is woken.
        let _over = over::Over(&self);
        // A pause waits for what is written to the memory of a new life.
        let mut building = self.gate.join(Box::new(pausing::NeverAsleep));
        loop {
            if let Err(error) = incarnation::live(&self, building, &started) {
                self.end_life(End::Failed(error));
            }
            // Before the gate is reopened: a pause that waits for the next life waits until it is built.
            building = self.gate.join(Box::new(pausing::NeverAsleep));
            if let Some(end) = self.end_or_restart() {
                drop(building);
                self.gate.finish();
                return self.finish_console(end);
            }
            let name = &self.config.name;
            self.devices.reset();
            limited::info!(of: name, "{name}: the guest asked for a reset: it starts again");
            self.announcer.restarted();
        }
    }

    /// Returns the end of the run, or `None` after it has opened the gate for another life.
    fn end_or_restart(&self) -> Option<End> {
        let mut state = self.state();
        let end = state.end.take();
        if matches!(end, Some(End::Reset)) && self.restarts(&state) {
            state.restarts = false;
            state.restarted += 1;
            self.gate.reopen();
            if state.paused {
                self.gate.close();
            }
            return None;
        }
        end.or_else(|| Some(End::Failed(MachineError::Defect("the VPs ended without a reason".into()))))
    }

    /// A life's VPs are about to run, on this engine.
    pub(super) fn begin(&self, engine: Option<Arc<dyn Engine>>, kind: EngineKind) {
        let mut state = self.state();
        state.engine_kind = engine.as_ref().map(|_| kind);
        (state.engine, state.time_stands) = (engine, false);
        if state.paused {
            state.stop_time();
        }
    }

    /// The engine's life is over.
    pub(super) fn end_engine(&self) {
        let engine = self.state().engine.take();
        // Without the lock: its threads end here, and they may want it.
        engine.inspect(|engine| engine.shut_down());
    }

    /// Ends the guest's present life. The first end counts.
    pub(super) fn end_life(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        self.gate.stop();
    }

    /// Ends the run, and not only the guest's present life, from a device or a handler.
    pub(super) fn end_run(&self, end: End) {
        self.set_end(&mut self.state(), end);
    }

    fn set_end(&self, state: &mut State, end: End) {
        match state.end {
            Some(End::Reset) if self.restarts(state) => state.end = Some(end),
            _ => drop(state.end.get_or_insert(end)),
        }
        self.gate.stop();
    }

    /// Returns `true` if a reset starts the guest again.
    fn restarts(&self, state: &State) -> bool {
        state.restarts || self.config.on_reset == OnReset::Restart
    }

    /// Resets the machine from outside.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        // An end that has come already counts.
        if state.end.is_none() {
            (state.end, state.restarts) = (Some(End::Reset), true);
            self.gate.stop();
        }
    }

    /// Ends the run from outside.
    pub(super) fn stop(&self, end: End) {
        let mut state = self.state();
        self.set_end(&mut state, end);
        if std::mem::replace(&mut state.stopped, true) {
            self.console.get().inspect(|console| console.cancel());
        }
    }

    pub(super) fn has_timed_out(&self) -> bool {
        matches!(self.state().end, Some(End::TimedOut(_)))
    }

    /// Returns `true` if somebody outside ended the run. The log then says more.
    pub(super) fn was_ended_by_a_signal(&self) -> bool {
        matches!(self.state().end, Some(End::Interrupted | End::Terminated))
    }

    /// Returns `true` if the machine is gone, or will be within this time.
    pub(super) fn is_over_within(&self, time: Duration) -> bool {
        let deadline = Instant::now().checked_add(time);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let Ok(is_over) = self.ended.is_signalled_within(left) {
                return is_over;
            } // interrupted
        }
    }

    /// Waits for the last output to reach its reader. A run that was ended from outside waits a moment only.
    fn finish_console(&self, end: End) -> End {
        const PATIENCE: Duration = Duration::from_millis(250);
        let outside = self.state().stopped;
        let deadline = outside.then(|| Instant::now() + PATIENCE);
        let written = self.console.get().is_none_or(|console| console.finish(deadline));
        self.tracer.finish();
        if !written && outside {
            log::warn!("{}: the last output of the guest was not read, and is lost", self.config.name);
        }
        // A write that fails after the guest's end spoils the end: the output is not complete.
        let end = match self.state().end.take() {
            Some(failure @ End::Failed(_)) => failure,
            _ => end,
        };
        self.console.get().inspect(|console| console.end(&end.to_string()));
        end
    }

    /// Handles an event of the console, also while [`finish_console`](Self::finish_console) waits for it.
    pub(super) fn console_event(&self, event: ConsoleEvent) {
        match event {
            ConsoleEvent::Quit => self.stop(End::Interrupted),
            ConsoleEvent::Failed(error) => self.end_life(End::Failed(error.into())),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
