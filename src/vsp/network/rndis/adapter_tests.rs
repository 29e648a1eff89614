use super::*;
use crate::vsp::network::rndis::oid::packet_filter;

const ADDRESS: MacAddress = MacAddress([2, 0x15, 0x5d, 1, 2, 3]);

fn settings() -> Settings {
    Settings { address: ADDRESS, mtu: 9000, queues: 4, link_speed: 10_000_000_000, name: "lab".to_string() }
}

fn adapter() -> Adapter {
    let mut adapter = Adapter::new(settings(), Arc::default());
    adapter.restart(1500, true);
    adapter
}

fn initialized() -> Adapter {
    let mut adapter = adapter();
    let outcome = adapter.receive(&initialize(1));
    assert_eq!(outcome.replies.len(), 1);
    adapter
}

fn initialize(major_version: u32) -> Vec<u8> {
    let body = Initialize { request_id: 5, major_version, minor_version: 0, max_transfer_size: 0x4000 };
    message(MessageType::INITIALIZE, &body, &[])
}

fn request(message_type: MessageType, oid: Oid, information: &[u8]) -> Vec<u8> {
    let body =
        Request { request_id: 9, oid, information_length: information.len() as u32, information_offset: 20, handle: 0 };
    message(message_type, &body, information)
}

/// Queries the value of an object, as a driver does.
fn query(adapter: &mut Adapter, oid: Oid) -> Result<Vec<u8>, Status> {
    let outcome = adapter.receive(&request(MessageType::QUERY, oid, &[]));
    let reply = &outcome.replies[0];
    let (header, body) = MessageHeader::read_from_prefix(reply).unwrap();
    assert_eq!((header.message_type, header.length as usize), (MessageType::QUERY_COMPLETE, reply.len()));
    let (complete, _) = QueryComplete::read_from_prefix(body).unwrap();
    assert_eq!(complete.request_id, 9);
    let start = complete.information_offset as usize;
    let value = body[start..start + complete.information_length as usize].to_vec();
    if complete.status == Status::SUCCESS { Ok(value) } else { Err(complete.status) }
}

fn query_word(adapter: &mut Adapter, oid: Oid) -> u32 {
    u32::from_le_bytes(query(adapter, oid).unwrap().try_into().unwrap())
}

fn set(adapter: &mut Adapter, oid: Oid, information: &[u8]) -> Status {
    let outcome = adapter.receive(&request(MessageType::SET, oid, information));
    let (complete, _) = Complete::read_from_prefix(&outcome.replies[0][HEADER..]).unwrap();
    assert_eq!(complete.request_id, 9);
    assert_eq!(outcome.changed, complete.status == Status::SUCCESS);
    complete.status
}

#[test]
fn a_driver_initialises_the_adapter_and_halts_it() {
    let mut adapter = adapter();
    assert!(!adapter.is_running());
    let outcome = adapter.receive(&initialize(1));
    let (complete, _) = InitializeComplete::read_from_prefix(&outcome.replies[0][HEADER..]).unwrap();
    assert_eq!((complete.request_id, complete.status, complete.medium), (5, Status::SUCCESS, 0));
    assert_eq!(1 << complete.packet_alignment_factor, 8);
    assert!(adapter.is_running() && outcome.changed);
    let halt = adapter.receive(&message(MessageType::HALT, &RequestId { request_id: 6 }, &[]));
    assert!(halt.replies.is_empty() && halt.changed && !adapter.is_running());
}

#[test]
fn another_version_is_refused() {
    let mut adapter = adapter();
    let outcome = adapter.receive(&initialize(2));
    let (complete, _) = InitializeComplete::read_from_prefix(&outcome.replies[0][HEADER..]).unwrap();
    assert_eq!(complete.status, Status::BAD_VERSION);
    assert!(!adapter.is_running());
}

