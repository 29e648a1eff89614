//! File formats that cannot be used directly, recognised by their content.

use std::path::Path;

/// A compression format: its magic number, the usual file name extension, and the tool to decompress it.
pub(crate) struct Compression {
    bytes: &'static [u8],
    pub name: &'static str,
    ending: &'static str,
    tool: &'static str,
}

const COMPRESSIONS: &[Compression] = &[
    Compression { bytes: b"\x1f\x8b\x08", name: "gzip", ending: "gz", tool: "gunzip" },
    Compression { bytes: b"\xfd7zXZ\0", name: "xz", ending: "xz", tool: "unxz" },
    Compression { bytes: b"\x28\xb5\x2f\xfd", name: "zstd", ending: "zst", tool: "unzstd" },
    Compression { bytes: b"\x04\x22\x4d\x18", name: "lz4", ending: "lz4", tool: "unlz4" },
    Compression { bytes: b"\x02\x21\x4c\x18", name: "lz4", ending: "lz4", tool: "unlz4" },
    Compression { bytes: b"BZh", name: "bzip2", ending: "bz2", tool: "bunzip2" },
    Compression { bytes: b"\x5d\0\0", name: "lzma", ending: "lzma", tool: "unlzma" },
    Compression { bytes: b"\x89LZO\0\r\n\x1a\n", name: "lzop", ending: "lzo", tool: "lzop -d" },
];

impl Compression {
    /// Returns the compression format of a file that starts with `head`, if it is compressed.
    pub fn of(head: &[u8]) -> Option<&'static Self> {
        COMPRESSIONS.iter().find(|compression| head.starts_with(compression.bytes))
    }

    /// Returns how to decompress `file` to use it as a `kind`.
    ///
    /// The tools keep the file with `-k` and remove the extension. Without the extension, they need an output file.
    pub fn advice(&self, file: &Path, kind: &str) -> String {
        let (Self { ending, tool, .. }, name) = (self, file.display());
        match file.extension() {
            Some(found) if found == *ending => format!("unpack it first: {tool} -k {name}"),
            _ => format!("unpack it first: {tool} < {name} > {kind} ({tool} -k wants a name that ends in .{ending})"),
        }
    }
}

/// The first bytes of a qcow2 image.
pub(crate) const QCOW2: [u8; 4] = *b"QFI\xfb";
/// The start of a VHD image's last 512 bytes, and of a dynamic one's first.
const VHD: &[u8] = b"conectix";

/// Disk image formats, with the offset and content of their magic number.
const DISK_FORMATS: &[(usize, &[u8], &str)] = &[
    (0, &QCOW2, "qcow2"),
    (0, b"KDMV", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, VHD, "VHD"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"QED\0", "QED"),
];

/// Returns the format of a disk image that starts with `head`, if it is not raw.
pub(crate) fn disk_format(head: &[u8]) -> Option<&'static str> {
    DISK_FORMATS.iter().find(|(offset, magic, _)| has(head, *offset, magic)).map(|(_, _, name)| *name)
}

/// Returns the format of a disk image with this tail of 512 bytes: a VHD image of fixed size has no other mark.
pub(crate) fn disk_format_by_tail(tail: &[u8]) -> Option<&'static str> {
    tail.starts_with(VHD).then_some("VHD")
}

/// Returns `true` if these bytes are at this offset of the head.
pub(crate) fn has(head: &[u8], offset: usize, bytes: &[u8]) -> bool {
    head.get(offset..).is_some_and(|rest| rest.starts_with(bytes))
}

#[cfg(test)]
#[path = "magic_tests.rs"]
mod tests;
