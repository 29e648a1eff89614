//! A disk in use: the disk, and the state that its users share.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::Disk;
use super::cancel::Cancel;
use super::counters::{DiskCounters, DiskCounts};
use super::error::DiskError;
use super::gate::Gate;
use super::open::open;
use super::opened::MAX_SIZE;
use super::options::{Format, ImageOptions};
use super::perform::perform;
use super::pool::Pool;
use super::request::{Operation, Request, RequestError, Success};
use super::threads::SharedThreads;
use crate::memory::buffer::GuestBuffer;
use crate::wire::size::Size;

/// Number of bytes that a request may make the host process, beyond those in its buffer, before it counts as long.
const MAX_AMPLIFIED: u64 = 64 << 10;

/// A disk in use. Any thread may use it.
pub struct Image {
    disk: Box<dyn Disk>,
    /// Keeps atomic requests atomic.
    pub(super) gate: Arc<Gate>,
    pool: Pool,
    sector: u32,
    path: PathBuf,
    /// See [`ImageReport::allocated_bytes`]. [`UNKNOWN`] if there is none.
    allocated: AtomicU64,
    pub(super) counters: DiskCounters,
}

const UNKNOWN: u64 = u64::MAX;

/// A report about a disk in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ImageReport {
    /// The path of its image, as in its options. Empty for a disk that has no image.
    pub path: PathBuf,
    /// The format of the image, as it was found.
    pub format: Format,
    /// Size of a sector in bytes.
    pub sector: u32,
    /// `true` if the disk cannot be written.
    pub read_only: bool,
    /// The number of bytes that the host had allocated for the image file when it was last looked at, without backing files. `None` if
    /// there is no file.
    pub allocated_bytes: Option<u64>,
    /// Its counters.
    pub counters: DiskCounts,
}

impl Image {
    /// Opens the image that `options` describe, and puts it into use.
    ///
    /// # Errors
    /// Returns an error if the image cannot be used.
    pub fn open(options: &ImageOptions) -> Result<Arc<Self>, DiskError> {
        Ok(Self::with_path(open(options)?, options.sector, options.path.clone()))
    }

    /// Puts a disk without an image into use, in sectors of `sector` bytes.
    #[cfg(any(test, feature = "_internals"))]
    pub fn new(disk: Box<dyn Disk>, sector: u32) -> Arc<Self> {
        Self::with_path(disk, sector, PathBuf::new())
    }

    fn with_path(disk: Box<dyn Disk>, sector: u32, path: PathBuf) -> Arc<Self> {
        let (gate, pool, counters) = Default::default();
        let allocated = disk.allocated().unwrap_or(UNKNOWN).into();
        Arc::new(Self { disk, gate, pool, sector, path, allocated, counters })
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

    /// Enlarges the disk to whole sectors.
    ///
    /// # Errors
    /// Returns an error with a remedy, and changes nothing, if the disk cannot be written, or if it would not be larger.
    pub(crate) fn grow(&self, size: u64) -> io::Result<()> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if self.disk.read_only() {
            return Err(wrong("the disk is read-only".into()));
        }
        if !size.is_multiple_of(u64::from(self.sector)) {
            return Err(wrong(format!("{size} bytes are not a multiple of the sector's {} bytes", self.sector)));
        }
        if size > MAX_SIZE {
            return Err(wrong(format!("a disk has at most {}", Size(MAX_SIZE))));
        }
        let now = self.disk.size()?;
        if size < now {
            return Err(wrong(format!("the disk has {now} bytes; a disk in use cannot become smaller")));
        }
        self.disk.grow(size).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => wrong(format!(
                "{} is no raw image file; grow it by other means: what is no qcow2 image is noticed by the guest",
                self.path.display()
            )),
            _ => io::Error::new(error.kind(), format!("{}: {error}", self.path.display())),
        })
    }

    /// Asks the host how much it has allocated for the image, for the next [`report`](Self::report).
    pub(crate) fn look_at_allocation(&self) {
        self.allocated.store(self.disk.allocated().unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Returns its current state, without asking the host.
    pub(crate) fn report(&self) -> ImageReport {
        ImageReport {
            path: self.path.clone(),
            format: self.disk.format(),
            sector: self.sector,
            read_only: self.disk.read_only(),
            allocated_bytes: Some(self.allocated.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN),
            counters: self.counters.snapshot(),
        }
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
        let amplified = match &request.operation {
            Operation::Read(extent) => self.disk.amplified(*extent),
            operation => operation.amplified(),
        };
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

impl Drop for Image {
    fn drop(&mut self) {
        log::debug!("a disk is closed: {:?}", self.report());
    }
}
