//! Loads a kernel into guest memory, and returns the state of its entry.
//!
//! Loading has two phases. First, every part gets its place ([`Placement`]), and all errors are found. Then the memory
//! is written. The content of files is copied directly from the host's page cache to guest memory.

use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

use super::entry::{self, BootProtocol, Entry};
use super::error::{BootError, Occupant};
use super::file::ImageFile;
use super::handover::{Framebuffer, Handover};
use super::image::{self, Kernel, Segment};
use super::layout::{self, ACPI_TABLES, BOOT_INFORMATION, COMMAND_LINE, EXTENDED_START};
use super::placement::Placement;
use super::source::KernelSource;
use super::{acpi, firmware, flat, linux, multiboot, pvh};
use crate::host::limited;
use crate::memory::{self, GuestMemory, HOLE_START, HUGE_PAGE, PAGE_SIZE};

/// Loads a kernel, its initrd and command line, and the ACPI tables into `memory`, and returns the state in which VP 0
/// enters the kernel.
///
/// `memory` must be new: memory that the kernel requires to be zero is not written. The kernel is told of the framebuffer, which
/// need not be part of `memory`, if its boot protocol has a place for that: see [`Entry::draws`].
///
/// # Errors
/// Returns an error if a file is invalid or something does not fit. `memory` may have been modified then.
pub fn load(
    memory: &GuestMemory,
    kernel: &KernelSource,
    initrd: Option<&Path>,
    command_line: &str,
    acpi: &acpi::Description,
    framebuffer: Option<Framebuffer>,
) -> Result<Entry, BootError> {
    let (file, kernel_name, kernel) = open(kernel)?;
    if let Some(remark) = &kernel.remark {
        limited::warn!("{}: {remark}", file.name());
    }
    let initrd = initrd.map(|path| open_initrd(kernel.protocol, path)).transpose()?;
    let command_line = prepare_command_line(&file, &kernel, &kernel_name, command_line)?;
    let tables = acpi::tables(acpi)?;

    let size = memory.iter().map(GuestMemoryRegion::len).sum();
    let mut placement = Placement::new(size, overlap_advice(kernel.protocol));
    let tables_at = placement.claim("the ACPI tables", ACPI_TABLES.start, tables.len() as u64)?;
    entry::claim_tables(kernel.protocol, &mut placement)?;
    let mut information = None;
    if let Some(text) = &command_line {
        let length = BOOT_INFORMATION.end - BOOT_INFORMATION.start;
        let page = placement.claim("the boot information", BOOT_INFORMATION.start, length)?;
        information = Some((page, placement.claim("the command line", COMMAND_LINE.start, text.len() as u64)?));
    }
    // The segment with the highest end first, so that the remedy is sufficient for all.
    if let Some(highest) = kernel.segments.iter().max_by_key(|segment| segment.end()) {
        let range = highest.address..highest.end();
        placement.require_memory(&Occupant { what: highest.what.clone(), range })?;
    }
    let claim = |segment: &Segment| placement.claim(&segment.what, segment.address, segment.memory_length);
    let segments = kernel.segments.iter().map(claim).collect::<Result<Vec<_>, _>>()?;
    let traces = firmware::claim(&mut placement, acpi)?;
    let mut handover = Handover { framebuffer: framebuffer.filter(|_| kernel.draws), ..Handover::default() };
    if let Some((initrd, name)) = &initrd {
        handover.initrd = Some(claim_initrd(initrd, &kernel, &mut placement)?);
        handover.initrd_name.clone_from(name);
    }
    let mut entry = Entry { draws: handover.framebuffer.is_some(), ..Entry::new(kernel.protocol, kernel.entry) };
    if information.is_none() {
        entry.registers.rsp = flat::claim_stack(kernel.protocol, &mut placement)?;
    }

    entry.untouched = placement.free();
    if segments.iter().chain(&handover.initrd).any(|claim| claim.range.end - claim.range.start >= HUGE_PAGE) {
        memory::prefer_huge_pages(memory);
    }
    for (segment, claim) in kernel.segments.iter().zip(&segments) {
        file.load(memory, claim, segment.offset, segment.file_length)?;
    }
    if let Some(((initrd, _), claim)) = initrd.as_ref().zip(handover.initrd.as_ref()) {
        initrd.load(memory, claim, 0, initrd.length())?;
    }
    write(memory, &tables_at, &tables)?;
    traces.iter().try_for_each(|(place, bytes)| write(memory, place, bytes))?;
    entry::write_tables(kernel.protocol, memory).map_err(|source| write_error("the boot tables", source))?;
    if let Some(((page, line_at), text)) = information.zip(command_line) {
        write(memory, &line_at, &text)?;
        hand_over(memory, &kernel, &handover, size, &mut entry).map_err(|source| write_error(&page.what, source))?;
    }
    Ok(entry)
}

