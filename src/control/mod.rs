//! The control socket: other processes of the user look at a running machine, and change it.
//!
//! Each machine of a fleet has a Unix socket of its own, on which [`Control`] answers HTTP/1.1 requests with JSON. `docs/control.md`
//! has the protocol. The verbs of the program, such as `viridian list` and `viridian stop`, are clients of it.
//!
//! - `socket`: the files: names, permissions, and what a killed process has left.
//! - `http`: requests and replies, within bounds.
//! - `connection`: one thread for each connection, and none if there is none.
//! - `routes`: the table of resources; `api`: their handlers.
//!
//! ```no_run
//! use viridian::control::Control;
//! use viridian::fleet::Fleet;
//!
//! let fleet = Fleet::load("lab.toml".as_ref())?.prepare()?.start()?;
//! let control = Control::open(&fleet, "/run/lab".as_ref())?;
//! // Whenever a descriptor of `control` is readable:
//! control.serve();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::epoll;

use crate::fleet::RunningFleet;

mod api;
mod connection;
mod error;
mod exchange;
mod http;
mod routes;
mod socket;

use connection::Connections;
use socket::Socket;

/// The control sockets of a fleet.
///
/// [`AsFd`] gives a descriptor to poll: it is readable if [`serve`](Self::serve) has something to do. Dropping it removes the
/// sockets, and gives requests that are under way a moment to be answered.
pub struct Control {
    sockets: Vec<Socket>,
    ready: OwnedFd,
    connections: Arc<Connections>,
}

impl Control {
    /// Opens a socket for each machine. If `place` is a directory, they are in it: `NAME.sock`, or `NAME-2.sock` and so on if another
    /// process has a machine of this name there. Otherwise `place` is the path of the socket, for a fleet of one machine.
    ///
    /// # Errors
    /// Returns an error if a socket cannot be opened, with the path and a remedy.
    pub fn open(fleet: &RunningFleet, place: &Path) -> io::Result<Self> {
        let machines = fleet.handles();
        let sockets = if place.is_dir() {
            let directory = socket::Directory::open(place)?;
            machines.into_iter().map(|machine| directory.listen(machine)).collect::<io::Result<Vec<_>>>()?
        } else {
            let mut machines = machines.into_iter();
            match (machines.next(), machines.next()) {
                (Some(machine), None) => vec![Socket::at(place, machine)?],
                _ => {
                    let problem = format!("{}: no such directory; several machines need one", place.display());
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, problem));
                }
            }
        };
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, socket) in (0..).zip(&sockets) {
            epoll::add(&ready, socket.listener(), epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        }
        Ok(Self { sockets, ready, connections: Arc::default() })
    }

    /// Accepts the connections that wait. Each is served on a thread of its own. Does not wait.
    pub fn serve(&self) {
        for socket in &self.sockets {
            while let Some(stream) = socket.accept() {
                self.connections.serve(stream, socket.machine());
            }
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Remove the sockets first, so that no client connects any more.
        self.sockets.clear();
        self.connections.finish();
    }
}
