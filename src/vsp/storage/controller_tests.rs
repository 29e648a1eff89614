use super::super::config::DiskConfig;
use super::super::scsi::Status;
use super::super::storvsp::wire::{Operation, PacketHeader, ProtocolVersion, Version};
use super::*;
use zerocopy::{FromBytes, IntoBytes};

fn unit(size: &str) -> Arc<Unit> {
    DiskConfig { path: format!("memory:{size}").into(), ..DiskConfig::default() }.unit(0).expect("a unit")
}

fn execute(controller: &Controller, lun: Option<u8>, cdb: &[u8]) -> Execution {
    let mut padded = [0; 16];
    padded[..cdb.len()].copy_from_slice(cdb);
    controller.execute(lun, &scsi::Command { nexus: NEXUS, cdb: &padded, data_out: &NoData, room: 4096 })
}

fn data(controller: &Controller, lun: Option<u8>, cdb: &[u8]) -> Vec<u8> {
    match execute(controller, lun, cdb) {
        Execution::Answered(Response { status: Status::Good, data, .. }) => data,
        _ => panic!("{cdb:02x?} did not end well"),
    }
}

const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 255, 0];

/// Returns the additional sense code of the next TEST UNIT READY, or 0 if it succeeds.
fn attention(controller: &Controller, lun: u8) -> u8 {
    match execute(controller, Some(lun), &[0; 6]) {
        Execution::Answered(response) => response.sense.map_or(0, |sense| sense[12]),
        _ => panic!("no unit"),
    }
}

fn control(controller: &Controller, operation: Operation, body: &[u8]) {
    let mut packet =
        PacketHeader { operation, flags: 1, status: FromBytes::read_from_bytes(&[0; 4]).expect("a status") }
            .as_bytes()
            .to_vec();
    packet.extend_from_slice(body);
    packet.resize(64, 0);
    controller.control(true, &packet).expect("a packet");
}

fn negotiate(controller: &Controller, version: Version) {
    control(controller, Operation::BEGIN_INITIALIZATION, &[]);
    control(controller, Operation::QUERY_PROTOCOL_VERSION, ProtocolVersion { version, revision: 0 }.as_bytes());
    control(controller, Operation::QUERY_PROPERTIES, &[]);
    control(controller, Operation::END_INITIALIZATION, &[]);
    assert!(controller.is_ready());
}

#[test]
fn linux_finds_units_without_a_lun_0() {
    let controller = Controller::new(0);
    controller.attach(7, unit("1M")).expect("room");
    // There is no LUN 0, but INQUIRY is answered, so Linux requests the list of LUNs.
    assert_eq!(data(&controller, Some(0), &INQUIRY)[0], 0x7f);
    let luns = data(&controller, Some(0), &REPORT_LUNS);
    assert_eq!((luns.len(), luns[9]), (16, 7));
    assert_eq!(data(&controller, Some(7), &INQUIRY)[0], 0);
    // Other targets have nothing.
    assert_eq!(data(&controller, None, &INQUIRY)[0], 0x7f);
    assert_eq!(data(&controller, None, &REPORT_LUNS).len(), 8);
}

#[test]
fn commands_for_a_missing_unit_are_answered_with_no_unit() {
    let controller = Controller::new(0);
    for cdb in [&[0; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x12, 1, 0x80, 0, 255, 0]] {
        assert!(matches!(execute(&controller, Some(3), cdb), Execution::NoUnit(_)), "{cdb:02x?}");
        assert!(matches!(execute(&controller, Some(200), cdb), Execution::NoUnit(_)), "{cdb:02x?}");
    }
    let sense = data(&controller, Some(3), &[3, 0, 0, 0, 18, 0]);
    assert_eq!((sense[2], sense[12]), (5, 0x25));
}

#[test]
fn a_lun_can_be_attached_once_and_must_be_valid() {
    let controller = Controller::new(0);
    controller.attach(63, unit("1M")).expect("room");
    assert_eq!(controller.attach(63, unit("1M")), Err(LunError::Taken(63)));
    assert_eq!(controller.attach(64, unit("1M")), Err(LunError::NoSuchLun(64)));
    assert!(controller.detach(64).is_none() && controller.detach(1).is_none());
}

#[test]
fn a_guest_is_notified_of_added_and_removed_units_if_its_version_allows() {
    let controller = Controller::new(0);
    controller.attach(0, unit("1M")).expect("room");
    assert!(controller.notice().is_none());
    negotiate(&controller, Version::WIN10);
    assert_eq!(attention(&controller, 0), 0x29);
    assert_eq!(attention(&controller, 0), 0);
    let before = controller.changes();
    controller.attach(1, unit("1M")).expect("room");
    assert_ne!(controller.changes(), before);
    let notice = controller.notice().expect("a notice");
    assert_eq!(PacketHeader::read_from_prefix(notice.bytes()).expect("a header").0.operation, Operation::ENUMERATE_BUS);
    // The other units report that the list of LUNs has changed, unless the guest requests the list first.
    assert_eq!(attention(&controller, 0), 0x3f);
    controller.detach(1).expect("a unit");
    data(&controller, Some(0), &REPORT_LUNS);
    assert_eq!(attention(&controller, 0), 0);
    negotiate(&controller, Version::WIN6);
    assert!(controller.notice().is_none());
}

#[test]
fn a_reset_affects_only_its_unit_or_its_bus() {
    let controller = Controller::new(0);
    for lun in 0..2 {
        controller.attach(lun, unit("1M")).expect("room");
    }
    negotiate(&controller, Version::WIN10);
    let quiet = || [0, 1].map(|lun| attention(&controller, lun));
    assert_eq!(quiet(), [0x29, 0x29]);
    assert_eq!(quiet(), [0, 0]);
    let mut body = [0; 52];
    body[7] = 1;
    control(&controller, Operation::RESET_LUN, &body);
    assert_eq!(quiet(), [0, 0x29]);
    control(&controller, Operation::RESET_BUS, &[]);
    assert_eq!(quiet(), [0x29, 0x29]);
}
