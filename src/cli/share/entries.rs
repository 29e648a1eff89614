//! The entries of a directory, with their attributes if the guest wants them at once.

use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::message::{checked_size, put, take};
use super::root;
use super::server::Server;
use super::wire::{Dirent, EntryOut, ReadIn};

/// Maximum size of a buffer for the host's entries.
const BUFFER: usize = 32 << 10;
/// An inode number that the guest does not know yet, as libfuse has it.
const UNKNOWN_INO: u64 = 0xffff_ffff;

impl Server {
    /// Replies with the entries from the given position on that have room.
    pub(super) fn read_directory(&mut self, body: &[u8], reply: &mut Vec<u8>, plus: bool) -> Result<(), Errno> {
        let (read, _) = take::<ReadIn>(body)?;
        let size = checked_size(read.size)?;
        let handle = self.handle(read.handle, true)?;
        let node = handle.node;
        // A separate descriptor, at the same position: the loop below also needs the directory for lookups.
        let directory = rustix::io::fcntl_dupfd_cloexec(&handle.file, 0)?;
        i64::try_from(read.offset).map_err(|_| Errno::INVAL)?;
        seek(&directory, SeekFrom::Start(read.offset))?;
        let mut buffer = Vec::with_capacity(size.clamp(1024, BUFFER));
        let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
        let start = reply.len();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(_) if reply.len() > start => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_bytes();
            let head = size_of::<Dirent>() + if plus { size_of::<EntryOut>() } else { 0 };
            let length = (head + name.len()).next_multiple_of(8);
            if reply.len() - start + length > size {
                break;
            }
            let mut dirent = Dirent {
                ino: UNKNOWN_INO,
                offset: entry.next_entry_cookie(),
                name_length: u32::try_from(name.len()).unwrap_or(0),
                kind: entry.file_type().as_raw_mode() >> 12,
            };
            let mut known = EntryOut::default();
            if root::check_name(name).is_ok()
                && let Ok(stat) = root::entry(&directory, name)
            {
                dirent.ino = self.root.ino(&stat);
                // An entry without attributes is looked up when the guest needs it.
                if plus && let Ok(entered) = self.enter(node, name, &stat) {
                    known = entered;
                }
            }
            let place = reply.len();
            if plus {
                put(reply, &known);
            }
            reply.extend_from_slice(dirent.as_bytes());
            reply.extend_from_slice(name);
            reply.resize(place + length, 0);
        }
        Ok(())
    }
}
