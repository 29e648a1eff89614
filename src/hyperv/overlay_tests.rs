use super::*;
use crate::hyperv::testing::{RAM, ram};
use proptest::prelude::*;
use std::collections::HashMap;

const A: OverlayId = OverlayId::Simp(VpIndex(0));
const B: OverlayId = OverlayId::Siefp(VpIndex(0));
const C: OverlayId = OverlayId::Hypercall;

fn page(byte: u8) -> Page {
    [byte; PAGE_SIZE]
}

fn fill(memory: &GuestMemory, gpa: u64, byte: u8) {
    memory.write_slice(&page(byte), GuestAddress(gpa)).unwrap();
}

/// Returns the byte that fills the page at `gpa`.
fn seen(memory: &GuestMemory, gpa: u64) -> u8 {
    let content = read(memory, gpa);
    assert!(content.iter().all(|byte| *byte == content[0]), "the page is torn");
    content[0]
}

#[test]
fn an_overlay_shows_its_content_and_hiding_it_restores_what_it_covered() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    fill(&memory, 0x3000, 7);
    overlays.show(&memory, A, 0x3000, &page(0)).unwrap();
    assert_eq!(seen(&memory, 0x3000), 0);
    assert_eq!(overlays.visible(A), Some(0x3000));
    fill(&memory, 0x3000, 9);
    assert_eq!(overlays.hide(&memory, A).unwrap()[0], 9);
    assert_eq!(seen(&memory, 0x3000), 7);
    assert_eq!(overlays.visible(A), None);
    assert!(overlays.hide(&memory, A).is_none());
}

#[test]
fn an_overlay_keeps_its_content_when_it_moves() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    fill(&memory, 0x3000, 3);
    fill(&memory, 0x4000, 4);
    overlays.show(&memory, A, 0x3000, &page(0)).unwrap();
    fill(&memory, 0x3000, 9);
    overlays.show(&memory, A, 0x4000, &page(0)).unwrap();
    assert_eq!((seen(&memory, 0x3000), seen(&memory, 0x4000)), (3, 9));
    overlays.hide(&memory, A);
    assert_eq!(seen(&memory, 0x4000), 4);
}

#[test]
fn showing_an_overlay_where_it_is_shown_changes_nothing() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    overlays.show(&memory, A, 0x3000, &page(1)).unwrap();
    fill(&memory, 0x3000, 9);
    overlays.show(&memory, A, 0x3000, &page(1)).unwrap();
    assert_eq!(seen(&memory, 0x3000), 9);
}

#[test]
fn an_overlay_that_was_disabled_starts_with_new_content() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    overlays.show(&memory, A, 0x3000, &page(0)).unwrap();
    fill(&memory, 0x3000, 9);
    overlays.hide(&memory, A);
    overlays.show(&memory, A, 0x3000, &page(0)).unwrap();
    assert_eq!(seen(&memory, 0x3000), 0);
}

#[test]
fn an_overlay_beyond_ram_is_refused_and_stays_where_it_was() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    overlays.show(&memory, A, 0x3000, &page(1)).unwrap();
    for gpa in [RAM, RAM + 0x5000, page_of(u64::MAX), 0xfee0_0000] {
        assert_eq!(overlays.show(&memory, A, gpa, &page(2)), Err(NoMemory(gpa)));
    }
    assert_eq!(overlays.visible(A), Some(0x3000));
    overlays.show(&memory, A, RAM - PAGE_SIZE as u64, &page(2)).unwrap();
}