#[test]
fn the_initial_queries_of_linux_are_answered() {
    let mut adapter = initialized();
    assert_eq!(query_word(&mut adapter, Oid::GEN_MAXIMUM_FRAME_SIZE), 1500);
    assert_eq!(query(&mut adapter, Oid::ETHERNET_PERMANENT_ADDRESS).unwrap(), ADDRESS.0);
    assert_eq!(query_word(&mut adapter, Oid::GEN_MEDIA_CONNECT_STATUS), 0);
    assert_eq!(query_word(&mut adapter, Oid::GEN_LINK_SPEED), 100_000_000);
    let name = query(&mut adapter, Oid::GEN_FRIENDLY_NAME).unwrap();
    assert_eq!((name.len(), &name[..8]), (512, &b"l\0a\0b\0\0\0"[..]));
    let asked = ObjectHeader { object_type: ObjectHeader::OFFLOAD, revision: 2, size: 144 };
    let outcome =
        adapter.receive(&request(MessageType::QUERY, Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES, asked.as_bytes()));
    assert_eq!(outcome.replies[0].len(), 8 + 16 + 144);
    assert_eq!(query(&mut adapter, Oid::GEN_RECEIVE_SCALE_CAPABILITIES).unwrap()[12], 4);
}

#[test]
fn every_object_in_the_list_can_be_queried_or_set() {
    let mut adapter = initialized();
    let list = query(&mut adapter, Oid::GEN_SUPPORTED_LIST).unwrap();
    assert_eq!(list.len(), Oid::ALL.len() * 4);
    let only_set = [
        Oid::GEN_NETWORK_LAYER_ADDRESSES,
        Oid::GEN_RNDIS_CONFIG_PARAMETER,
        Oid::GEN_LINK_PARAMETERS,
        Oid::TCP_OFFLOAD_PARAMETERS,
    ];
    for oid in Oid::ALL {
        assert_eq!(query(&mut adapter, *oid).is_ok(), !only_set.contains(oid), "{oid}");
        assert!(oid.name().is_some());
    }
    assert_eq!(query(&mut adapter, Oid(0xdead_beef)), Err(Status::NOT_SUPPORTED));
    assert_eq!(set(&mut adapter, Oid(0xdead_beef), &[0; 4]), Status::NOT_SUPPORTED);
    assert_eq!(set(&mut adapter, Oid::GEN_LINK_SPEED, &[0; 4]), Status::NOT_SUPPORTED);
}

#[test]
fn the_longest_reply_fits_into_a_section() {
    let mut adapter = initialized();
    let table = Scaling { hash_types: 1, key: [0; 40], table: vec![0; 128] };
    adapter.scaling = Some(table);
    let section = crate::vsp::network::nvsp::path::receive_section(576) as usize;
    for oid in Oid::ALL {
        let reply = adapter.receive(&request(MessageType::QUERY, *oid, &[])).replies.remove(0);
        assert!(reply.len() <= section, "{oid}: {} bytes", reply.len());
    }
}

#[test]
fn the_packet_filter_and_the_multicast_list_can_be_set_and_queried() {
    let mut adapter = initialized();
    let filter = packet_filter::DIRECTED | packet_filter::MULTICAST;
    assert_eq!(set(&mut adapter, Oid::GEN_CURRENT_PACKET_FILTER, filter.as_bytes()), Status::SUCCESS);
    assert_eq!(query_word(&mut adapter, Oid::GEN_CURRENT_PACKET_FILTER), filter);
    assert_eq!(set(&mut adapter, Oid::GEN_CURRENT_PACKET_FILTER, &[1, 0]), Status::INVALID_LENGTH);
    assert_eq!(set(&mut adapter, Oid::GEN_CURRENT_PACKET_FILTER, &[0xff; 4]), Status::NOT_SUPPORTED);
    let groups = [1, 0, 0x5e, 0, 0, 1].repeat(2);
    assert_eq!(set(&mut adapter, Oid::ETHERNET_MULTICAST_LIST, &groups), Status::SUCCESS);
    assert_eq!(query(&mut adapter, Oid::ETHERNET_MULTICAST_LIST).unwrap(), groups);
    assert_eq!(set(&mut adapter, Oid::ETHERNET_MULTICAST_LIST, &groups.repeat(17)), Status::MULTICAST_FULL);
    assert_eq!(set(&mut adapter, Oid::ETHERNET_MULTICAST_LIST, &groups[..7]), Status::INVALID_LENGTH);
    assert_eq!(set(&mut adapter, Oid::ETHERNET_MULTICAST_LIST, &ADDRESS.0), Status::INVALID_DATA);
    assert_eq!(query(&mut adapter, Oid::ETHERNET_MULTICAST_LIST).unwrap(), groups);
}

