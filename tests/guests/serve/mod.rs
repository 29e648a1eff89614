//! The service `viridian serve`.

mod hostile;
mod lives;
mod remote;
mod roles;
mod service;
mod streams;
mod tls;
mod use_of;
