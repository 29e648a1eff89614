//! A layer between the crate imago and an image's file. It turns misbehavior that a damaged image causes into an error of that
//! disk.
//!
//! Images are checked before they are opened (`check`), but the check does not cover a whole image, and the image can
//! change afterwards. This layer therefore guards four things while imago works:
//!
//! - *The header.* With a wrong refcount, imago may allocate the first cluster for a table and overwrite the header. Offset
//!   0 means "no table", so imago then allocates the table again and again, until the stack overflows. The only part of the
//!   first cluster that may be written while an image is in use is the location of the refcount table.
//! - *The stack.* imago's allocator is recursive. Each level accesses this layer, which panics at a depth that no valid image
//!   reaches; [`Guard::run`] catches the panic.
//! - *Time.* A search through refcounts can take long. It reads them through this layer, which returns an error once the
//!   request is cancelled.
//!
//! - *The end of the file.* imago reads zeros beyond it: the tables and the data that somebody has cut off would be empty, and
//!   the guest would not notice. So they are errors, and so are data that a damaged table places beyond the end.
//!
//! A panic leaves imago's tables in an unknown state, so the disk fails all requests after it.
//!
//! imago's trait has unsafe methods, so this file is one of the few that need `unsafe`.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use imago::Storage;
use imago::file::File;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;

use crate::block::cancel;
use crate::block::opened::Opened;
use crate::host::limited;
use crate::host::panics::caught;

/// Maximum stack space that imago may use, in bytes. A backing chain uses a part of it. The threads that call imago have
/// twice as much.
const MAX_STACK: usize = 1 << 20;
/// The header fields with the offset and size of the refcount table, the only ones that change while an image is in use.
const REFCOUNT_TABLE: Range<u64> = 48..60;
/// The header's byte with the bit of an image that was not closed, and the bit.
const DIRTY_BYTE: u64 = 79;
const DIRTY_BIT: u8 = 1;
/// Maximum length of the copy of the first cluster that writes are compared with. The rest of the cluster is never written.
const KEPT: u64 = 4096;
/// Number of zero bytes that are written at a time if the host cannot zero a range by itself.
const CHUNK: u64 = 64 << 10;

