//! Compression of a stream whose parts can be read as they arrive.

use std::io;

use flate2::{Compression, FlushCompress};

/// Appends compressed bytes, so that the viewer can decompress all of them.
///
/// # Errors
/// Returns an error if the compression fails.
pub fn deflate(stream: &mut Option<flate2::Compress>, to: &mut Vec<u8>, mut plain: &[u8]) -> io::Result<()> {
    let stream = stream.get_or_insert_with(|| flate2::Compress::new(Compression::fast(), true));
    loop {
        to.reserve(64 + plain.len() / 4);
        let before = stream.total_in();
        stream.compress_vec(plain, to, FlushCompress::Sync).map_err(io::Error::other)?;
        plain = plain.get((stream.total_in() - before) as usize..).unwrap_or_default();
        // All of it is out if there was room left.
        if plain.is_empty() && to.len() < to.capacity() {
            return Ok(());
        }
    }
}
