//! What stands between imago and the file: whatever an image makes imago do, this turns into an error of that disk.
//!
//! Images are checked before they are opened (`check`), but not all of an image can be looked at then, and it can change
//! afterwards. So three things are guarded while imago works:
//!
//! - *The header.* A bad refcount lets imago allocate the first cluster, and a table there destroys the header; as offset
//!   0 stands for "no table", imago then allocates the table again, and again, until the stack is at its end. Nothing
//!   but the place of the refcount table is ever written to the first cluster of an image in use.
//! - *The stack.* imago's allocator calls itself. It looks at the storage at each turn, and there a depth that no sound image
//!   reaches becomes a panic, which [`Guard::run`] catches.
//! - *Time.* A search through refcounts can be long. It reads them from here, and ends when its job is cancelled.
//!
//! A panic leaves imago's tables in an unknown state, so it is the last thing that imago does for that disk.
//!
//! imago's trait has unsafe methods, which are passed on here. One of the few places that need `unsafe`.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use imago::Storage;
use imago::file::File;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;

use crate::block::cancel;
use crate::block::opened::Opened;
use crate::host::panics::caught;

/// How much stack imago may use. A chain of images uses a part of it, and the threads that call imago have twice as much.
const MAX_STACK: usize = 1 << 20;
/// Where a header says where the refcount table is, and how large: all of it that changes while an image is in use.
const REFCOUNT_TABLE: Range<u64> = 48..60;
/// How much of the first cluster is kept to compare with. What lies behind it is never written.
const KEPT: u64 = 4096;
/// How much is written at a time where the host has no better way to make zeros.
const CHUNK: u64 = 64 << 10;

thread_local! {
    /// Where this thread's stack was when it called imago.
    static STACK: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The guard of one image, or of one file below it.
#[derive(Debug)]
pub(super) struct Guarded {
    file: File,
    /// The first cluster, once it may not be written any more.
    first: Option<First>,
}

#[derive(Debug)]
struct First {
    cluster: u64,
    /// What it starts with. It may be written until this is known: at opening, imago clears feature bits that it does
    /// not know.
    kept: Arc<OnceLock<Vec<u8>>>,
}

/// Ends the time in which the first cluster may be written.
pub(super) struct Seal {
    kept: Arc<OnceLock<Vec<u8>>>,
    length: usize,
}

impl Seal {
    /// Keeps what the first cluster starts with now.
    ///
    /// # Errors
    /// The host cannot read it.
    pub fn close(self, opened: &Opened) -> io::Result<()> {
        let mut kept = vec![0; self.length];
        let read = opened.read(0, &mut kept)?;
        kept.truncate(read);
        // Nobody else sets it.
        let _ = self.kept.set(kept);
        Ok(())
    }
}

impl Guarded {
    /// The file of a raw image.
    pub fn raw(file: File) -> Self {
        Self { file, first: None }
    }

    /// The file of a qcow2 image with clusters of that size.
    pub fn qcow2(file: File, cluster: u64) -> (Self, Seal) {
        let kept = Arc::new(OnceLock::new());
        let seal = Seal { kept: kept.clone(), length: KEPT.min(cluster) as usize };
        (Self { file, first: Some(First { cluster, kept }) }, seal)
    }

    /// Refuses a write to the first cluster that changes more than it may.
    fn check_write(&self, offset: u64, length: u64, copy: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let Some(first) = self.first.as_ref().filter(|first| offset < first.cluster && length > 0) else {
            return Ok(());
        };
        let Some(kept) = first.kept.get() else { return Ok(()) };
        let refused = || io::Error::other("the image would have its own header overwritten: its refcounts are wrong");
        let end = offset.checked_add(length).ok_or_else(refused)?;
        let known = kept.len() as u64;
        // With direct I/O, whole blocks are written, which may be larger than the smallest clusters.
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

/// Panics if imago has used too much of the stack.
fn check_stack() {
    let here = 0_u8;
    let used = STACK.get().map_or(0, |start| start.abs_diff((&raw const here).addr()));
    assert!(used <= MAX_STACK, "the tables of a qcow2 image lead round in circles");
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
        // SAFETY: the caller keeps imago's contract for this method, and the file's alignments are told as they are.
        unsafe { self.file.pure_readv(bufv, offset) }
    }

    unsafe fn pure_writev(&self, bufv: IoVector<'_>, offset: u64) -> io::Result<()> {
        check_stack();
        self.check_write(offset, bufv.len(), |bytes| bufv.copy_into_slice(bytes))?;
        // SAFETY: as in `pure_readv`.
        unsafe { self.file.pure_writev(bufv, offset) }
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write(offset, length, |_| {})?;
        // SAFETY: as in `pure_readv`.
        match unsafe { self.file.pure_write_zeroes(offset, length) } {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeros(offset, length),
            result => result,
        }
    }

    unsafe fn pure_write_allocated_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
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
    /// Writes zeros where the host has no other way to make them.
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut zeros = crate::block::Aligned::new(length.min(CHUNK) as usize);
        let mut at = 0;
        while at < length {
            let now = (length - at).min(CHUNK) as usize;
            let bytes = IoVector::from(&zeros.bytes()[..now]);
            // SAFETY: as in `pure_readv`; the bytes lie at a multiple of 4096, and the range was aligned by the caller.
            unsafe { self.file.pure_writev(bytes, offset + at) }?;
            at += now as u64;
        }
        Ok(())
    }
}

/// Whether imago still works for a disk.
#[derive(Debug, Default)]
pub(super) struct Guard {
    broken: AtomicBool,
}

impl Guard {
    /// Calls imago, unless it has panicked before.
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
                "the driver of a qcow2 image has failed: the disk answers no more; qemu-img check tells what is wrong"
            );
            Err(io::Error::other("the image's driver has failed"))
        })
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
