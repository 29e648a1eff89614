use proptest::prelude::*;

use super::super::scsi::Sense;
use super::*;

fn packet(operation: Operation, body: &[u8]) -> Vec<u8> {
    let header = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS };
    let mut packet = header.as_bytes().to_vec();
    packet.extend_from_slice(body);
    packet.resize(64, 0);
    packet
}

fn control(protocol: &mut Negotiation, operation: Operation, body: &[u8]) -> (NtStatus, Vec<u8>, Demand) {
    let (reply, demand) = protocol.control(true, &packet(operation, body)).expect("a packet");
    let (header, rest) = PacketHeader::read_from_prefix(reply.bytes()).expect("a header");
    assert_eq!((header.operation, header.flags), (Operation::COMPLETE_IO, 0));
    (header.status, rest.to_vec(), demand)
}

fn query(protocol: &mut Negotiation, version: Version) -> NtStatus {
    control(protocol, Operation::QUERY_PROTOCOL_VERSION, ProtocolVersion { version, revision: 0 }.as_bytes()).0
}

fn ready(version: Version) -> Negotiation {
    let mut protocol = Negotiation::new(4);
    assert_eq!(control(&mut protocol, Operation::BEGIN_INITIALIZATION, &[]).2, Demand::Begin);
    assert_eq!(query(&mut protocol, version), NtStatus::SUCCESS);
    assert_eq!(control(&mut protocol, Operation::QUERY_PROPERTIES, &[]).0, NtStatus::SUCCESS);
    assert_eq!(control(&mut protocol, Operation::END_INITIALIZATION, &[]).0, NtStatus::SUCCESS);
    assert!(protocol.is_ready());
    protocol
}

#[test]
fn linux_proposes_versions_until_one_is_accepted() {
    let mut protocol = Negotiation::new(4);
    control(&mut protocol, Operation::BEGIN_INITIALIZATION, &[]);
    assert_eq!(query(&mut protocol, Version(0x0700)), NtStatus::REVISION_MISMATCH);
    assert_eq!(query(&mut protocol, Version::WIN10), NtStatus::SUCCESS);
    assert_eq!(query(&mut protocol, Version::WIN8), NtStatus::SUCCESS);
}

#[test]
fn every_version_since_windows_server_2008_is_supported() {
    for version in [Version::WIN6, Version::WIN7, Version::WIN8, Version::WIN8_1, Version::WIN10] {
        let protocol = ready(version);
        assert_eq!(protocol.wants_notices(), version != Version::WIN6);
    }
}

#[test]
fn properties_offer_subchannels_from_windows_8_on() {
    for (version, subchannels) in [(Version::WIN7, 0), (Version::WIN8, 4)] {
        let mut protocol = Negotiation::new(4);
        control(&mut protocol, Operation::BEGIN_INITIALIZATION, &[]);
        query(&mut protocol, version);
        let (_, body, _) = control(&mut protocol, Operation::QUERY_PROPERTIES, &[]);
        let (properties, _) = ChannelProperties::read_from_prefix(&body).expect("properties");
        assert_eq!(properties.max_subchannels, subchannels);
        assert_eq!(properties.flags, u32::from(subchannels > 0));
        assert_eq!(properties.max_transfer_bytes, MAX_TRANSFER);
    }
}

#[test]
fn no_more_subchannels_are_made_than_were_offered() {
    let mut protocol = ready(Version::WIN10);
    let create = |protocol: &mut Negotiation, count: u16| {
        let (status, _, demand) = control(protocol, Operation::CREATE_SUB_CHANNELS, &count.to_le_bytes());
        (status, demand)
    };
    assert_eq!(create(&mut protocol, 4), (NtStatus::SUCCESS, Demand::OfferSubchannels(4)));
    assert_eq!(create(&mut protocol, 5), (NtStatus::INVALID_PARAMETER, Demand::Nothing));
    assert_eq!(create(&mut ready(Version::WIN7), 1), (NtStatus::INVALID_PARAMETER, Demand::Nothing));
}