#[test]
fn of_several_overlays_at_one_gpa_the_last_is_visible_and_all_keep_their_content() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    fill(&memory, 0x3000, 7);
    for (id, byte) in [(A, 1), (B, 2), (C, 3)] {
        overlays.show(&memory, id, 0x3000, &page(byte)).unwrap();
    }
    assert_eq!((overlays.visible(A), overlays.visible(B), overlays.visible(C)), (None, None, Some(0x3000)));
    overlays.rewrite(&memory, A, &page(11));
    overlays.rewrite(&memory, C, &page(13));
    assert_eq!(seen(&memory, 0x3000), 13);
    // Hiding the one in the middle changes nothing visible.
    assert_eq!(overlays.hide(&memory, B).unwrap()[0], 2);
    assert_eq!(seen(&memory, 0x3000), 13);
    overlays.hide(&memory, C);
    assert_eq!(seen(&memory, 0x3000), 11);
    overlays.hide(&memory, A);
    assert_eq!(seen(&memory, 0x3000), 7);
}

#[test]
fn a_reset_uncovers_all_memory() {
    let (memory, mut overlays) = (ram(), Overlays::default());
    for gpa in [0x3000, 0x4000] {
        fill(&memory, gpa, 7);
    }
    overlays.show(&memory, A, 0x3000, &page(1)).unwrap();
    overlays.show(&memory, B, 0x3000, &page(2)).unwrap();
    overlays.show(&memory, C, 0x4000, &page(3)).unwrap();
    overlays.hide_all(&memory);
    assert_eq!((seen(&memory, 0x3000), seen(&memory, 0x4000)), (7, 7));
    assert_eq!(overlays.visible(C), None);
}

#[derive(Clone, Debug)]
enum Step {
    Show(usize, u64, u8),
    Hide(usize),
    /// Fills a page as the guest.
    Fill(u64, u8),
    Rewrite(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0usize..4, 0u64..3, any::<u8>()).prop_map(|(id, at, byte)| Step::Show(id, at, byte)),
        (0usize..4).prop_map(Step::Hide),
        (0u64..3, any::<u8>()).prop_map(|(at, byte)| Step::Fill(at, byte)),
        (0usize..4, any::<u8>()).prop_map(|(id, byte)| Step::Rewrite(id, byte)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model: each page is a stack of named contents, with the guest's own at the bottom.
    #[test]
    fn overlays_behave_like_a_simple_model(steps in steps()) {
        let ids = [A, B, C, OverlayId::ReferenceTsc];
        let (memory, mut overlays) = (ram(), Overlays::default());
        let mut piles: Vec<Vec<(Option<OverlayId>, u8)>> = vec![vec![(None, 0)]; 3];
        let mut places: HashMap<OverlayId, usize> = HashMap::new();
        for step in steps {
            match step {
                Step::Show(id, at, byte) => {
                    overlays.show(&memory, ids[id], at * 0x1000, &page(byte)).unwrap();
                    let at = at as usize;
                    if places.get(&ids[id]) != Some(&at) {
                        let moved = places.insert(ids[id], at).map(|from| {
                            let sheet = piles[from].iter().position(|(name, _)| *name == Some(ids[id])).unwrap();
                            piles[from].remove(sheet).1
                        });
                        piles[at].push((Some(ids[id]), moved.unwrap_or(byte)));
                    }
                }
                Step::Hide(id) => {
                    overlays.hide(&memory, ids[id]);
                    if let Some(from) = places.remove(&ids[id]) {
                        piles[from].retain(|(name, _)| *name != Some(ids[id]));
                    }
                }
                Step::Fill(at, byte) => {
                    fill(&memory, at * 0x1000, byte);
                    piles[at as usize].last_mut().unwrap().1 = byte;
                }
                Step::Rewrite(id, byte) => {
                    overlays.rewrite(&memory, ids[id], &page(byte));
                    let sheet = places.get(&ids[id]).and_then(|at| piles[*at].iter_mut().find(|(name, _)| *name == Some(ids[id])));
                    if let Some(sheet) = sheet {
                        sheet.1 = byte;
                    }
                }
            }
            for (at, pile) in piles.iter().enumerate() {
                prop_assert_eq!(seen(&memory, at as u64 * 0x1000), pile.last().unwrap().1);
            }
        }
    }
}
