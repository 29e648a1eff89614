use super::super::orc::Orc;
use super::super::{Load, Symbol};
use super::*;

/// Memory that starts at an address, in words of 8 bytes.
struct Words(u64, Vec<u64>);

impl View for Words {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let content: Vec<u8> = self.1.iter().flat_map(|word| word.to_le_bytes()).collect();
        let Some(start) = address.checked_sub(self.0) else { return false };
        let part = content.get(start as usize..).and_then(|rest| rest.get(..bytes.len()));
        part.inspect(|part| bytes.copy_from_slice(part)).is_some()
    }
}

/// Functions of 0x100 bytes from 0x1000 on.
fn symbols() -> Symbols {
    let names = ["inner", "middle", "outer"];
    let mut symbols = Symbols { code: std::iter::once(0x1000..0x1300).collect(), ..Symbols::default() };
    for (name, index) in names.iter().zip(0..) {
        let start = symbols.text.len() as u32;
        symbols.text.extend(name.bytes());
        let name = start..symbols.text.len() as u32;
        symbols.symbols.push(Symbol { address: 0x1000 + index * 0x100, size: 0x100, name });
    }
    symbols
}

const START: Registers = Registers { instruction: 0x1010, stack: 0x8000, frame: 0x8010, width: 8 };

fn walk(symbols: &Symbols, registers: Registers, words: Vec<u64>) -> String {
    Stack::walk(symbols, registers, &Words(0x8000, words)).to_string()
}

#[test]
fn callers_are_found_by_frame_pointers() {
    let stack = vec![0, 0, 0x8020, 0x1120, 0x8040, 0x1230, 0, 0, 0, 0];
    assert_eq!(walk(&symbols(), START, stack), ", called from middle+0x20, outer+0x30");
}

#[test]
fn a_call_that_is_the_last_instruction_belongs_to_its_own_function() {
    assert_eq!(walk(&symbols(), START, vec![0, 0, 0, 0x1200, 0]), ", called from middle+0x100");
}

#[test]
fn a_chain_of_frame_pointers_that_does_not_ascend_ends_the_walk() {
    for next in [0x8010, 0x8000, 0x8018, 0x8013, u64::MAX, 0x8010 + MAX_FRAME * 2] {
        let stack = vec![0, 0, next, 0x1120, 0x1230, 0x1230];
        assert!(walk(&symbols(), START, stack).starts_with(", called from middle+0x20"), "{next:#x}");
    }
    let endless = (0..4096).map(|index| if index % 2 == 0 { 0x8000 + (index + 2) * 8 } else { 0x1120 }).collect();
    let walked = Stack::walk(&symbols(), Registers { frame: 0x8000, ..START }, &Words(0x8000, endless));
    assert!(matches!(walked, Stack::Callers(places) if places.len() == MAX_CALLERS));
}

#[test]
fn the_stack_of_a_32_bit_guest_has_words_of_4_bytes() {
    let low_high = |low: u64, high: u64| low | high << 32;
    let stack = vec![0, low_high(0x8010, 0x1120), low_high(0, 0x1230), 0];
    let registers = Registers { width: 4, frame: 0x8008, ..START };
    assert_eq!(walk(&symbols(), registers, stack), ", called from middle+0x20, outer+0x30");
}

#[test]
fn without_frame_pointers_the_stack_is_searched_for_return_addresses() {
    // The code of `middle` at 0x1100: a relative call ends at 0x1108, an indirect one at 0x1110.
    struct Both(Words, Words);
    impl View for Both {
        fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
            self.0.read(address, bytes) || self.1.read(address, bytes)
        }
    }
    let code = Words(0x1100, vec![0xe8 << 24, 0x10ff << 48, 0, 0]);
    let stack = Words(0x8000, vec![0x1108, 0x1104, 77, 0x1110, u64::MAX, 0]);
    let registers = Registers { frame: 0, ..START };
    let walked = Stack::walk(&symbols(), registers, &Both(stack, code)).to_string();
    assert_eq!(walked, ", on its stack (perhaps left behind) middle+0x8, middle+0x10");
}

#[test]
fn a_stack_that_is_not_mapped_yields_no_callers() {
    for stack in [0, 7, 0x7ff9, 0x8fff, u64::MAX - 3] {
        let registers = Registers { stack, frame: stack, ..START };
        assert_eq!(walk(&symbols(), registers, vec![0; 8]), "", "{stack:#x}");
    }
}

/// Returns tables with these entries, each of which applies from its address on.
fn orc(entries: &[(u64, [u8; 6])], renumbered: bool) -> Orc {
    let first = 0x100_0000;
    let distance = |(index, (place, _)): (u64, &(u64, [u8; 6]))| *place as i32 - (first + index * 4) as i32;
    let places = (0..).zip(entries).map(distance).flat_map(i32::to_le_bytes).collect();
    Orc::new(first, places, entries.iter().flat_map(|(_, entry)| *entry).collect(), renumbered)
}

#[test]
fn callers_are_found_by_orc_tables_without_frame_pointers() {
    // The caller's stack begins 16 bytes above in `inner`, 24 in `middle` whose caller's frame pointer is saved there; `outer`
    // is the outermost.
    for (call, end, renumbered) in [(0, 3, false), (2, 1, true)] {
        let entries = [
            (0x1000, [16, 0, 0, 0, 5, call]),
            (0x1100, [24, 0, 0xf0, 0xff, 5 | 1 << 4, call]),
            (0x1200, [0, 0, 0, 0, 0, end]),
        ];
        let symbols = Symbols { orc: Some(orc(&entries, renumbered)), ..symbols() };
        let stack = vec![0, 0x1120, 0, 0x7777, 0x1230, 0];
        assert_eq!(walk(&symbols, Registers { frame: 1, ..START }, stack), ", called from middle+0x20, outer+0x30");
    }
}

#[test]
fn invalid_orc_tables_end_the_walk() {
    // A function that is its own caller, at the same stack pointer.
    let entries = [(0x1000, [0, 0, 0, 0, 5, 0])];
    let symbols = Symbols { orc: Some(orc(&entries, false)), ..symbols() };
    assert_eq!(walk(&symbols, Registers { frame: 1, ..START }, vec![0; 8]), "");
    let random: Vec<(u64, [u8; 6])> = (0..64u64).map(|n| (0x1000 + n * 8, [n as u8; 6])).collect();
    let symbols = Symbols { orc: Some(orc(&random, true)), loads: Vec::<Load>::new(), ..symbols };
    for instruction in 0x0fff..0x1300 {
        walk(&symbols, Registers { instruction, ..START }, (0..32).map(|n| 0x1000 + n * 8).collect());
    }
}