#[test]
fn packets_out_of_order_are_refused_and_change_nothing() {
    let mut protocol = Negotiation::new(4);
    for operation in [
        Operation::END_INITIALIZATION,
        Operation::QUERY_PROPERTIES,
        Operation::QUERY_PROTOCOL_VERSION,
        Operation::CREATE_SUB_CHANNELS,
        Operation::EXECUTE_SRB,
        Operation::RESET_BUS,
        Operation::COMPLETE_IO,
        Operation(99),
    ] {
        let (status, _, demand) = control(&mut protocol, operation, &[0, 6]);
        assert_eq!((status, demand), (NtStatus::INVALID_DEVICE_STATE, Demand::Nothing), "{operation:?}");
    }
    let (status, _, _) = control(&mut protocol, Operation::FCHBA_DATA, &[]);
    assert_eq!(status, NtStatus::INVALID_DEVICE_REQUEST);
}

#[test]
fn a_driver_may_restart_the_negotiation_at_any_time() {
    let mut protocol = ready(Version::WIN10);
    assert_eq!(control(&mut protocol, Operation::BEGIN_INITIALIZATION, &[]).2, Demand::Begin);
    assert!(!protocol.is_ready());
}

#[test]
fn only_the_primary_channel_can_negotiate_and_any_channel_can_reset() {
    let mut protocol = ready(Version::WIN10);
    let mut on_subchannel = |operation, body: &[u8]| {
        let (reply, demand) = protocol.control(false, &packet(operation, body)).expect("a packet");
        (PacketHeader::read_from_prefix(reply.bytes()).expect("a header").0.status, demand)
    };
    let refused = (NtStatus::INVALID_DEVICE_STATE, Demand::Nothing);
    assert_eq!(on_subchannel(Operation::BEGIN_INITIALIZATION, &[]), refused);
    let mut request = ScsiRequest::new_zeroed();
    request.lun = 9;
    for (operation, scope) in [
        (Operation::RESET_LUN, Scope::Lun(9)),
        (Operation::RESET_BUS, Scope::Bus),
        (Operation::RESET_ADAPTER, Scope::Adapter),
    ] {
        assert_eq!(on_subchannel(operation, request.as_bytes()), (NtStatus::SUCCESS, Demand::Reset(scope)));
    }
}

#[test]
fn replies_are_as_long_as_their_requests() {
    let mut protocol = Negotiation::new(4);
    for (request, reply) in [(12, 48), (48, 48), (60, 60), (64, 64), (100, 64)] {
        let mut packet = packet(Operation::BEGIN_INITIALIZATION, &[]);
        packet.resize(request, 0);
        assert_eq!(protocol.control(true, &packet).expect("a packet").0.bytes().len(), reply);
    }
    assert_eq!(protocol.control(true, &[0; 11]), Err(PacketError::TooShort(11)));
}

fn execute(change: impl FnOnce(&mut ScsiRequest)) -> Vec<u8> {
    let mut request = ScsiRequest::new_zeroed();
    (request.lun, request.cdb_length, request.sense_length) = (3, 10, 20);
    request.data_transfer_length = 4096;
    request.cdb[0] = 0x28;
    change(&mut request);
    packet(Operation::EXECUTE_SRB, request.as_bytes())
}

fn body(reply: &Reply) -> (NtStatus, ScsiRequest) {
    let (header, rest) = PacketHeader::read_from_prefix(reply.bytes()).expect("a header");
    let mut whole = rest.to_vec();
    whole.resize(size_of::<ScsiRequest>(), 0);
    (header.status, ScsiRequest::read_from_bytes(&whole).expect("a request"))
}

#[test]
fn a_cdb_is_padded_with_zeros() {
    let packet = execute(|request| request.cdb[4..].fill(0xee));
    let request = Srb::parse(&packet, 4096).expect("a request");
    assert_eq!((request.lun, request.length), (Some(3), 4096));
    assert_eq!(request.cdb, [0x28, 0, 0, 0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0, 0, 0, 0, 0, 0]);
    // As Windows 7 sent it.
    assert_eq!(Srb::parse(&packet[..48], 4096).expect("a request").cdb, request.cdb);
}