/// Returns `RNDIS_CONFIG_PARAMETER_INFO` with the layout of Linux.
fn parameter(name: &str, value: &str) -> Vec<u8> {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (name, value) = (wide(name), wide(value));
    let words = [20, name.len() as u32, 2, 20 + name.len() as u32, value.len() as u32];
    [words.as_bytes(), &name, &value].concat()
}

#[test]
fn linux_can_set_its_address() {
    let mut adapter = initialized();
    let address = parameter("NetworkAddress", "021122334455");
    assert_eq!(set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &address), Status::SUCCESS);
    assert_eq!(query(&mut adapter, Oid::ETHERNET_CURRENT_ADDRESS).unwrap(), [2, 0x11, 0x22, 0x33, 0x44, 0x55]);
    assert_eq!(query(&mut adapter, Oid::ETHERNET_PERMANENT_ADDRESS).unwrap(), ADDRESS.0);
    for bad in ["01005e000001", "000000000000", "2112233445", "02112233445566", "02112233445x"] {
        let status = set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &parameter("NetworkAddress", bad));
        assert_eq!(status, Status::INVALID_DATA, "{bad}");
    }
    let mut cut = address.clone();
    cut.truncate(60);
    assert_eq!(set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &cut), Status::INVALID_DATA);
}

#[test]
fn windows_can_switch_offloads_by_keyword() {
    let mut adapter = initialized();
    assert_eq!(set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &parameter("*LsoV2IPv4", "0")), Status::SUCCESS);
    assert!(!adapter.offloads().large_send4 && adapter.offloads().large_send6);
    assert_eq!(
        set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &parameter("*TCPChecksumOffloadIPv6", "1")),
        Status::SUCCESS
    );
    assert!(adapter.offloads().tcp6.transmit && !adapter.offloads().tcp6.receive);
    assert_eq!(set(&mut adapter, Oid::GEN_RNDIS_CONFIG_PARAMETER, &parameter("*Whatever", "x")), Status::INVALID_DATA);
}

#[test]
fn the_configuration_that_a_driver_sets_is_indicated_to_it() {
    let mut adapter = initialized();
    let mut parameters = vec![0x80, 3, 26, 0];
    parameters.resize(26, 0);
    let outcome = adapter.receive(&request(MessageType::SET, Oid::TCP_OFFLOAD_PARAMETERS, &parameters));
    let (header, body) = MessageHeader::read_from_prefix(&outcome.replies[1]).unwrap();
    assert_eq!(header.message_type, MessageType::INDICATE_STATUS);
    let (indicate, value) = IndicateStatus::read_from_prefix(body).unwrap();
    assert_eq!((indicate.status, indicate.buffer_offset), (Status::TASK_OFFLOAD_CURRENT_CONFIG, 12));
    assert_eq!(value, adapter.offloads().to_bytes(3));
}

#[test]
fn each_change_of_the_link_is_indicated_once() {
    let mut adapter = adapter();
    assert!(adapter.set_link(false).is_empty(), "nobody listens yet");
    adapter.receive(&initialize(1));
    assert!(!adapter.is_running());
    assert_eq!(query_word(&mut adapter, Oid::GEN_MEDIA_CONNECT_STATUS), 1);
    let messages = adapter.set_link(true);
    assert_eq!(messages[0][8..12], Status::MEDIA_CONNECT.0.to_le_bytes());
    assert!(adapter.set_link(true).is_empty());
    assert_eq!(adapter.set_link(false)[0][8..12], Status::MEDIA_DISCONNECT.0.to_le_bytes());
    let speed = adapter.set_link_speed(1_000_000_000).remove(0);
    assert_eq!(speed[20..24], 10_000_000_u32.to_le_bytes());
    assert_eq!(query(&mut adapter, Oid::GEN_LINK_STATE).unwrap()[16..24], 1_000_000_000_u64.to_le_bytes());
}

