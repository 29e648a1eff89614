//! A storage controller behind a Unix socket.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use viridian::internals::memory::{self, GuestMemory};
use viridian::internals::storage::Controller;
use viridian::internals::storage::controllers;
use viridian::internals::storage::wire::{
    DataDirection, NtStatus, Operation, PacketHeader, ProtocolVersion, ScsiRequest, Version,
};
use viridian::internals::storage::{Answer, Worker};
use viridian::vmbus::vsp::GuestBuffer;
use viridian::vsp::storage::DiskConfig;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const MAX_DATA: usize = 1 << 20;

fn doorbell() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

/// A driver with one channel and one request at a time.
pub struct Initiator {
    worker: Worker,
    /// The eventfd that is signalled when requests have completed.
    bell: OwnedFd,
    memory: GuestMemory,
    pub lun: u8,
}

/// How a command ended.
pub struct Ended {
    pub request: ScsiRequest,
    pub data: Vec<u8>,
}

impl Initiator {
    pub fn new(controller: Arc<Controller>, primary: bool) -> Self {
        let bell = doorbell();
        let worker = Worker::new(controller, primary, bell.try_clone().expect("a copy"), || false).expect("a worker");
        Self { worker, bell, memory: memory::create(8 << 20, memory::Backing::Private).expect("guest memory"), lun: 0 }
    }

    /// Negotiates, as Linux does.
    pub fn negotiate(&mut self) {
        let version = ProtocolVersion { version: Version::WIN10, revision: 0 };
        for (operation, body) in [
            (Operation::BEGIN_INITIALIZATION, &[][..]),
            (Operation::QUERY_PROTOCOL_VERSION, version.as_bytes()),
            (Operation::QUERY_PROPERTIES, &[]),
            (Operation::END_INITIALIZATION, &[]),
        ] {
            let answer = self.send(operation, body, GuestBuffer::default());
            let (header, _) = PacketHeader::read_from_prefix(answer.reply.bytes()).expect("a header");
            assert_eq!((header.operation, header.status), (Operation::COMPLETE_IO, NtStatus::SUCCESS));
        }
    }

    /// Waits until something is done.
    fn wait(&mut self) -> Vec<Answer> {
        loop {
            self.worker.poll().expect("a working ring");
            let answers: Vec<_> = self.worker.answers().collect();
            if !answers.is_empty() {
                return answers;
            }
            poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], None).expect("an eventfd");
            rustix::io::read(&self.bell, &mut [0; 8]).expect("an eventfd");
        }
    }

    fn send(&mut self, operation: Operation, body: &[u8], pages: GuestBuffer) -> Answer {
        let header = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS };
        let mut packet = header.as_bytes().to_vec();
        packet.extend_from_slice(body);
        packet.resize(64, 0);
        self.worker.take(7, &packet, pages).expect("a packet");
        self.wait().remove(0)
    }

    /// Reads `count` times 4096 bytes, with `depth` requests in flight.
    pub fn read_blocks(&mut self, count: u32, depth: u32) {
        let (mut sent, mut done) = (0, 0);
        while done < count {
            while sent < count && sent - done < depth {
                let block = (sent % 16384) * 8;
                let [a, b, c, d] = block.to_be_bytes();
                let mut request = ScsiRequest::new_zeroed();
                (request.cdb_length, request.sense_length, request.data_in) = (10, 20, DataDirection::IN);
                request.data_transfer_length = 4096;
                request.cdb[..10].copy_from_slice(&[0x28, 0, a, b, c, d, 0, 0, 8, 0]);
                let header = PacketHeader { operation: Operation::EXECUTE_SRB, flags: 1, status: NtStatus::SUCCESS };
                let packet = [header.as_bytes(), request.as_bytes()].concat();
                let frames = [u64::from(256 + sent % depth)].into_iter();
                let pages = memory::buffer(&self.memory, frames, 0, 4096).expect("a page");
                self.worker.take(sent.into(), &packet, pages).expect("a packet");
                sent += 1;
            }
            done += self.wait().len() as u32;
        }
    }

    /// Executes a command, with guest pages that are not contiguous.
    pub fn command(&mut self, cdb: &[u8], direction: DataDirection, data: &[u8], room: usize) -> Ended {
        let length = if direction == DataDirection::OUT { data.len() } else { room };
        let frames: Vec<u64> = (0..length.div_ceil(4096) as u64).map(|page| 2 * page + 256).collect();
        let pages = memory::buffer(&self.memory, frames.into_iter(), 0, length).expect("guest pages");
        pages.write(0, &vec![0xcc; length]).expect("room");
        if direction == DataDirection::OUT {
            pages.write(0, data).expect("room");
        }
        let mut request = ScsiRequest::new_zeroed();
        request.lun = self.lun;
        request.cdb_length = cdb.len() as u8;
        request.sense_length = 20;
        request.data_in = direction;
        request.data_transfer_length = length as u32;
        request.cdb[..cdb.len()].copy_from_slice(cdb);
        let answer = self.send(Operation::EXECUTE_SRB, request.as_bytes(), pages.clone());
        let body = &answer.reply.bytes()[size_of::<PacketHeader>()..];
        let request = ScsiRequest::read_from_bytes(body).expect("a SCSI reply");
        let mut data = vec![0; if direction == DataDirection::IN { room } else { 0 }];
        pages.read(0, &mut data).expect("room");
        Ended { request, data }
    }
}

/// A controller that serves a socket until the process ends.
pub struct Target {
    pub socket: PathBuf,
    _primary: Initiator,
    _directory: tempfile::TempDir,
}

impl Target {
    pub fn new(disks: &[DiskConfig]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut all = controllers(disks, 8).expect("disks");
        let controller = all.remove(&0).expect("a controller");
        let mut primary = Initiator::new(controller.clone(), true);
        primary.negotiate();
        let socket = directory.path().join("target");
        serve(&socket, controller);
        Self { socket, _primary: primary, _directory: directory }
    }
}

fn serve(path: &Path, controller: Arc<Controller>) {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let controller = controller.clone();
            std::thread::spawn(move || {
                let _ = talk(stream, &mut Initiator::new(controller, false));
            });
        }
    });
}

fn talk(mut stream: UnixStream, initiator: &mut Initiator) -> std::io::Result<()> {
    loop {
        let mut header = [0; 28];
        stream.read_exact(&mut header)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (cdb_length, direction, length) = (word(0) as usize, word(4), word(8) as usize);
        assert!(cdb_length <= 16 && length <= MAX_DATA);
        let direction = [DataDirection::OUT, DataDirection::IN, DataDirection::NONE][direction as usize];
        let mut data = vec![0; if direction == DataDirection::OUT { length } else { 0 }];
        stream.read_exact(&mut data)?;
        let Ended { request, data } = initiator.command(&header[12..12 + cdb_length], direction, &data, length);
        let mut answer = vec![request.srb_status.0, request.scsi_status, request.sense_length, 0];
        answer.extend_from_slice(&request.data_transfer_length.to_ne_bytes());
        answer.extend_from_slice(&request.cdb);
        stream.write_all(&answer)?;
        stream.write_all(&data)?;
    }
}
