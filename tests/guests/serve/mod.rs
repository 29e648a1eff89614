//! The service `viridian serve`.

mod hostile;
mod lives;
mod service;
mod streams;
mod use_of;
