//! A unit of a controller: the SCSI side of it, and the image that its blocks lie in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::engine::gate::Gate;
use super::engine::perform;
use super::engine::pool::Pool;
use super::scsi::{DeviceKind, Failure, Finished, Identity, Job, LogicalUnit, Medium, Response};
use crate::vmbus::buffer::GuestBuffer;

/// A disk in use: what all who work on it share.
pub struct Image {
    disk: Box<dyn Disk>,
    gate: Arc<Gate>,
    pool: Pool,
    block_size: u32,
}

impl Image {
    /// Takes a disk into use, with blocks of `block_size` bytes.
    pub fn new(disk: Box<dyn Disk>, block_size: u32) -> Arc<Self> {
        Arc::new(Self { disk, gate: Arc::default(), pool: Pool::default(), block_size })
    }

    /// The disk.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// What keeps atomic commands whole.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Does a job on one of the image's threads, and has that thread call `then`.
    pub fn perform(
        self: &Arc<Self>,
        job: Job,
        pages: GuestBuffer,
        then: impl FnOnce(Result<Finished, Failure>) + Send + 'static,
    ) {
        let image = self.clone();
        self.pool.run(move || {
            let result = perform(image.disk(), &image.gate, &job, &pages);
            // The guest may have its pages back as soon as it is told.
            drop((pages, image));
            then(result);
        });
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
}

/// A unit. Any thread may use it.
pub struct Unit {
    state: Mutex<State>,
}

impl Unit {
    /// A unit with `image` in it. Only a drive can be empty.
    ///
    /// # Errors
    /// What the host says when asked for the disk's size.
    pub fn new(kind: DeviceKind, identity: Identity, image: Option<Arc<Image>>) -> std::io::Result<Arc<Self>> {
        let medium = image.as_ref().map(|image| image.medium()).transpose()?;
        let logical = LogicalUnit::new(kind, identity, medium);
        Ok(Arc::new(Self { state: Mutex::new(State { logical, image }) }))
    }

    /// Puts another disc into a drive, or takes the disc away. The guest learns of it.
    ///
    /// # Errors
    /// What the host says when asked for the disc's size; then nothing has changed.
    pub fn change_medium(&self, image: Option<Arc<Image>>) -> std::io::Result<()> {
        let medium = image.as_ref().map(|image| image.medium()).transpose()?;
        let mut state = self.lock();
        state.logical.change_medium(medium);
        state.image = image;
        Ok(())
    }

    /// Looks whether the disk has another size than before, and has the guest learn of it. True if it has.
    ///
    /// # Errors
    /// What the host says.
    pub fn check_size(&self) -> std::io::Result<bool> {
        let mut state = self.lock();
        let Some(image) = &state.image else { return Ok(false) };
        let blocks = image.blocks()?;
        let changed = state.logical.medium().is_some_and(|medium| medium.blocks != blocks);
        state.logical.resize(blocks);
        Ok(changed)
    }

    /// Uses the SCSI side, and shows the image that goes with it.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut LogicalUnit, Option<&Arc<Image>>) -> R) -> R {
        let state = &mut *self.lock();
        use_it(&mut state.logical, state.image.as_ref())
    }

    /// What the initiator is told of a job that has ended.
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