#[test]
fn another_bus_or_target_has_no_units() {
    for change in [|request: &mut ScsiRequest| request.path_id = 1, |request: &mut ScsiRequest| request.target_id = 1] {
        assert_eq!(Srb::parse(&execute(change), 4096).expect("a request").lun, None);
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let refused = |packet: &[u8], pages| {
        let (status, reply) = body(&Srb::parse(packet, pages).expect_err("a refusal"));
        assert_eq!((status, reply.srb_status), (NtStatus::INVALID_DEVICE_REQUEST, SrbStatus::INVALID_REQUEST));
        assert_eq!((reply.data_transfer_length, reply.lun), (0, 3));
    };
    refused(&execute(|_| ()), 4095);
    refused(&execute(|request| request.cdb_length = 17), 4096);
    refused(&execute(|request| request.data_transfer_length = u32::MAX), 4096);
    refused(&execute(|request| request.data_transfer_length = MAX_TRANSFER + 1), 1 << 30);
    refused(&execute(|_| ())[..47], 4096);
}

#[test]
fn completions_have_the_fields_that_storvsc_evaluates() {
    let ticket = Srb::parse(&execute(|_| ()), 4096).expect("a request").ticket;
    let (status, good) = body(&ticket.complete(&Response::GOOD, 4096, 4096));
    assert_eq!((status, good.srb_status, good.scsi_status), (NtStatus::SUCCESS, SrbStatus::SUCCESS, 0));
    assert_eq!((good.data_transfer_length, good.sense_length, good.lun), (4096, 0, 3));

    let (status, overrun) = body(&ticket.complete(&Response::GOOD, 512, 4096));
    assert_eq!((status, overrun.srb_status), (NtStatus::BUFFER_OVERFLOW, SrbStatus::DATA_OVERRUN));
    assert_eq!(overrun.data_transfer_length, 512);

    let failed = Response::check(&Sense::LBA_OUT_OF_RANGE, false);
    let (_, failed) = body(&ticket.complete(&failed, 4096, 4096));
    assert_eq!((failed.srb_status, failed.scsi_status), (SrbStatus::ERROR.with_autosense(), 2));
    assert_eq!((failed.data_transfer_length, failed.sense_length), (0, 18));
    assert_eq!((failed.cdb[2], failed.cdb[12]), (5, 0x21));

    let conflict = Response { status: Status::ReservationConflict, ..Response::GOOD };
    let (_, conflict) = body(&ticket.complete(&conflict, 0, 0));
    assert_eq!((conflict.srb_status, conflict.scsi_status), (SrbStatus::ERROR, 0x18));

    let (status, gone) = body(&ticket.no_such_unit(&Response::check(&Sense::LOGICAL_UNIT_NOT_SUPPORTED, false)));
    assert_eq!(status, NtStatus::DEVICE_DOES_NOT_EXIST);
    assert_eq!(gone.srb_status.0 & 0x3f, SrbStatus::INVALID_LUN.0);
}

#[test]
fn a_guest_gets_no_more_sense_data_than_it_has_room_for() {
    for (room, length) in [(0, 0), (18, 18), (20, 18), (255, 18), (8, 8)] {
        let ticket = Srb::parse(&execute(|request| request.sense_length = room), 4096).expect("a request").ticket;
        let (_, reply) = body(&ticket.complete(&Response::check(&Sense::WRITE_ERROR, false), 0, 0));
        assert_eq!(reply.sense_length, length);
        assert_eq!(reply.srb_status.0 & SrbStatus::AUTOSENSE_VALID != 0, length > 0);
    }
}

proptest! {
    #[test]
    fn random_packets_never_panic(packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), 0_u32..16, any::<bool>()), 0..20)) {
        let mut protocol = Negotiation::new(4);
        for (mut packet, operation, primary) in packets {
            if packet.len() >= 4 {
                packet[..4].copy_from_slice(&operation.to_le_bytes());
            }
            match protocol.control(primary, &packet) {
                Ok((reply, demand)) => {
                    prop_assert!((48..=64).contains(&reply.bytes().len()));
                    if let Demand::OfferSubchannels(count) = demand {
                        prop_assert!(count <= 4);
                    }
                }
                Err(_) => prop_assert!(packet.len() < 12),
            }
            if let Ok(request) = Srb::parse(&packet, 4096) {
                prop_assert!(request.length <= 4096);
            }
        }
    }
}
