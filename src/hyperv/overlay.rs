//! Overlay pages: hypervisor pages that cover guest memory (TLFS, "GPA Overlay Pages").
//!
//! While an overlay is shown at a GPA, guest and hypervisor see its content there. The page that it covers keeps its
//! own content, which reappears when the overlay is removed. KVM cannot cover a page without a memory slot for each
//! overlay, so contents are swapped instead: the visible content is always in the guest's RAM, and the covered content
//! is stored here.
//!
//! A guest can show several overlays at one GPA by mistake. The TLFS does not define which one is visible. Here it is
//! the one shown last; the others keep their content until it is removed. Nothing writes to a covered overlay except
//! [`Overlays::rewrite`], which writes to its stored content.
//!
//! An overlay's content is created when it is enabled, moves with it, and is discarded when it is disabled.

use std::collections::BTreeMap;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::types::{PAGE_SIZE, VpIndex, page_of};
use crate::memory::GuestMemory;

/// The content of a page.
pub type Page = [u8; PAGE_SIZE];

/// An overlay. There is at most one of each kind, so at most three pages are stored per VP, and two per partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverlayId {
    /// The hypercall page.
    Hypercall,
    /// The reference TSC page.
    ReferenceTsc,
    /// A VP's page of message slots.
    Simp(VpIndex),
    /// A VP's page of event flags.
    Siefp(VpIndex),
    /// A VP's assist page.
    VpAssist(VpIndex),
}

/// The GPA is not in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an overlay page cannot be placed at {0:#x}: there is no RAM at that address")]
pub struct NoMemory(pub u64);

/// The overlays at one GPA.
struct Stack {
    /// The guest's own content.
    covered: Box<Page>,
    /// From bottom to top. The content of the last one is in RAM, and its page here is stale.
    layers: Vec<(OverlayId, Box<Page>)>,
}

/// The overlays of a partition.
#[derive(Default)]
pub struct Overlays {
    stacks: BTreeMap<u64, Stack>,
    places: BTreeMap<OverlayId, u64>,
}

impl Overlays {
    /// Shows `id` at the page that contains `gpa`. An overlay that is shown elsewhere moves there with its current
    /// content; one that is not shown starts with `content`.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if there is no RAM at `gpa`.
    pub fn show(&mut self, memory: &GuestMemory, id: OverlayId, gpa: u64, content: &Page) -> Result<(), NoMemory> {
        let gpa = page_of(gpa);
        if self.places.get(&id) == Some(&gpa) {
            return Ok(());
        }
        if !memory.check_range(GuestAddress(gpa), PAGE_SIZE) {
            return Err(NoMemory(gpa));
        }
        let content = self.hide(memory, id).unwrap_or_else(|| Box::new(*content));
        let seen = read(memory, gpa);
        match self.stacks.get_mut(&gpa) {
            Some(stack) => {
                if let Some((_, waiting)) = stack.layers.last_mut() {
                    *waiting = seen;
                }
                stack.layers.push((id, content.clone()));
            }
            None => {
                self.stacks.insert(gpa, Stack { covered: seen, layers: vec![(id, content.clone())] });
            }
        }
        self.places.insert(id, gpa);
        write(memory, gpa, &content);
        Ok(())
    }

    /// Removes `id`, restores what it covered, and returns its content, or `None` if it was not shown.
    pub fn hide(&mut self, memory: &GuestMemory, id: OverlayId) -> Option<Box<Page>> {
        let gpa = self.places.remove(&id)?;
        let stack = self.stacks.get_mut(&gpa)?;
        let position = stack.layers.iter().position(|(layer, _)| *layer == id)?;
        let (_, waiting) = stack.layers.remove(position);
        if position < stack.layers.len() {
            return Some(waiting);
        }
        let seen = read(memory, gpa);
        match stack.layers.last() {
            Some((_, below)) => write(memory, gpa, below),
            None => {
                write(memory, gpa, &stack.covered);
                self.stacks.remove(&gpa);
            }
        }
        Some(seen)
    }

    /// Returns the GPA at which the guest sees `id`, or `None` if it is not shown or is covered by another overlay.
    pub fn visible(&self, id: OverlayId) -> Option<u64> {
        let gpa = *self.places.get(&id)?;
        let (top, _) = self.stacks.get(&gpa)?.layers.last()?;
        (*top == id).then_some(gpa)
    }

    /// Replaces the first bytes of an overlay's content, whether visible or covered. Does nothing if it is not shown.
    ///
    /// The write is not atomic; [`super::partition`] describes how the reference TSC page is changed under a reader.
    pub fn rewrite(&mut self, memory: &GuestMemory, id: OverlayId, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(PAGE_SIZE)];
        if let Some(gpa) = self.visible(id) {
            // The range was checked when the overlay was shown, and RAM is never removed.
            let _ = memory.write_slice(bytes, GuestAddress(gpa));
        } else if let Some(stack) = self.places.get(&id).and_then(|gpa| self.stacks.get_mut(gpa))
            && let Some((_, waiting)) = stack.layers.iter_mut().find(|(layer, _)| *layer == id)
        {
            waiting[..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Removes all overlays, for a reset.
    #[cfg(test)]
    pub fn hide_all(&mut self, memory: &GuestMemory) {
        for (gpa, stack) in std::mem::take(&mut self.stacks) {
            write(memory, gpa, &stack.covered);
        }
        self.places.clear();
    }
}

/// Reads a page whose range has been checked.
fn read(memory: &GuestMemory, gpa: u64) -> Box<Page> {
    let mut page = Box::new([0; PAGE_SIZE]);
    let _ = memory.read_slice(page.as_mut_slice(), GuestAddress(gpa));
    page
}

/// Writes a page whose range has been checked.
fn write(memory: &GuestMemory, gpa: u64, page: &Page) {
    let _ = memory.write_slice(page, GuestAddress(gpa));
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
