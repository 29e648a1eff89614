//! The service `viridian serve`.

mod activation;
mod as_json;
mod asking;
mod budget;
mod first_use;
mod hostile;
mod jobs;
mod labs;
mod lives;
mod metering;
mod remote;
mod rights;
mod roles;
mod service;
mod sockets;
mod ssh;
mod streams;
mod tls;
mod use_of;
