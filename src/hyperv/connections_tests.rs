use super::*;
use std::sync::Mutex;

#[derive(Default)]
struct Recorder(Mutex<Vec<u32>>);

impl MessagePort for Recorder {
    fn post(&self, message_type: MessageType, _payload: &[u8]) -> HvResult<()> {
        self.0.lock().unwrap().push(message_type.0);
        Ok(())
    }
}

impl EventPort for Recorder {
    fn flag_count(&self) -> u16 {
        2
    }

    fn signal(&self, flag: u16) {
        self.0.lock().unwrap().push(flag.into());
    }
}

#[test]
fn a_message_or_an_event_reaches_only_a_port_of_its_kind_with_its_connection_id() {
    let port = Arc::new(Recorder::default());
    let mut connections = Connections::default();
    connections.connect(ConnectionId(1), Port::Message(port.clone())).unwrap();
    connections.connect(ConnectionId(2), Port::Event(port.clone())).unwrap();
    connections.message_port(ConnectionId(1)).unwrap().post(MessageType(7), &[]).unwrap();
    connections.event_port(ConnectionId(2), 1).unwrap().signal(1);
    assert_eq!(*port.0.lock().unwrap(), [7, 1]);
    let status = |result: HvResult<()>| result.unwrap_err();
    assert_eq!(status(connections.message_port(ConnectionId(2)).map(drop)), HvStatus::INVALID_PORT_ID);
    assert_eq!(status(connections.event_port(ConnectionId(1), 0).map(drop)), HvStatus::INVALID_PORT_ID);
    assert_eq!(status(connections.event_port(ConnectionId(2), 2).map(drop)), HvStatus::INVALID_PARAMETER);
    assert_eq!(status(connections.event_port(ConnectionId(3), 0).map(drop)), HvStatus::INVALID_CONNECTION_ID);
    assert!(connections.disconnect(ConnectionId(1)).is_some());
    assert_eq!(status(connections.message_port(ConnectionId(1)).map(drop)), HvStatus::INVALID_CONNECTION_ID);
}

#[test]
fn connection_ids_are_unique_have_24_bits_and_are_bounded_in_number() {
    let port = || Port::Event(Arc::new(Recorder::default()));
    let mut connections = Connections::default();
    assert_eq!(connections.connect(ConnectionId(1 << 24), port()), Err(ConnectError::Invalid(ConnectionId(1 << 24))));
    for id in 0..MAX_CONNECTIONS as u32 {
        connections.connect(ConnectionId(id), port()).unwrap();
    }
    assert_eq!(connections.connect(ConnectionId(0), port()), Err(ConnectError::InUse(ConnectionId(0))));
    assert_eq!(connections.connect(ConnectionId(0xffff), port()), Err(ConnectError::TooMany));
}
