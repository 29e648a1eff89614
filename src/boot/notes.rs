//! The Xen note that contains an ELF file's PVH entry (System V ABI, "Note Section"; Xen, docs/misc/pvh.pandoc).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Elf32_Nhdr` and `Elf64_Nhdr`, which are identical.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct NoteHeader {
    pub name_size: u32,
    pub content_size: u32,
    pub kind: u32,
}
const _: () = assert!(size_of::<NoteHeader>() == 12);

/// `XEN_ELFNOTE_PHYS32_ENTRY` of Xen's public/elfnote.h: the physical address of the PVH entry.
pub(super) const XEN_PHYS32_ENTRY: u32 = 18;

/// Searches for the PVH entry in a note segment or section.
///
/// In a segment that is aligned to 8, the ABI pads names and contents to 8 bytes, but linkers also put notes with a
/// padding of 4 into such segments. So the padding that matches the alignment is tried first, then the other.
///
/// # Errors
/// Returns the problem of notes that are malformed and contain no PVH entry before the malformed part.
pub(super) fn find_pvh_entry(notes: &[u8], alignment: u64) -> Result<Option<u64>, &'static str> {
    let paddings = if alignment == 8 { [8, 4] } else { [4, 8] };
    let mut outcomes = paddings.map(|padding| walk(notes, padding)).into_iter();
    if let Some(entry) = outcomes.clone().find_map(|outcome| outcome.ok().flatten()) {
        return Ok(Some(entry));
    }
    // Notes that parse completely with one of the paddings are valid, and have no entry.
    let sound = outcomes.clone().any(|outcome| outcome.is_ok());
    if sound { Ok(None) } else { outcomes.next().unwrap_or(Ok(None)) }
}

/// Parses the notes, each padded to `padding` bytes. Linux writes the entry's address with 8 bytes, others with 4.
fn walk(notes: &[u8], padding: usize) -> Result<Option<u64>, &'static str> {
    const CUT: &str = "do not add up";
    let mut rest = notes;
    loop {
        // The linker fills the space after the last note with zeroes.
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (header, body) = NoteHeader::read_from_prefix(rest).map_err(|_| CUT)?;
        let name = body.get(..header.name_size as usize).ok_or(CUT)?;
        // Padding is relative to the note's start. Its header has 12 bytes.
        let content_start = (size_of::<NoteHeader>() + name.len()).next_multiple_of(padding);
        let content_end = content_start.checked_add(header.content_size as usize).ok_or(CUT)?;
        let content = rest.get(content_start..content_end).ok_or(CUT)?;
        if header.kind == XEN_PHYS32_ENTRY && name == b"Xen\0" {
            return match (content.first_chunk(), content.first_chunk()) {
                (_, Some(address)) if content.len() == 8 => Ok(Some(u64::from_le_bytes(*address))),
                (Some(address), _) if content.len() == 4 => Ok(Some(u32::from_le_bytes(*address).into())),
                _ => Err("have a PVH entry that is neither 4 nor 8 bytes long"),
            };
        }
        let next = content_end.checked_next_multiple_of(padding).ok_or(CUT)?;
        rest = rest.get(next..).unwrap_or_default();
    }
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