#[test]
fn keep_alive_and_reset_are_answered() {
    let mut adapter = initialized();
    adapter.packet_filter = 1;
    let outcome = adapter.receive(&message(MessageType::KEEPALIVE, &RequestId { request_id: 77 }, &[]));
    assert_eq!(
        outcome.replies[0],
        message(MessageType::KEEPALIVE_COMPLETE, &Complete { request_id: 77, status: Status::SUCCESS }, &[])
    );
    let outcome = adapter.receive(&message(MessageType::RESET, &0_u32, &[]));
    assert_eq!(
        outcome.replies[0],
        message(MessageType::RESET_COMPLETE, &ResetComplete { status: Status::SUCCESS, addressing_reset: 1 }, &[])
    );
    assert_eq!(adapter.packet_filter, 0);
}

#[test]
fn the_counters_of_the_adapter_can_be_queried() {
    let counters = Arc::new(NetCounters::default());
    let mut adapter = Adapter::new(settings(), counters.clone());
    counters.transmit.count(&[0xff; 60]);
    counters.transmit.count(&[2; 100]);
    counters.receive.count(&[1; 70]);
    counters.receive.count_dropped(3);
    let mut value = |oid| u64::from_le_bytes(query(&mut adapter, oid).unwrap().try_into().unwrap());
    assert_eq!((value(Oid::GEN_XMIT_OK), value(Oid::GEN_BYTES_XMIT)), (2, 160));
    assert_eq!((value(Oid::GEN_BROADCAST_FRAMES_XMIT), value(Oid::GEN_DIRECTED_BYTES_XMIT)), (1, 100));
    assert_eq!((value(Oid::GEN_MULTICAST_BYTES_RCV), value(Oid::GEN_RCV_NO_BUFFER)), (70, 3));
    let all = query(&mut adapter, Oid::GEN_STATISTICS).unwrap();
    assert_eq!((all.len(), &all[..4]), (152, &[0x80, 1, 152, 0][..]));
    assert_eq!(all[8..16], 3_u64.to_le_bytes());
}

#[test]
fn truncated_messages_are_not_answered() {
    let mut adapter = initialized();
    let query = request(MessageType::QUERY, Oid::GEN_LINK_SPEED, &[]);
    for length in 0..query.len() {
        let outcome = adapter.receive(&query[..length]);
        assert!(outcome.replies.is_empty() && outcome.refusal.is_some(), "{length}");
    }
    let outcome = adapter.receive(&message(MessageType::PACKET, &0_u32, &[]));
    assert_eq!(outcome.refusal, Some(Refusal::Type(MessageType::PACKET)));
}

#[test]
fn a_request_whose_information_exceeds_the_message_is_answered_with_an_error() {
    let mut adapter = initialized();
    let mut message = request(MessageType::SET, Oid::GEN_CURRENT_PACKET_FILTER, &[1, 0, 0, 0]);
    message[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let outcome = adapter.receive(&message);
    assert_eq!(outcome.replies[0][12..16], Status::INVALID_DATA.0.to_le_bytes());
    assert_eq!(adapter.packet_filter, 0);
}

proptest::proptest! {
    #[test]
    fn random_rndis_messages_never_panic(kind in 0..10_u32, oid in 0..Oid::ALL.len(), bytes: Vec<u8>, length: Option<u32>) {
        let mut adapter = initialized();
        let mut message = request(MessageType(kind), Oid::ALL[oid], &bytes);
        if let Some(length) = length {
            message[4..8].copy_from_slice(&length.to_le_bytes());
        }
        adapter.receive(&message);
        adapter.receive(&bytes);
    }
}
