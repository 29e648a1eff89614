use super::*;

fn get(cga: &mut Cga, port: u16) -> u8 {
    let mut data = [0];
    cga.read(port, &mut data);
    data[0]
}

#[test]
fn the_cursor_reads_back_as_it_was_written() {
    let mut cga = Cga::default();
    let mut at = |index: u8, value: Option<u8>| {
        cga.write(INDEX, &[index]);
        if let Some(value) = value {
            cga.write(DATA, &[value]);
        }
        get(&mut cga, DATA)
    };
    assert_eq!((at(14, None), at(15, None)), (0, 0), "at the top");
    at(14, Some(7));
    at(15, Some(0xcf));
    assert_eq!((at(14, None), at(15, None)), (7, 0xcf));
    assert_eq!(at(1, None), 80, "columns");
    at(200, Some(5));
    assert_eq!(at(200, None), 0, "there is no such register");
}

#[test]
fn a_word_written_to_the_index_port_sets_the_register() {
    let mut cga = Cga::default();
    assert_eq!(cga.write(INDEX, &[14, 9]), None);
    assert_eq!(get(&mut cga, DATA), 9);
}

#[test]
fn the_retrace_bit_changes_at_each_read_of_the_status() {
    let mut cga = Cga::default();
    let states: Vec<_> = (0..4).map(|_| get(&mut cga, STATUS) & RETRACE).collect();
    assert_eq!(states, [RETRACE, 0, RETRACE, 0]);
    assert_eq!((get(&mut cga, MODE), get(&mut cga, COLOUR)), (0x29, 0x30));
    cga.write(MODE, &[1]);
    assert_eq!(get(&mut cga, MODE), 1);
}
