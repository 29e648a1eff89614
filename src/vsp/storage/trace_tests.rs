use super::super::scsi::{Response, Sense};
use super::super::storvsp::Srb;
use super::super::storvsp::wire::{NtStatus, Reply};
use super::*;
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

fn packet(operation: Operation, body: &[u8]) -> Vec<u8> {
    let mut packet = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS }.as_bytes().to_vec();
    packet.extend_from_slice(body);
    packet
}

fn command(direction: DataDirection, length: u32, cdb: &[u8]) -> Vec<u8> {
    let mut request = ScsiRequest::new_zeroed();
    (request.lun, request.cdb_length, request.sense_length) = (3, cdb.len() as u8, 20);
    (request.data_in, request.data_transfer_length) = (direction, length);
    request.cdb[..cdb.len()].copy_from_slice(cdb);
    packet(Operation::EXECUTE_SRB, request.as_bytes())
}

fn line(packet: &[u8]) -> String {
    PacketLine(packet).to_string()
}

#[test]
fn commands_are_traced_with_their_name_and_their_blocks_or_bytes() {
    let read = command(DataDirection::IN, 4096, &[0x28, 0, 0, 0, 8, 0, 0, 0, 8, 0]);
    assert_eq!(line(&read), "LUN 3 read_10 of 8 blocks at 0x800, 4096 bytes IN");
    let write = command(DataDirection::OUT, 512, &[0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(line(&write), "LUN 3 write_16 of 1 blocks at 0x100000000, 512 bytes OUT");
    let inquiry = command(DataDirection::IN, 36, &[0x12, 1, 0x80, 0, 36, 0]);
    assert_eq!(line(&inquiry), "LUN 3 inquiry 12 01 80 00 24 00, 36 bytes IN");
    assert_eq!(line(&command(DataDirection::NONE, 0, &[0xff, 1])), "LUN 3 unknown ff 01");
    assert_eq!(line(&packet(Operation::BEGIN_INITIALIZATION, &[])), "BEGIN_INITIALIZATION");
}

#[test]
fn completions_are_traced_with_their_sense_in_both_formats() {
    let read = command(DataDirection::IN, 4096, &[0x28]);
    let ticket = Srb::parse(&read, 4096).expect("a request").ticket;
    assert_eq!(line(ticket.complete(&Response::GOOD, 4096, 4096).bytes()), "LUN 3 SUCCESS, 4096 bytes");
    for descriptor in [false, true] {
        let failed = Response::check(&Sense::LBA_OUT_OF_RANGE, descriptor);
        assert_eq!(line(ticket.complete(&failed, 0, 0).bytes()), "LUN 3 ERROR, sense 5/21/00");
    }
    let refused = Reply::new(64, NtStatus::INVALID_DEVICE_STATE, &[]);
    assert_eq!(line(refused.bytes()), "INVALID_DEVICE_STATE");
}

proptest! {
    #[test]
    fn any_bytes_can_be_printed(bytes in proptest::collection::vec(any::<u8>(), 0..80), operation in 0_u8..14) {
        line(&bytes);
        line(&packet(Operation(operation.into()), &bytes));
    }
}
