use super::*;
use crate::net::offload::testing::packet;
use crate::vmbus::ids::GpadlId;
use crate::vsp::network::nvsp::wire::{Status, indirection_table, message};
use crate::vsp::network::rndis::info::{Information, Vlan};
use crate::vsp::network::rndis::oid::Oid;
use crate::vsp::network::rndis::packet::header;
use crate::vsp::network::rndis::wire::{self, message as rndis_message};

#[test]
fn messages_of_nvsp_are_one_line_each() {
    let line = |payload: Vec<u8>| nvsp(&payload);
    assert_eq!(
        line(message(MessageType::INIT, &Init { minimum: 0x60001, maximum: 0x60001 }, 40)),
        "NVSP INIT: version 6.1"
    );
    let buffer = SendBuffer { gpadl: GpadlId(0xe1e10), id: 0xcafe, reserved: 0 };
    assert_eq!(
        line(message(MessageType::SEND_RECEIVE_BUFFER, &buffer, 40)),
        "NVSP SEND_RECEIVE_BUFFER: GPADL 0xe1e10, id 0xcafe"
    );
    let complete = SendRndisPacketComplete { status: Status::INVALID_RNDIS_PACKET };
    assert_eq!(
        line(message(MessageType::SEND_RNDIS_PACKET_COMPLETE, &complete, 0)),
        "NVSP SEND_RNDIS_PACKET_COMPLETE: INVALID_RNDIS_PACKET"
    );
    let packet = SendRndisPacket { channel_type: 0, section: 3, section_length: 120 };
    assert_eq!(
        line(message(MessageType::SEND_RNDIS_PACKET, &packet, 0)),
        "NVSP SEND_RNDIS_PACKET: data, 120 bytes in section 3"
    );
    assert_eq!(line(indirection_table(2)), "NVSP SEND_INDIRECTION_TABLE: 16 entries at 40");
    assert_eq!(line(vec![1, 0, 0, 0, 5]), "NVSP INIT: cut off after 1 bytes");
    assert_eq!(line(vec![99, 0, 0, 0]), "NVSP message type 99");
    assert_eq!(line(vec![]), "NVSP: 0 bytes, no message");
}

#[test]
fn messages_of_rndis_are_one_line_each() {
    let request = Request {
        request_id: 7,
        oid: Oid::GEN_CURRENT_PACKET_FILTER,
        information_length: 4,
        information_offset: 20,
        handle: 0,
    };
    let set = rndis_message(RndisType::SET, &request, &[9, 0, 0, 0]);
    assert_eq!(rndis(&set), ["RNDIS SET: #7 GEN_CURRENT_PACKET_FILTER 09000000"]);
    let complete = QueryComplete {
        request_id: 7,
        status: wire::Status::NOT_SUPPORTED,
        information_length: 0,
        information_offset: 16,
    };
    assert_eq!(
        rndis(&rndis_message(RndisType::QUERY_COMPLETE, &complete, &[])),
        ["RNDIS QUERY_COMPLETE: #7 NOT_SUPPORTED"]
    );
    let notes = Information { vlan: Some(Vlan(3 | 5 << 4)), hash: Some(0xabc), ..Information::default() };
    let transfer: Vec<u8> = [packet(false, 6, 10), vec![0xff; 14]]
        .iter()
        .flat_map(|frame| {
            let (head, length) = header(&notes, frame.len());
            [&head[..length], frame].concat()
        })
        .collect();
    assert_eq!(
        rndis(&transfer),
        [
            "RNDIS PACKET: 68 bytes IPv4 TCP 4660 to 80, VLAN 5 priority 3, hash 0x00000abc",
            "RNDIS PACKET: 14 bytes of type 0xffff, VLAN 5 priority 3, hash 0x00000abc",
        ]
    );
    assert_eq!(rndis(&[1, 2]), ["RNDIS: 2 bytes, no message"]);
}

proptest::proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, kind in 0..140_u32) {
        nvsp(&bytes);
        rndis(&bytes);
        let message = [&kind.to_le_bytes()[..], &bytes].concat();
        nvsp(&message);
        rndis(&message);
        control(&message);
    }
}
