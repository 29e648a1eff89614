//! A unit of a controller: its SCSI state, and the image with its blocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::controller::Controller;
use super::scsi::{DeviceKind, Failure, Finished, Identity, Job, LogicalUnit, Medium, Response, Sense};
use crate::block::Disk;
use crate::block::cancel::{Cancel, Flag};
use crate::block::gate::Gate;
use crate::block::pool::Pool;
use crate::memory::buffer::GuestBuffer;
use crate::vsp::storage::perform;

/// Number of bytes that a command may make the host process, beyond those that it transfers, before it is moved to the
/// lane.
const MAX_AMPLIFIED: u64 = 64 << 10;

/// A disk in use, with the state that its users share.
pub struct Image {
    disk: Box<dyn Disk>,
    gate: Arc<Gate>,
    pool: Pool,
    block_size: u32,
}

impl Image {
    /// Creates an image from a disk, with blocks of `block_size` bytes.
    pub fn new(disk: Box<dyn Disk>, block_size: u32) -> Arc<Self> {
        Arc::new(Self { disk, gate: Arc::default(), pool: Pool::default(), block_size })
    }

    /// Returns the disk.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Returns the gate that makes atomic commands atomic.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Performs a job on one of the image's threads, or in the controller's lane if it causes much work. That thread
    /// then calls `then`.
    pub fn perform(
        self: &Arc<Self>,
        controller: &Controller,
        job: Job,
        pages: GuestBuffer,
        cancel: Cancel,
        then: impl FnOnce(Result<Finished, Failure>) + Send + 'static,
    ) {
        let image = self.clone();
        let amplified = job.action.amplified();
        let cancel = if amplified == 0 { cancel.of_short() } else { cancel };
        let task = move || {
            let result = perform::perform(image.disk(), &image.gate, &job, &pages, &cancel);
            // The guest may reuse its pages as soon as it is notified.
            drop((pages, image));
            then(result);
        };
        if amplified > MAX_AMPLIFIED {
            controller.lane().run(task);
        } else {
            self.pool.run_within(Some(controller.budget()), task);
        }
    }

    fn blocks(&self) -> std::io::Result<u64> {
        Ok(self.disk.size()? / u64::from(self.block_size))
    }

    fn medium(&self) -> std::io::Result<Medium> {
        Ok(Medium {
            block_size: self.block_size,
            blocks: self.blocks()?,
            read_only: self.disk.read_only(),
            provisioning: self.disk.can_discard(),
        })
    }
}

struct State {
    logical: LogicalUnit,
    image: Option<Arc<Image>>,
    /// The cancel flag of jobs that start now.
    cancel: Flag,
}

/// A unit. Any thread may use it.
pub struct Unit {
    state: Mutex<State>,
}

impl Unit {
    /// Creates a unit with `image` in it. Only a drive can be empty.
    ///
    /// # Errors
    /// Returns an error if the host cannot determine the disk's size.
    pub fn new(kind: DeviceKind, identity: Identity, image: Option<Arc<Image>>) -> std::io::Result<Arc<Self>> {
        let medium = image.as_ref().map(|image| image.medium()).transpose()?;
        let logical = LogicalUnit::new(kind, identity, medium);
        Ok(Arc::new(Self { state: Mutex::new(State { logical, image, cancel: Flag::default() }) }))
    }

    /// Inserts another disc into a drive, or removes the disc. The guest is notified.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if the host cannot determine the disc's size.
    #[cfg(test)]
    pub fn change_medium(&self, image: Option<Arc<Image>>) -> std::io::Result<()> {
        let medium = image.as_ref().map(|image| image.medium()).transpose()?;
        let mut state = self.lock();
        state.logical.change_medium(medium);
        state.image = image;
        Ok(())
    }

    /// Checks whether the size of the disk has changed, and if so notifies the guest and returns `true`.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn check_size(&self) -> std::io::Result<bool> {
        let Some(image) = self.lock().image.clone() else { return Ok(false) };
        // Without the lock, so that a host that does not respond does not block users of the unit.
        let blocks = image.blocks()?;
        let mut state = self.lock();
        let same = state.image.as_ref().is_some_and(|now| Arc::ptr_eq(now, &image));
        if !same || state.logical.medium().is_none_or(|medium| medium.blocks == blocks) {
            return Ok(false);
        }
        state.logical.resize(blocks);
        Ok(true)
    }

    /// Resets the unit and reports `condition`. Jobs under way are cancelled.
    pub fn reset(&self, condition: Sense) {
        let mut state = self.lock();
        std::mem::take(&mut state.cancel).set();
        state.logical.reset(condition);
    }

    /// Cancels the unit's jobs under way. Later jobs are not affected.
    pub fn cancel_jobs(&self) {
        std::mem::take(&mut self.lock().cancel).set();
    }

    /// Calls `use_it` with the SCSI state, the image, and the cancel flag of jobs that start now.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut LogicalUnit, Option<&Arc<Image>>, &Flag) -> R) -> R {
        let state = &mut *self.lock();
        use_it(&mut state.logical, state.image.as_ref(), &state.cancel)
    }

    /// Returns the response for a finished job.
    pub(super) fn finish(&self, job: &Job, result: Result<Finished, Failure>) -> Response {
        match result {
            Ok(Finished::Done) => Response::GOOD,
            result => self.lock().logical.finish(job, result),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
