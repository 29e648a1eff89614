//! A disk in use: the disk, and the state that its users share.

use std::io;
use std::sync::Arc;

use super::Disk;
use super::cancel::Cancel;
use super::gate::Gate;
use super::perform::perform;
use super::pool::Pool;
use super::request::{Request, RequestError, Success};
use super::threads::SharedThreads;
use crate::memory::buffer::GuestBuffer;

/// Number of bytes that a request may make the host process, beyond those in its buffer, before it counts as long.
const MAX_AMPLIFIED: u64 = 64 << 10;

/// A disk in use. Any thread may use it.
pub struct Image {
    disk: Box<dyn Disk>,
    /// Keeps atomic requests atomic.
    pub(super) gate: Arc<Gate>,
    pool: Pool,
    sector: u32,
}

impl Image {
    /// Puts a disk into use, in sectors of `sector` bytes.
    pub fn new(disk: Box<dyn Disk>, sector: u32) -> Arc<Self> {
        Arc::new(Self { disk, gate: Arc::default(), pool: Pool::default(), sector })
    }

    /// Returns the disk.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Returns the size of a sector in bytes.
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// Returns the number of whole sectors, as it is now.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn sectors(&self) -> io::Result<u64> {
        Ok(self.disk.size()? / u64::from(self.sector))
    }

    /// Performs a request on a thread: one of the image's, or one for long requests. That thread then calls `then`.
    pub(super) fn perform(
        self: &Arc<Self>,
        threads: &SharedThreads,
        request: Request,
        pages: GuestBuffer,
        cancel: Cancel,
        then: impl FnOnce(Result<Success, RequestError>) + Send + 'static,
    ) {
        let image = self.clone();
        let amplified = request.operation.amplified();
        let cancel = if amplified == 0 { cancel.of_short() } else { cancel };
        let task = move || {
            let result = perform(image.disk(), &image.gate, &request, &pages, &cancel);
            // The guest may reuse its pages as soon as it is notified.
            drop((pages, image));
            then(result);
        };
        threads.run(amplified > MAX_AMPLIFIED, &self.pool, task);
    }
}