/// Opens the kernel and determines its format. Returns also the name that is passed to the kernel.
fn open(source: &KernelSource) -> Result<(ImageFile, String, Kernel), BootError> {
    let (file, name) = match source {
        KernelSource::File(path) | KernelSource::Flat { path, .. } => {
            (ImageFile::open(path).map_err(|error| error.of("--kernel"))?, file_name(path))
        }
        KernelSource::Embedded { name, bytes } => (ImageFile::embedded(name, bytes)?, name.to_string()),
    };
    let kernel = match source {
        KernelSource::Flat { address, mode, .. } => flat::kernel(&file, *address, *mode)?,
        _ => image::recognise(&file)?,
    };
    Ok((file, name, kernel))
}

fn open_initrd(protocol: BootProtocol, path: &Path) -> Result<(ImageFile, String), BootError> {
    if protocol.is_flat() {
        return Err(BootError::InitrdForFlat { file: path.display().to_string() });
    }
    match ImageFile::open(path) {
        Err(BootError::Empty { file, .. }) => Err(BootError::Empty { file, advice: "leave out --initrd" }),
        file => Ok((file.map_err(|error| error.of("--initrd"))?, file_name(path))),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Returns the command line's bytes with their final NUL; empty for a flat image.
fn prepare_command_line(
    file: &ImageFile,
    kernel: &Kernel,
    kernel_name: &str,
    text: &str,
) -> Result<Option<Vec<u8>>, BootError> {
    if kernel.protocol.is_flat() {
        return if text.is_empty() { Ok(None) } else { Err(BootError::CommandLineForFlat) };
    }
    if let Some(position) = text.bytes().position(|byte| byte == 0) {
        return Err(BootError::CommandLineNul { position });
    }
    let text = match kernel.protocol {
        BootProtocol::Multiboot => multiboot::command_line(kernel_name, text),
        _ => text.into(),
    };
    let (length, limit) = (text.len() as u64, kernel.command_line_limit);
    if length > limit {
        return Err(BootError::CommandLineTooLong { file: file.name().into(), length, limit });
    }
    Ok(Some([text.as_bytes(), b"\0"].concat()))
}

fn overlap_advice(protocol: BootProtocol) -> &'static str {
    if protocol.is_flat() { "give another address: flat:PATH@ADDRESS" } else { "link the kernel to other addresses" }
}

/// Places the initrd: for multiboot at the lowest address above the kernel, as GRUB does, else at the highest that the
/// kernel accepts.
fn claim_initrd(initrd: &ImageFile, kernel: &Kernel, placement: &mut Placement) -> Result<Occupant, BootError> {
    let length = initrd.length();
    let limit = kernel.initrd_limit.min(HOLE_START);
    let start = kernel.segments.iter().map(|segment| segment.address).min().unwrap_or(0);
    let end = kernel.segments.iter().map(Segment::end).max().unwrap_or(0);
    let place = match kernel.protocol {
        BootProtocol::Multiboot => {
            placement.lowest(length, end.max(EXTENDED_START)).or_else(|| placement.lowest(length, end))
        }
        _ => placement.highest(length, limit),
    };
    if let Some(place) = place {
        return placement.claim("the initrd", place, length);
    }
    let needed = end.max(EXTENDED_START).next_multiple_of(PAGE_SIZE).checked_add(length);
    Err(BootError::InitrdTooLarge {
        file: initrd.name().into(),
        initrd: length,
        kernel: Occupant { what: "the kernel".into(), range: start..end },
        memory: placement.memory_size(),
        limit,
        needed: needed.filter(|needed| *needed <= limit).and_then(layout::size_reaching),
    })
}

/// Writes the protocol's boot information, and sets the registers to its address.
fn hand_over(
    memory: &GuestMemory,
    kernel: &Kernel,
    handover: &Handover,
    size: u64,
    entry: &mut Entry,
) -> Result<(), GuestMemoryError> {
    let map = layout::memory_map(size);
    let registers = &mut entry.registers;
    match kernel.protocol {
        BootProtocol::Linux64 | BootProtocol::Linux32 => {
            registers.rsi = linux::write_zero_page(memory, kernel.setup_header, handover, &map)?;
        }
        BootProtocol::Pvh => registers.rbx = pvh::write_start_info(memory, handover, &map)?,
        BootProtocol::Multiboot => {
            registers.rax = multiboot::ENTRY_MAGIC.into();
            registers.rbx = multiboot::write_information(memory, handover, &map)?;
        }
        BootProtocol::Flat16 | BootProtocol::Flat32 | BootProtocol::Flat64 => {}
    }
    Ok(())
}

fn write(memory: &GuestMemory, to: &Occupant, bytes: &[u8]) -> Result<(), BootError> {
    memory.write_slice(bytes, GuestAddress(to.range.start)).map_err(|source| write_error(&to.what, source))
}

fn write_error(what: &str, source: GuestMemoryError) -> BootError {
    BootError::Write { what: what.into(), source }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
