//! A unit of a controller: its SCSI state, and the image with its blocks.

use std::io;
use std::sync::Arc;

use serde_json::json;

use super::scsi::{DeviceKind, Identity, Job, LogicalUnit, Medium, Response, Sense};
use crate::block::Image;
use crate::block::cancel::Flag;
use crate::block::request::{RequestError, Success};
use crate::device::Value;
use crate::host::lock::Mutex;

/// Returns the properties of the medium that an image is.
fn medium(image: &Image) -> io::Result<Medium> {
    Ok(Medium {
        block_size: image.sector(),
        blocks: image.sectors()?,
        read_only: image.disk().read_only(),
        provisioning: image.disk().can_discard(),
    })
}

/// An image whose size is known: asking the host for it may take long.
pub struct Loaded {
    image: Arc<Image>,
    medium: Medium,
}

impl Loaded {
    /// Asks the host for the size of an image.
    ///
    /// # Errors
    /// Returns an error if the host cannot determine it.
    pub fn new(image: Arc<Image>) -> io::Result<Self> {
        Ok(Self { medium: medium(&image)?, image })
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
    /// Creates a unit with `loaded` in it. Only a drive can be empty.
    pub fn new(kind: DeviceKind, identity: Identity, loaded: Option<Loaded>) -> Arc<Self> {
        let (image, medium) = loaded.map(|Loaded { image, medium }| (image, medium)).unzip();
        let logical = LogicalUnit::new(kind, identity, medium);
        Arc::new(Self { state: Mutex::new(State { logical, image, cancel: Flag::default() }) })
    }

    /// Inserts another disc into a drive, or removes the disc. The guest is notified.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if the host cannot determine the disc's size.
    #[cfg(test)]
    pub fn change_medium(&self, image: Option<Arc<Image>>) -> io::Result<()> {
        let medium = image.as_deref().map(medium).transpose()?;
        let mut state = self.state.lock();
        state.logical.change_medium(medium);
        state.image = image;
        Ok(())
    }

    /// Enlarges the disk.
    ///
    /// # Errors
    /// Returns an error with a remedy, and changes nothing, if that is not possible.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        let image = self.state.lock().image.clone();
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "there is no medium");
        // Without the lock, so that a host that does not respond does not block users of the unit.
        image.ok_or_else(none)?.grow(size)
    }

    /// Checks whether the size of the disk has changed, and if so notifies the guest and returns `true`.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn check_size(&self) -> io::Result<bool> {
        let Some(image) = self.state.lock().image.clone() else { return Ok(false) };
        // Without the lock, so that a host that does not respond does not block users of the unit.
        let blocks = image.sectors()?;
        image.look_at_allocation();
        let mut state = self.state.lock();
        let same = state.image.as_ref().is_some_and(|now| Arc::ptr_eq(now, &image));
        if !same || state.logical.medium().is_none_or(|medium| medium.blocks == blocks) {
            return Ok(false);
        }
        state.logical.resize(blocks);
        Ok(true)
    }

    /// Resets the unit and reports `condition`. Jobs under way are cancelled.
    pub fn reset(&self, condition: Sense) {
        let mut state = self.state.lock();
        std::mem::take(&mut state.cancel).set();
        state.logical.reset(condition);
    }

    /// Cancels the unit's jobs under way. Later jobs are not affected.
    pub fn cancel_jobs(&self) {
        std::mem::take(&mut self.state.lock().cancel).set();
    }

    /// Returns the state of the unit.
    pub(super) fn inspect(&self) -> Value {
        let state = self.state.lock();
        let media = match state.logical.kind() {
            DeviceKind::Disk => "disk",
            DeviceKind::Optical => "dvd",
        };
        let medium = state.logical.medium().map(|medium| {
            json!({
                "size-bytes": medium.blocks * u64::from(medium.block_size),
                "block-bytes": medium.block_size,
                "read-only": medium.read_only,
                "discard": medium.provisioning,
            })
        });
        json!({
            "media": media,
            "medium": medium,
            "image": state.image.as_ref().map(|image| image.report()),
        })
    }

    /// Calls `use_it` with the SCSI state, the image, and the cancel flag of jobs that start now.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut LogicalUnit, Option<&Arc<Image>>, &Flag) -> R) -> R {
        let state = &mut *self.state.lock();
        use_it(&mut state.logical, state.image.as_ref(), &state.cancel)
    }

    /// Returns the response for a finished job.
    pub(super) fn finish(&self, job: &Job, result: Result<Success, RequestError>) -> Response {
        match result {
            Ok(Success::Done) => Response::GOOD,
            result => self.state.lock().logical.finish(job, result),
        }
    }
}
