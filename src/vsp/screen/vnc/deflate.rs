//! Compression of a stream whose parts can be read as they arrive.

use std::io;

use flate2::{Compression, FlushCompress};

/// Appends compressed bytes, so that the viewer can decompress all of them.
///
/// # Errors
/// Returns an error if the compression fails.
pub fn deflate(stream: &mut Option<flate2::Compress>, to: &mut Vec<u8>, plain: &[u8]) -> io::Result<()> {
    let stream = stream.get_or_insert_with(|| flate2::Compress::new(Compression::fast(), true));
    // A call that fills its room keeps data, and the next call may return before all of it is out, with room left. So there is always
    // room for all.
    to.reserve(most(plain.len()));
    let before = stream.total_in();
    stream.compress_vec(plain, to, FlushCompress::Sync).map_err(io::Error::other)?;
    if stream.total_in() - before != plain.len() as u64 || to.len() == to.capacity() {
        return Err(io::Error::other("the compressor has data left"));
    }
    Ok(())
}

/// Returns more than the maximum length of compressed bytes: those of blocks that are stored as they are, or with poor codes.
fn most(plain: usize) -> usize {
    256 + plain + plain / 4
}
