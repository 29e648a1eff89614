use super::*;

const MEMORY: Range<u32> = 0xf800_0000..0xfc00_0000;
const VIDEO: u32 = 0x8000_4000;

fn select(pci: &mut Pci, address: u32) {
    assert_eq!(pci.write(0, &address.to_le_bytes()), None);
}

/// Reads a register of configuration space in one access.
fn register(pci: &mut Pci, address: u32) -> u32 {
    select(pci, address);
    u32::from_le_bytes(read(pci, DATA))
}

fn read<const N: usize>(pci: &mut Pci, offset: u16) -> [u8; N] {
    let mut data = [0x5a; N];
    pci.read(offset, &mut data);
    data
}

#[test]
fn without_a_screen_the_host_bridge_is_the_only_function() {
    let mut pci = Pci::new(None);
    assert_eq!(register(&mut pci, 0x8000_0000), 0x7192_8086);
    assert_eq!(register(&mut pci, 0x8000_0008) >> 16, 0x0600, "a host bridge");
    assert_eq!(register(&mut pci, 0x8000_000c), 0, "one function, of header type 0");
    let others = (1..0x1_0000).filter(|function| register(&mut pci, 0x8000_0000 | function << 8) != u32::MAX);
    assert_eq!(others.count(), 0);
}

#[test]
fn a_screen_is_found_with_its_memory() {
    let mut pci = Pci::new(Some(MEMORY));
    let found = (0..0x1_0000).filter(|function| register(&mut pci, 0x8000_0000 | function << 8) != u32::MAX);
    assert_eq!(found.collect::<Vec<_>>(), [0, 8 << 3]);
    assert_eq!(register(&mut pci, VIDEO), 0x5353_1414);
    assert_eq!(register(&mut pci, VIDEO + 8) >> 16, 0x0300, "a VGA controller");
    assert_eq!(register(&mut pci, VIDEO + 4), 2, "its memory is on");
    assert_eq!(register(&mut pci, VIDEO + 0x10), MEMORY.start);
    // A guest finds the size by writing ones, byte by byte if it likes.
    for byte in 0..4 {
        pci.write(DATA + byte, &[0xff]);
    }
    assert_eq!(read(&mut pci, DATA), 0xfc00_0000u32.to_le_bytes());
    pci.write(DATA, &MEMORY.start.to_le_bytes());
    assert_eq!(read(&mut pci, DATA), MEMORY.start.to_le_bytes());
    select(&mut pci, VIDEO + 4);
    pci.write(DATA, &[0xff; 2]);
    assert_eq!(read(&mut pci, DATA), [7, 0, 0, 0]);
    select(&mut pci, VIDEO);
    pci.write(DATA, &[0; 4]);
    assert_eq!(read(&mut pci, DATA), 0x5353_1414u32.to_le_bytes());
}

#[test]
fn the_host_bridge_has_no_memory() {
    let mut pci = Pci::new(Some(MEMORY));
    select(&mut pci, 0x8000_0010);
    pci.write(DATA, &[0xff; 4]);
    assert_eq!(read(&mut pci, DATA), [0; 4]);
}

#[test]
fn the_probe_of_linux_finds_the_mechanism() {
    let mut pci = Pci::new(None);
    pci.write(3, &[1]);
    select(&mut pci, 0x8000_0000);
    assert_eq!(u32::from_le_bytes(read(&mut pci, 0)), 0x8000_0000);
    assert_eq!(read(&mut pci, DATA + 2), 0x7192u16.to_le_bytes());
    assert_eq!(read(&mut pci, DATA + 1), [0x80]);
}

#[test]
fn without_the_enable_bit_the_data_port_belongs_to_nobody() {
    let mut pci = Pci::new(None);
    assert_eq!(register(&mut pci, 0), u32::MAX);
    pci.write(DATA, &[0; 4]);
    assert_eq!(register(&mut pci, 0x7fff_ffff), u32::MAX);
    assert_eq!(read(&mut pci, 0), 0x00ff_fffcu32.to_le_bytes(), "the other bits do not exist");
}

#[test]
fn only_a_byte_at_the_reset_register_resets() {
    let mut pci = Pci::new(None);
    let six = [ports::RESET_VALUE; 4];
    for (offset, length) in [(0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (2, 1), (3, 1), (3, 2), (4, 1), (7, 1)] {
        assert_eq!(pci.write(offset, &six[..length]), None, "{length} bytes at {offset}");
    }
    assert_eq!(pci.write(RESET, &[2]), None);
    assert_eq!(read(&mut pci, RESET), [2]);
    assert_eq!(pci.write(RESET, &[ports::RESET_VALUE]), Some(PowerEvent::Reset));
}

#[test]
fn accesses_of_each_length_at_each_port_are_answered() {
    let mut pci = Pci::new(Some(MEMORY));
    for address in [0x8000_0000, VIDEO + 4, VIDEO + 0x10, 0x8000_0800] {
        select(&mut pci, address);
        for offset in 0..ports::PCI.end - ports::PCI.start {
            for length in 1..=usize::from(ports::PCI.end - ports::PCI.start - offset).min(4) {
                pci.read(offset, &mut [0; 4][..length]);
                pci.write(offset, &[0; 4][..length]);
            }
        }
    }
}
