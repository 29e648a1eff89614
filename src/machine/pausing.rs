//! Pauses and resumes a machine.
//!
//! All threads that write to guest memory stop at one [gate](crate::kvm::gate): the threads of the VPs, those of open VMBus
//! channels (after their handlers have [completed or halted](crate::vmbus::vsp::Handler::pause) their work), the engine's timers,
//! and the thread that builds the next boot of the guest. Then the guest's time stops, and the devices are paused. Control
//! messages and signals that other threads send meanwhile wait in the bus until the machine resumes.

use super::{Shared, State};
use crate::kvm::gate::Kick;

/// The reason why a machine was not paused.
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
            // Read under the lock, which a resume takes, too. Any resume from now on ends this pause.
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
        // A resume during the call may have found devices that were not paused yet.
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
        // Under the lock, so that this does not undo a later pause.
        self.gate.resume();
        drop(state);
        self.devices.resume();
    }
}

/// The kick of a thread that checks the gate regularly, so that it need not be woken.
pub(super) struct NeverAsleep;

impl Kick for NeverAsleep {
    fn kick(&self) {}
}
