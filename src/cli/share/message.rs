//! The parts of requests and replies.

use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::root;

/// Maximum size of the data of a request or a reply. The guest's agent has buffers for it.
pub const MAX_DATA: usize = 256 << 10;

/// Splits a message off the start of a request.
pub(super) fn take<T: FromBytes + Immutable + KnownLayout>(body: &[u8]) -> Result<(T, &[u8]), Errno> {
    T::read_from_prefix(body).map_err(|_| Errno::INVAL)
}

/// Splits a text off the start of a request, without the zero byte at its end.
pub(super) fn text(body: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
    Ok((&body[..end], &body[end + 1..]))
}

/// Splits the name of an entry of a directory off the start of a request.
pub(super) fn name(body: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let (name, rest) = text(body)?;
    root::check_name(name)?;
    Ok((name, rest))
}

pub(super) fn put(reply: &mut Vec<u8>, message: &(impl IntoBytes + Immutable)) {
    reply.extend_from_slice(message.as_bytes());
}

/// Returns the size of a read or a write if it is within the limit that the guest was told.
pub(super) fn checked_size(size: u32) -> Result<usize, Errno> {
    Some(size as usize).filter(|size| *size <= MAX_DATA).ok_or(Errno::INVAL)
}

/// Returns an error if data at this offset would end beyond what Linux can address in a file.
pub(super) fn checked_offset(offset: u64) -> Result<(), Errno> {
    let end = offset.checked_add(MAX_DATA as u64);
    if end.is_some_and(|end| i64::try_from(end).is_ok()) { Ok(()) } else { Err(Errno::INVAL) }
}
