//! The initramfs: a cpio archive in the format `newc` (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that is being made.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, [0, 0], &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, [0, 0], content);
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, [0, 0], target.as_bytes());
    }

    pub fn character_device(&mut self, path: &str, device: [u32; 2]) {
        self.entry(path, CHARACTER | 0o600, device, &[]);
    }

    /// Returns the size so far, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, [0, 0], &[]);
        self.bytes
    }

    /// A path has no slash at its start. No file here has 4 GiB, the format's limit.
    fn entry(&mut self, path: &str, mode: u32, device: [u32; 2], content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        self.bytes.extend(b"070701");
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, device[0], device[1], name, 0] {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(&content[..size as usize]);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busybox_unpacks_what_was_packed() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/odd", 0o755, b"12345");
        archive.symlink("link", "bin/odd");
        let folder = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox");
        let mut cpio = cpio.args(["cpio", "-i"]).current_dir(&folder).stdin(Stdio::piped()).spawn().unwrap();
        cpio.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        assert!(cpio.wait().unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("link")).unwrap(), b"12345");
        let mode = std::fs::metadata(folder.path().join("bin/odd")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
}
