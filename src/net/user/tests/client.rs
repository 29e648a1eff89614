//! A guest: `smoltcp` on Ethernet, plugged into one queue of the network.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant as Ticks;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use super::*;
use crate::net::mac::MacAddress;
use crate::net::offload::checksum;
use crate::net::offload::headers::Headers;
use crate::net::offload::segment::finish;
use crate::patience::Patience;

/// An address that a guest may choose with the advertised prefix.
pub const GUEST6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd15, 0x5d, 0, 0, 0, 0, 0, 0x15);

pub const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// A guest that accepts longer frames than this gets them without segmentation.
const UNCUT: usize = 20_000;

/// The cable: segments frames and computes checksums, as an adapter does for a guest without offloads.
pub struct Cable {
    pub queue: User,
    frame: FrameBuffer,
    scratch: FrameBuffer,
    ready: std::collections::VecDeque<Vec<u8>>,
    /// Number of received frames, and of those that were not segmented.
    pub received: usize,
    pub uncut: usize,
    /// Maximum length of a frame for the guest.
    pub longest: usize,
    /// Difference of the network's and the guest's clock to the host's.
    pub ahead: Duration,
}

impl Cable {
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let now = Instant::now() + self.ahead;
        if self.ready.is_empty() && self.queue.stack.lock().fetch(&mut self.frame, now) {
            self.received += 1;
            self.uncut += usize::from(self.frame.offload.segmentation.is_some());
            let (ready, longest) = (&mut self.ready, self.longest);
            if longest > UNCUT {
                // A measurement needs neither segmentation nor checksums.
                return Some(std::mem::take(&mut self.frame.bytes));
            }
            finish(&self.frame.frame(), &mut self.scratch, |bytes| {
                if let Some(headers) = Headers::parse(bytes) {
                    assert_ne!(checksum::is_right(bytes, &headers), Some(false), "a wrong checksum: {bytes:02x?}");
                    assert!(bytes.len() <= longest, "a frame of {} bytes", bytes.len());
                }
                ready.push_back(bytes.to_vec());
            });
        }
        self.ready.pop_front()
    }
}

pub struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

pub struct Outgoing<'a>(&'a User, Instant);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut bytes = vec![0; length];
        let result = fill(&mut bytes);
        self.0.stack.lock().receive(Frame::plain(&bytes), self.1);
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Ticks) -> Option<(Incoming, Outgoing<'_>)> {
        let bytes = Cable::receive(self)?;
        Some((Incoming(bytes), Outgoing(&self.queue, Instant::now() + self.ahead)))
    }

    fn transmit(&mut self, _: Ticks) -> Option<Outgoing<'_>> {
        Some(Outgoing(&self.queue, Instant::now() + self.ahead))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.longest;
        if self.longest > UNCUT {
            capabilities.checksum.tcp = smoltcp::phy::Checksum::None;
        }
        capabilities
    }
}

pub struct Guest {
    pub cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
    next_port: u16,
}

impl Guest {
    /// Creates a guest with the first address that DHCP would assign.
    pub fn new(network: Network, forwards: &[Forward]) -> Self {
        Self::on(User::open(network, forwards, 1).unwrap().remove(0))
    }

    pub fn on(queue: User) -> Self {
        Self::with_frames_of(1514, queue)
    }

    pub fn with_frames_of(longest: usize, queue: User) -> Self {
        let (frame, scratch) = (FrameBuffer::default(), FrameBuffer::default());
        let (ready, ahead) = Default::default();
        let mut cable = Cable { queue, frame, scratch, ready, received: 0, uncut: 0, longest, ahead };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC.0)));
        let mut interface = Interface::new(config, &mut cable, Ticks::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddr::from(Network::FIRST_GUEST).into(), 24)).unwrap();
            addresses.push(IpCidr::new(IpAddr::from(GUEST6).into(), 64)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(Network::GATEWAY).unwrap();
        Self { cable, interface, sockets: SocketSet::new(Vec::new()), start: Instant::now(), next_port: 40_000 }
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn add(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 128 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let handle = self.add();
        self.next_port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), to, self.next_port).unwrap();
        handle
    }

    /// Removes a connection from the guest, as after a reset.
    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.add();
        self.socket(handle).listen(port).unwrap();
        handle
    }

    pub fn step(&mut self) {
        let now = Ticks::from_micros((self.start.elapsed() + self.cable.ahead).as_micros() as i64);
        self.interface.poll(now, &mut self.cable, &mut self.sockets);
    }

    /// Runs until `done` has a value.
    pub fn run<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let mut patience = Patience::new(Duration::from_secs(20));
        loop {
            self.step();
            if let Some(value) = done(self) {
                return value;
            }
            assert!(!patience.is_over(), "{what} takes too long");
            self.wait();
        }
    }

    /// Waits for the network by its descriptor, as an adapter's thread does.
    fn wait(&self) {
        let descriptor = self.cable.queue.readiness().unwrap();
        let mut descriptors = [rustix::event::PollFd::from_borrowed_fd(descriptor, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        rustix::event::poll(&mut descriptors, Some(&timeout)).unwrap();
    }

    /// Reads everything until the peer closes its direction.
    pub fn read_to_end(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut received = Vec::new();
        self.run("reading to the end", |guest| {
            let socket = guest.socket(handle);
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
            let begun = !matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived);
            (begun && !socket.may_recv()).then_some(())
        });
        received
    }

    /// Writes all bytes.
    pub fn write_all(&mut self, handle: SocketHandle, bytes: &[u8]) {
        let mut rest = bytes;
        self.run("writing", |guest| {
            let socket = guest.socket(handle);
            if socket.can_send() {
                let length = socket.send_slice(rest).unwrap();
                rest = &rest[length..];
            }
            rest.is_empty().then_some(())
        });
    }

    /// Sends a frame unchanged.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.cable.queue.stack.lock().receive(Frame::plain(bytes), Instant::now() + self.cable.ahead)
    }

    /// Waits for a frame for which `find` has a value.
    pub fn expect<T>(&mut self, what: &str, find: impl Fn(&[u8]) -> Option<T>) -> T {
        let mut patience = Patience::new(Duration::from_secs(10));
        loop {
            while let Some(frame) = self.cable.receive() {
                if let Some(value) = find(&frame) {
                    return value;
                }
            }
            assert!(!patience.is_over(), "{what} takes too long");
            self.wait();
        }
    }
}