thread_local! {
    /// Address of this thread's stack at the call of imago.
    static STACK: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The guarded file of one image or backing file.
#[derive(Debug)]
pub(super) struct Guarded {
    file: File,
    /// The protected first cluster. `None` for raw images.
    first: Option<First>,
    /// The file reads as if the image had been closed.
    hides_dirty: bool,
    length: Length,
}

/// The known length of an image's file.
#[derive(Debug)]
struct Length {
    path: PathBuf,
    /// Another handle to the file, to ask for its length. `None` for a block device.
    file: Option<std::fs::File>,
    /// Somebody else has truncated the file. Writes may have made it longer again since, with holes.
    is_cut: AtomicBool,
}

impl Length {
    fn of(opened: &Opened) -> io::Result<Self> {
        let is_file = opened.file.metadata()?.is_file();
        let file = is_file.then(|| opened.file.try_clone()).transpose()?;
        Ok(Self { path: opened.path.clone(), file, is_cut: AtomicBool::new(false) })
    }

    /// Returns an error if the file is, or was, shorter than `known`, which it has reached before.
    fn check(&self, known: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if !self.is_cut.load(Ordering::Relaxed) {
            if file.metadata()?.len() >= known {
                return Ok(());
            }
            if !self.is_cut.swap(true, Ordering::Relaxed) {
                let path = self.path.display();
                limited::error!(
                    "{path} was truncated while it was in use, and all further requests to the disk fail; check it with: \
                     qemu-img check {path}"
                );
            }
        }
        Err(io::Error::other("the image was truncated while it was in use"))
    }
}

/// The first cluster of a qcow2 image.
#[derive(Debug)]
struct First {
    /// Size of a cluster, in bytes.
    cluster: u64,
    /// The start of the cluster. Until it is set, the cluster may be written, because imago clears unknown feature bits when
    /// it opens an image.
    kept: Arc<OnceLock<Vec<u8>>>,
}

/// Protects the first cluster once the image has been opened.
pub(super) struct Seal {
    kept: Arc<OnceLock<Vec<u8>>>,
    length: usize,
}

impl Seal {
    /// Protects the first cluster with its present content.
    ///
    /// # Errors
    /// Returns the host's error if the cluster cannot be read.
    pub fn close(self, opened: &Opened) -> io::Result<()> {
        let mut kept = vec![0; self.length];
        let read = opened.read(0, &mut kept)?;
        kept.truncate(read);
        // It is set only here.
        let _ = self.kept.set(kept);
        Ok(())
    }
}

impl Guarded {
    /// Guards the file of a raw image.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn raw(opened: &Opened) -> io::Result<Self> {
        let file = File::try_from(opened.file.try_clone()?)?;
        Ok(Self { file, first: None, hides_dirty: false, length: Length::of(opened)? })
    }

    /// Guards the file of a qcow2 image with clusters of `cluster` bytes.
    ///
    /// # Errors
    /// Returns the host's error.
    pub fn qcow2(opened: &Opened, cluster: u64) -> io::Result<(Self, Seal)> {
        let file = File::try_from(opened.file.try_clone()?)?;
        let kept = Arc::new(OnceLock::new());
        let seal = Seal { kept: kept.clone(), length: KEPT.min(cluster) as usize };
        Ok((Self { file, first: Some(First { cluster, kept }), hides_dirty: false, length: Length::of(opened)? }, seal))
    }

    /// Hides that the image was not closed, for an image that is only read: imago would refuse it. Only its refcounts may be wrong,
    /// and who reads uses none.
    pub fn hiding_dirty(mut self, hides_dirty: bool) -> Self {
        self.hides_dirty = hides_dirty;
        self
    }

    /// Refuses to read or write a file that was truncated, and to read what a table of an open qcow2 image places beyond its end.
    fn check_length(&self, read: Option<u64>) -> io::Result<()> {
        let known = self.file.size()?;
        self.length.check(known)?;
        // Data are written before a table refers to them. The last cluster may be incomplete. With direct I/O, the block around a
        // write is read first, which can be new.
        let Some(First { cluster, kept }) = &self.first else { return Ok(()) };
        match read.filter(|_| kept.get().is_some() && self.file.req_align() == 1) {
            Some(offset) if offset - offset % cluster >= known => {
                Err(io::Error::other(format!("a table refers to byte {offset}, which is beyond the end of the image")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a write that would change protected bytes of the first cluster. `copy` copies the data to be written.
    fn check_write(&self, offset: u64, length: u64, copy: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let Some(first) = self.first.as_ref().filter(|first| offset < first.cluster && length > 0) else {
            return Ok(());
        };
        let Some(kept) = first.kept.get() else { return Ok(()) };
        let refused = || io::Error::other("a write would overwrite the image's own header: its refcounts are wrong");
        let end = offset.checked_add(length).ok_or_else(refused)?;
        let known = kept.len() as u64;
        // Direct I/O writes whole blocks, which may be larger than the smallest clusters.
        if end.min(first.cluster) > known || length > KEPT {
            return Err(refused());
        }
        let mut bytes = vec![0; length as usize];
        copy(&mut bytes);
        let same = (offset..end.min(known))
            .zip(&bytes)
            .all(|(at, byte)| REFCOUNT_TABLE.contains(&at) || kept.get(at as usize) == Some(byte));
        if same { Ok(()) } else { Err(refused()) }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(formatter)
    }
}

/// Panics if imago has used more than [`MAX_STACK`].
fn check_stack() {
    let here = 0_u8;
    let used = STACK.get().map_or(0, |start| start.abs_diff((&raw const here).addr()));
    assert!(used <= MAX_STACK, "the tables of a qcow2 image contain a cycle");
}

impl Storage for Guarded {
    fn mem_align(&self) -> usize {
        check_stack();
        self.file.mem_align()
    }

    fn req_align(&self) -> usize {
        self.file.req_align()
    }

    fn zero_align(&self) -> usize {
        self.file.zero_align()
    }

    fn discard_align(&self) -> usize {
        self.file.discard_align()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    unsafe fn pure_readv(&self, bufv: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        check_stack();
        if cancel::current_is_set() {
            return Err(io::Error::other("the command was cancelled"));
        }
        self.check_length(Some(offset))?;
        if self.hides_dirty && (offset..offset.saturating_add(bufv.len())).contains(&DIRTY_BYTE) {
            return self.read_clean(bufv, offset);
        }
        // SAFETY: the caller keeps imago's contract for this method, and this type reports the file's own alignments.
        unsafe { self.file.pure_readv(bufv, offset) }
    }

    unsafe fn pure_writev(&self, bufv: IoVector<'_>, offset: u64) -> io::Result<()> {
        check_stack();
        self.check_length(None)?;
        self.check_write(offset, bufv.len(), |bytes| bufv.copy_into_slice(bytes))?;
        // SAFETY: as in `pure_readv`.
        unsafe { self.file.pure_writev(bufv, offset) }
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_length(None)?;
        self.check_write(offset, length, |_| {})?;
        // SAFETY: as in `pure_readv`.
        match unsafe { self.file.pure_write_zeroes(offset, length) } {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeros(offset, length),
            result => result,
        }
    }

    unsafe fn pure_write_allocated_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_length(None)?;
        self.check_write(offset, length, |_| {})?;
        // SAFETY: as in `pure_readv`.
        match unsafe { self.file.pure_write_allocated_zeroes(offset, length) } {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeros(offset, length),
            result => result,
        }
    }

    unsafe fn pure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length, |_| {})?;
        // SAFETY: as in `pure_readv`.
        unsafe { self.file.pure_discard(offset, length) }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }

    fn sync(&self) -> io::Result<()> {
        self.check_length(None)?;
        self.file.sync()
    }

    fn settle_writes(&self) -> io::Result<()> {
        self.file.settle_writes()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        // SAFETY: as in `pure_readv`.
        unsafe { self.file.invalidate_cache() }
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        self.file.get_storage_helper()
    }
}

impl Guarded {
    /// Reads a range that contains the dirty bit, without that bit.
    fn read_clean(&self, mut bufv: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let mut copy = crate::block::Aligned::new(bufv.len() as usize);
        let bytes = copy.bytes();
        // SAFETY: as in `pure_readv`; the buffer is aligned to 4096 bytes, and the caller has aligned the range.
        unsafe { self.file.pure_readv(IoVectorMut::from(&mut *bytes), offset) }?;
        bytes[(DIRTY_BYTE - offset) as usize] &= !DIRTY_BIT;
        bufv.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros, for hosts that cannot zero a range by themselves.
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut zeros = crate::block::Aligned::new(length.min(CHUNK) as usize);
        let mut at = 0;
        while at < length {
            let now = (length - at).min(CHUNK) as usize;
            let bytes = IoVector::from(&zeros.bytes()[..now]);
            // SAFETY: as in `pure_readv`; the buffer is aligned to 4096 bytes, and the caller has aligned the range.
            unsafe { self.file.pure_writev(bytes, offset + at) }?;
            at += now as u64;
        }
        Ok(())
    }
}

/// Catches imago's panics for one disk, and remembers them.
#[derive(Debug, Default)]
pub(super) struct Guard {
    broken: AtomicBool,
}

impl Guard {
    /// Runs a call of imago. Returns an error if it panics, or if an earlier call has panicked.
    pub fn run<R>(&self, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if self.is_broken() {
            return Err(io::Error::other("the image's driver has failed before"));
        }
        let here = 0_u8;
        let outer = STACK.replace(Some((&raw const here).addr()));
        let result = caught(call);
        STACK.set(outer);
        result.unwrap_or_else(|_| {
            self.broken.store(true, Ordering::Release);
            log::error!(
                "the driver of a qcow2 image has failed, and all further requests to the disk fail; check the image with qemu-img check"
            );
            Err(io::Error::other("the image's driver has failed"))
        })
    }

    /// Returns `true` if imago has panicked.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
