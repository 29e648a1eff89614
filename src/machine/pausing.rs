//! Pausing a machine: which threads stop, in which order, and how they go on.
//!
//! Everything that writes to guest memory stops at one [gate](crate::kvm::gate): the VPs' threads, those of open VMBus channels
//! (after their handlers have [brought to an end or to a halt](crate::vmbus::vsp::Handler::pause) what they had begun), the
//! engine's timers, and the thread that builds the next life of the guest. Then the guest's time stops. Control messages and signals
//! that other threads send meanwhile wait in the bus until the machine goes on.

use super::{Shared, State};
use crate::kvm::gate::Kick;

/// Why a machine is not paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// The caller is a thread of the machine: a handler of a hypercall, a port or a VMBus channel.
    #[error(
        "a machine cannot be paused by its own handlers: the pause would wait for the handler; ask another thread to do it"
    )]
    FromWithin,
    /// Another thread resumed the machine before everything had stopped.
    #[error("the machine was resumed before it had stopped")]
    Resumed,
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
}

impl State {
    pub(super) fn stop_time(&mut self) {
        if !std::mem::replace(&mut self.time_stands, true) {
            self.engine.iter().for_each(|engine| engine.pause());
        }
    }

    pub(super) fn restart_time(&mut self) {
        if std::mem::replace(&mut self.time_stands, false) {
            self.engine.iter().for_each(|engine| engine.resume());
        }
    }
}

impl Shared {
    pub(super) fn pause(&self) -> Result<(), PauseError> {
        if self.gate.is_own_thread() {
            return Err(PauseError::FromWithin);
        }
        let _turn = self.pausing.lock();
        let resumes = {
            let mut state = self.state();
            state.paused = true;
            // Under the lock, as the resume is: one that comes from now on ends this pause.
            self.gate.resumes()
        };
        let is_complete = self.gate.pause_since(resumes);
        let mut state = self.state();
        if !state.paused {
            return Err(PauseError::Resumed);
        }
        if !is_complete {
            return Err(PauseError::Ended);
        }
        state.stop_time();
        drop(state);
        self.devices.pause();
        // A resume that came meanwhile may have found devices that were not paused yet.
        if self.state().paused {
            return Ok(());
        }
        self.devices.resume();
        Err(PauseError::Resumed)
    }

    pub(super) fn resume(&self) {
        let mut state = self.state();
        state.paused = false;
        state.restart_time();
        // Under the lock: a pause that comes now is not undone.
        self.gate.resume();
        drop(state);
        self.devices.resume();
    }
}

/// A thread that looks at the gate by itself.
pub(super) struct NeverAsleep;

impl Kick for NeverAsleep {
    fn kick(&self) {}
}
