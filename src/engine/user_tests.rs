use super::*;

fn messages(command: u64) -> Vec<(u32, u32)> {
    command_messages(command, 1, &[0, 1, 2]).into_iter().map(|message| (message.address, message.data)).collect()
}

#[test]
fn an_ipi_to_one_processor_is_one_message() {
    assert_eq!(messages(2 << 56 | 0x31), [(0xfee0_2000, 0x31)]);
    assert_eq!(messages(4 << 56 | 1 << 11 | 0x31), [(0xfee0_4004, 0x31)], "logical");
    assert_eq!(messages(2 << 56 | 4 << 8), [(0xfee0_2000, 0x400)], "an NMI");
}

#[test]
fn an_ipi_by_shorthand_is_one_message_for_each_destination() {
    let to = |ids: &[u32]| ids.iter().map(|id| (0xfee0_0000 | id << 12, 0x31)).collect::<Vec<_>>();
    assert_eq!(messages(1 << 18 | 0x31), to(&[1]));
    assert_eq!(messages(2 << 18 | 0x31), to(&[0, 1, 2]));
    assert_eq!(messages(3 << 18 | 0x31), to(&[0, 2]));
}

#[test]
fn an_init_deassert_sends_no_message() {
    assert_eq!(messages(2 << 56 | 1 << 15 | 5 << 8), []);
    assert_eq!(messages(2 << 56 | 1 << 15 | 1 << 14 | 5 << 8), [(0xfee0_2000, 0x500)]);
}
